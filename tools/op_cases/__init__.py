"""The cases of `tools/op_fixtures.py`, one module per family of ops."""

"""Cases for the layer fixtures: one module a family, each with `case` functions."""

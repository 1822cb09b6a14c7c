#!/bin/sh
# Builds the Python package with the profile of the other tests, installs it into an environment of its own, and runs its
# tests and the list of coremltools' own tests. Says what it skips where pip does not get what they need.
set -eu
cd "$(dirname "$0")/../../.."
environment=${ANE_PYTHON_ENVIRONMENT:-target/python}
python="$environment/bin/python"

skip() { echo "skipped: the tests of the Python package $1"; exit 0; }
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

"${PYTHON:-python3}" -m venv "$environment" || skip "need Python 3 with venv"
install "maturin>=1.9.4,<2" || skip "need maturin, which pip does not get here"
install -r crates/ane-python/tests/requirements.txt \
	|| install numpy pytest || skip "need numpy and pytest, which pip does not get here"

wheels="$environment/wheels"
rm -rf "$wheels"
"$python" -m maturin build --quiet --locked --profile dev --interpreter "$python" --out "$wheels" \
	--manifest-path crates/ane-python/Cargo.toml
install --no-deps --force-reinstall "$wheels"/ane-*.whl

"$python" -m pytest -q -p no:cacheprovider -rs crates/ane-python/tests
"$python" tools/conformance.py

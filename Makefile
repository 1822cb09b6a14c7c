# The commands of this project. `make demo` and `make test` need Rust and make; Python 3 adds ONNX Runtime.

CARGO ?= cargo
PYTHON ?= python3
ANE := target/release/ane

.PHONY: help demo build wheel test test-python test-report coverage check bench bench-manager soak fixtures fuzz check-apple test-apple clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Classify ten handwritten digits with the model that this repository trained
	@$(ANE) engine install || echo "ONNX Runtime is not there; going on with rten, which is built in."
	@$(ANE) run examples/digits/digits.mlpackage examples/digits/digit_*.png --show

build: ## Build the command, optimised, into target/release
	@$(CARGO) build --release --locked --package ane

wheel: ## Build the Python package into target/wheels (pip gets maturin into target/maturin)
	@$(PYTHON) -m venv target/maturin
	@target/maturin/bin/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9.4,<2'
	@target/maturin/bin/maturin build --release --locked --manifest-path crates/ane-python/Cargo.toml --out target/wheels

test: ## Run every test
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
		then $(CARGO) nextest run --workspace --locked --no-fail-fast; \
		else $(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests; fi
	@$(CARGO) test --workspace --locked --doc --quiet
	@$(PYTHON) tools/check_exports.py
	@$(MAKE) --no-print-directory test-python

test-python: ## Build the Python package, and run its tests and some of coremltools' own on it
	@PYTHON=$(PYTHON) sh crates/ane-python/tests/run.sh

test-report: ## Open pages of `ane check` in headless Chromium (gets Chromium and playwright-core where it can)
	@bash tools/report_test.sh

coverage: ## Write docs/coverage.md, from the tables and a run of every fixture (needs coremltools)
	@mkdir -p target/coverage
	@ANE_FIXTURES_RECORD=$(CURDIR)/target/coverage $(CARGO) test --locked --quiet --package apple-silicon --test fixtures
	@$(PYTHON) tools/coverage.py target/coverage

check: ## Formatting, lints and docs, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	@sh tools/tidy.sh
	@$(PYTHON) apple/check_unsafe.py

check-apple: ## Types, lints and links everything for macOS, types the library for iOS; on Linux it gets the tools
	@CARGO="$(CARGO)" PYTHON="$(PYTHON)" sh apple/check.sh

test-apple: ## Run the Core ML code on Linux, over GNUstep, against a stand-in for Core ML
	@bash apple/test.sh

bench: build ## Compare with Python's onnxruntime in one run; writes docs/benchmarks.md
	$(PYTHON) tools/bench.py

bench-manager: ## Measure the pool, the metrics and the manager against their peers (batching needs coremltools)
	-$(PYTHON) tools/weight_bound.py target/bench/weight_bound.mlpackage
	$(CARGO) bench --locked --package apple-silicon

soak: ## Run 200,000 inferences with loads and unloads between, and look at memory, threads and files
	ANE_SOAK=$${ANE_SOAK:-200000} $(CARGO) test --release --locked --package apple-silicon --test soak -- --nocapture

fixtures: ## Make the example and the test models again (needs tools/requirements.txt)
	$(PYTHON) tools/train_digits.py
	$(PYTHON) tools/op_fixtures.py
	$(PYTHON) tools/layer_fixtures.py

clean: ## Remove what was built
	$(CARGO) clean

fuzz: ## Fuzz every reader for ten minutes each (needs cargo-fuzz), and keep what is new
	RUSTC_BOOTSTRAP=1 sh tools/fuzz.sh

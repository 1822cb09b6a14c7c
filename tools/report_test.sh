#!/bin/bash
# Makes pages of `ane check --html` and opens them in headless Chromium. Ends with 3 where Node.js, Chromium or playwright-core
# cannot be had.
#
# usage: tools/report_test.sh [FOLDER FOR SCREENSHOTS]
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD here=$PWD/target/report
mkdir -p "$here"

command -v node >/dev/null || { echo "Node.js is missing" >&2; exit 3; }
chromium=${CHROMIUM:-/usr/bin/chromium}
if [ ! -x "$chromium" ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1; then
		echo "Chromium is missing; CHROMIUM names one" >&2
		exit 3
	fi
fi
if [ ! -d "$here/node_modules/playwright-core" ]; then
	(cd "$here" && npm install --silent --no-fund --no-audit playwright-core@1) || { echo "npm does not get playwright-core" >&2; exit 3; }
fi

cargo build --locked --quiet --package ane
models=(examples/digits/digits.mlpackage crates/apple-silicon/tests/numerics/overflow/model.mlpackage
	crates/coreml-onnx/tests/ops/while_loop/nested/model.mlpackage)
for name in bert_6x384 mobilenet_v2_fp16 efficientnet_b0_fp16; do
	open="$root/../shared/models/open/$name/model.mlpackage"
	[ ! -e "$open" ] || models+=("$open")
done
pages=()
for model in "${models[@]}"; do
	page="$here/$(echo "$model" | sed 's|/model.mlpackage$||; s|.*/||; s|\.mlpackage$||').html"
	target/debug/ane check "$model" --numerics --html "$page" >/dev/null
	pages+=("$page")
done
shots=()
[ $# -eq 0 ] || { mkdir -p "$1"; shots=(--shots "$(realpath "$1")"); }
cd "$here"
CHROMIUM=$chromium node "$root/tools/report_test.mjs" "${shots[@]}" "${pages[@]}"

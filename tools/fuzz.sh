#!/bin/sh
# Fuzzes every reader from the seeds of tools/fuzz_seeds.py, then shrinks what was found into fuzz/corpus.
#   sh tools/fuzz.sh [SECONDS [TARGET ...]]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- mlmodel package manifest weights compiled classic
python3 tools/fuzz_seeds.py
cargo fuzz build
for target in "$@"; do
	program=$(ls fuzz/target/*/release/"$target")
	work=fuzz/corpus-work/$target kept=fuzz/corpus/$target seeds=fuzz/seeds/$target
	mkdir -p "$work" "$kept" "fuzz/artifacts/$target"
	"$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 \
		-artifact_prefix="fuzz/artifacts/$target/" "$work" "$kept" "$seeds"
	rm -rf "$kept.new" && mkdir "$kept.new"
	"$program" -merge=1 -max_len=2048 "$kept.new" "$work" "$kept" "$seeds" 2>/dev/null
	# Names are hashes, so the first ones are a fair sample; a few hundred small files are enough for a test.
	ls "$kept.new" | sort | tail -n +601 | (cd "$kept.new" && xargs -r rm)
	rm -rf "$kept" && mv "$kept.new" "$kept"
	echo "$target: $(ls "$kept" | wc -l) files kept"
done

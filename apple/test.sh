#!/bin/bash
# Runs this project's Core ML code, unchanged, on Linux: over GNUstep, against the stand-in in apple/stand-in.
#
# usage: apple/test.sh [CARGO TEST ARGUMENTS]     (as in: apple/test.sh --test predicting)
#
# Everything is built in target/gnustep. Ends with 3 where GNUstep is missing and this is not root on a Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD here=$PWD/target/gnustep
export CARGO_TARGET_DIR=$here
host=$(rustc -vV | sed -n 's/^host: //p')

packages=(gcc gnustep-make gobjc libgnustep-base-dev libobjc-12-dev)
missing=()
for package in "${packages[@]}"; do
	dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing ${missing[*]}"
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| ! { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1; then
		echo "these Debian packages are missing, and this cannot install them: ${missing[*]}" >&2
		exit 3
	fi
fi

# The framework, and what must be in each executable.
mkdir -p "$here/framework" "$here/workspace"
sources=apple/stand-in/framework
library=$here/framework/libCoreML.so
executable=$here/framework/executable.o
newest=$(ls -t $sources/* apple/test.sh | head -1)
if [ ! -e "$library" ] || [ "$newest" -nt "$library" ]; then
	read -ra flags <<<"$(gnustep-config --objc-flags)"
	flags=("${flags[@]/-MMD/}") flags=("${flags[@]/-MP/}")
	strict=(-std=gnu11 -Wall -Wno-multichar -Werror)
	gcc "${strict[@]}" -O1 -g -fPIC -c $sources/executable.c -o "$executable"
	gcc ${flags[@]} "${strict[@]}" -shared -o "$library.new" $sources/*.m -lgnustep-base -lobjc -ldl \
		-DSTAND_IN_SELECTORS="\"$root/apple/selectors.tsv\"" \
		-DSTAND_IN_ENGINE="\"$here/$host/debug/deps/libcoreml_stand_in_engine.so\""
	mv "$library.new" "$library"
fi

# objc2 for GCC's runtime, from the sources that Cargo.lock names.
patched() { # crate, file, what sed does to it
	local manifest to
	manifest=$(grep -o '"manifest_path":"[^"]*/'"$1"'-[0-9.]*/Cargo.toml"' "$here/metadata" | cut -d'"' -f4)
	to=$here/workspace/patched/$1
	cp -r "$(dirname "$manifest")" "$to"
	sed -i "$3" "$to/$2"
	cmp -s "$to/$2" "$(dirname "$manifest")/$2" && { echo "$1 has changed: look at apple/test.sh" >&2; exit 1; }
	return 0
}
if [ ! -d "$here/workspace/patched" ] || ! cmp -s Cargo.lock "$here/Cargo.lock.used" \
	|| [ apple/test.sh -nt "$here/Cargo.lock.used" ]; then
	rm -rf "$here/workspace/patched"
	mkdir "$here/workspace/patched"
	cargo metadata --locked --format-version 1 >"$here/metadata"
	patched objc2 Cargo.toml '/^gnustep-1-7 = \[/,/^\]/{/"unstable-static-class",/d}'
	patched objc2-core-ml src/generated/mod.rs '/^#\[link(name = "CoreML"/d'
	patched objc2-core-video src/generated/mod.rs '/^#\[link(name = "CoreVideo"/d'
	cp Cargo.lock "$here/Cargo.lock.used"
fi

# The workspace: this one, the stand-in and the patches.
for folder in crates apple examples docs README.md; do
	ln -sfn "$root/$folder" "$here/workspace/$folder"
done
{
	sed 's|^members = .*|members = ["crates/*", "apple/stand-in", "apple/stand-in/engine"]|' Cargo.toml
	echo
	echo '[patch.crates-io]'
	for crate in objc2 objc2-core-ml objc2-core-video; do
		echo "$crate = { path = \"patched/$crate\" }"
	done
} >"$here/workspace/Cargo.toml.new"
cmp -s "$here/workspace/Cargo.toml.new" "$here/workspace/Cargo.toml" \
	|| mv "$here/workspace/Cargo.toml.new" "$here/workspace/Cargo.toml"
cp Cargo.lock "$here/workspace/Cargo.lock"

# With a target of its own, the flags are for our code alone, and not for what builds it.
cd "$here/workspace"
export RUSTFLAGS="--cfg gnustep -Clink-arg=$executable -Clink-arg=-Wl,--no-as-needed -Clink-arg=$library \
-Clink-arg=-Wl,-rpath,$here/framework"
# Models are compiled and removed by the thousand.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
log=$here/log
cargo build --target "$host" -p ane
cargo test --target "$host" -p apple-frameworks -p coreml-stand-in "${@:---tests}" 2>&1 | tee "$log"
if grep -a "autorelease called without pool" "$log"; then
	echo "objects were autoreleased outside of any pool" >&2
	exit 1
fi

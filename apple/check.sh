#!/bin/sh
# Types, lints and links the workspace for macOS, and types the library for iOS; on a Mac with its own tools, on Debian
# with ones that are fetched by name into target/apple, where nothing is installed and nothing else is touched.
#
#     sh apple/check.sh [table] [lint] [link] [ios]
#
# Without arguments it does all four. Exit codes: 0 all is well, 1 something is not, 3 this machine cannot get the tools.
set -eu
cd "$(dirname "$0")/.."

# Debian keeps one version of each only, so these say no more than is needed to build the same.
RUST=1.96
LLVM=22
PACKAGES="rustc-web=$RUST.* rust-web-clippy=$RUST.* rust-web-src=$RUST.*
	libstd-rust-web-$RUST=$RUST.* libstd-rust-web-dev=$RUST.* libllvm$LLVM=1:$LLVM.* lld-$LLVM=1:$LLVM.*"
MACOS=aarch64-apple-darwin
IOS=aarch64-apple-ios

# The oldest systems that are supported.
export MACOSX_DEPLOYMENT_TARGET=11.0 IPHONEOS_DEPLOYMENT_TARGET=14.0

CARGO=${CARGO:-cargo}
PYTHON=${PYTHON:-python3}
HOME_OF_ALL="$PWD/target/apple"
ROOT="$HOME_OF_ALL/root"
SDK="$HOME_OF_ALL/sdk"
LOG="$HOME_OF_ALL/log"

say() { echo "apple: $*"; }

cannot() {
	say "the Apple check cannot run here: $*" >&2
	if [ -s "$LOG" ]; then tail -n 5 "$LOG" >&2; fi
	exit 3
}

main() {
	[ $# -gt 0 ] || set -- table lint link ios
	for step; do
		# The table needs none of the tools.
		[ "$step" = table ] || have_tools
		"check_$step"
	done
}

have_tools() {
	[ -z "${clippy:-}" ] || return 0
	case "$(uname -s)-$(uname -m)" in
	Darwin-*)
		target=
		clippy="$CARGO clippy"
		export CARGO_TARGET_DIR="$HOME_OF_ALL/build"
		;;
	Linux-x86_64)
		target="--target $MACOS"
		clippy="$ROOT/usr/bin/cargo-clippy clippy"
		get_tools
		use_tools
		;;
	*) cannot "the tools are for x86-64 Linux" ;;
	esac
}

check_table() {
	say "looks up every class, selector and symbol"
	"$PYTHON" apple/check_selectors.py
	"$PYTHON" apple/test_checks.py --quiet
}

check_lint() {
	say "types and lints for $MACOS"
	# Clippy knows the types that the table is not sure of: methods without a row are errors.
	"$PYTHON" apple/check_selectors.py --clippy "$HOME_OF_ALL/clippy/clippy.toml" >/dev/null
	CLIPPY_CONF_DIR="$HOME_OF_ALL/clippy" $clippy $QUICK --workspace --all-targets $target -- -D warnings
}

check_link() {
	say "links every test for $MACOS"
	"$CARGO" test $QUICK --workspace --no-run $target
}

check_ios() {
	if [ -z "$target" ] && [ ! -d "$(rustc --print sysroot)/lib/rustlib/$IOS" ]; then
		say "not checked for iOS: rustup target add $IOS"
		return
	fi
	say "types for $IOS"
	"$CARGO" check $QUICK --target $IOS --package apple-silicon --package apple-frameworks
}

# Nothing of this is run, so it needs neither speed nor what a debugger reads.
QUICK="--locked --quiet --config profile.dev.debug=0 --config profile.dev.package.\"*\".opt-level=0"

use_tools() {
	LD_LIBRARY_PATH="$ROOT/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	export LD_LIBRARY_PATH CARGO RUSTC="$ROOT/usr/bin/rustc" CARGO_TARGET_DIR="$HOME_OF_ALL/build" CARGO_INCREMENTAL=0
	export SDKROOT="$SDK" CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER="$ROOT/usr/bin/ld64.lld-$LLVM"
	export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS="-Clinker-flavor=ld64.lld -Clink-arg=--error-limit=0"
	export PATH="$HOME_OF_ALL/bin:$PATH"
	# For crates with some C in them.
	export CC_aarch64_apple_darwin="$HOME_OF_ALL/bin/apple-cc" AR_aarch64_apple_darwin="$HOME_OF_ALL/bin/apple-ar"
	export CC_aarch64_apple_ios="$HOME_OF_ALL/bin/apple-cc" AR_aarch64_apple_ios="$HOME_OF_ALL/bin/apple-ar"
	export ZIG_GLOBAL_CACHE_DIR="$HOME_OF_ALL/zig-cache" ZIG_LOCAL_CACHE_DIR="$HOME_OF_ALL/zig-cache"
	unset RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
}

# Fetches what is not there yet. A change of a version, or of how tools are made below, fetches all again.
get_tools() {
	wanted=$({ echo $PACKAGES && cat apple/requirements.txt && sed -n '/^get_debian/,$p' apple/check.sh; } | cksum)
	if [ "$(cat "$HOME_OF_ALL/tools" 2>/dev/null)" != "$wanted" ]; then
		for tool in apt-get dpkg unzip cc; do
			command -v $tool >/dev/null || cannot "there is no $tool"
		done
		say "gets Rust $RUST, a linker and a C compiler (250 MB)"
		rm -rf "$HOME_OF_ALL"
		mkdir -p "$HOME_OF_ALL/packages" "$HOME_OF_ALL/bin" "$ROOT"
		get_debian
		get_zig
		(use_tools && build_std $MACOS build && build_std $IOS check)
		rm -rf "$HOME_OF_ALL/packages" "$HOME_OF_ALL/std" "$LOG"
		echo "$wanted" >"$HOME_OF_ALL/tools"
	fi
	"$PYTHON" apple/stubs.py "$SDK"
}

get_debian() {
	cd "$HOME_OF_ALL/packages"
	# The machine's own lists may be missing or old; these need no root.
	lists="-o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache -o APT::Sandbox::User=$(id -un)"
	mkdir -p lists/partial cache/archives/partial
	apt-get download -q $PACKAGES >"$LOG" 2>&1 \
		|| { apt-get update -q $lists && apt-get download -q $lists $PACKAGES; } >>"$LOG" 2>&1 \
		|| cannot "Debian's archive does not give" $PACKAGES
	for package in *.deb; do
		dpkg -x "$package" "$ROOT"
	done
	cd - >/dev/null
	(use_tools && "$RUSTC" --version && "$ROOT/usr/bin/ld64.lld-$LLVM" --version) >"$LOG" 2>&1 \
		|| cannot "the packages do not run on this system"
}

# Zig's wheel has a C compiler, and Apple's list of what the system library has.
get_zig() {
	"$PYTHON" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
		--requirement apple/requirements.txt --dest "$HOME_OF_ALL/packages" >"$LOG" 2>&1 \
		|| cannot "pip does not give" "$(grep == apple/requirements.txt)"
	unzip -q "$HOME_OF_ALL"/packages/ziglang-*.whl 'ziglang/zig' 'ziglang/lib/include/*' 'ziglang/lib/std/std.zig' \
		'ziglang/lib/libc/include/any-darwin-any/*' 'ziglang/lib/libc/darwin/*' -d "$HOME_OF_ALL"
	chmod +x "$HOME_OF_ALL/ziglang/zig"
	# The system is Zig's to say. There are headers of macOS alone, and nothing is linked for iOS.
	cat >"$HOME_OF_ALL/bin/apple-cc" <<-'EOF'
		#!/bin/sh
		for arg; do
			shift
			case "$skip$arg" in
			-arch | -isysroot) skip=the-next ;;
			the-next*) skip= ;;
			--target=* | -m*-version-min=* | -mtargetos=*) ;;
			*) set -- "$@" "$arg" ;;
			esac
		done
		exec "$(dirname "$0")/../ziglang/zig" cc -target aarch64-macos.11.0 -fno-sanitize=undefined "$@"
	EOF
	printf '#!/bin/sh\nexec "$(dirname "$0")/../ziglang/zig" ar "$@"\n' >"$HOME_OF_ALL/bin/apple-ar"
	# Cargo has what was built without debug information stripped of it: there is nothing to do.
	printf '#!/bin/sh\n' >"$HOME_OF_ALL/bin/rust-objcopy"
	chmod +x "$HOME_OF_ALL"/bin/*
}

# build_std TARGET build|check: puts the standard library where rustc looks for it.
build_std() {
	say "makes the standard library for $1"
	library=$(echo "$ROOT"/usr/src/rustc-*/library)
	# A dynamic one is not asked for, and would have to be linked.
	sed -i 's/^crate-type = .*/crate-type = ["rlib"]/' "$library/std/Cargo.toml"
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zforce-unstable-if-unmarked -Cembed-bitcode=no" CARGO_TARGET_DIR="$HOME_OF_ALL/std" \
		CARGO_PROFILE_RELEASE_OPT_LEVEL=0 "$CARGO" "$2" --quiet --locked --release --target "$1" \
		--manifest-path "$library/sysroot/Cargo.toml" >"$LOG" 2>&1 || cannot "the standard library does not build"
	mkdir -p "$ROOT/usr/lib/rustlib/$1/lib"
	cp "$HOME_OF_ALL/std/$1/release/deps/"*.r* "$ROOT/usr/lib/rustlib/$1/lib/"
}

main "$@"

#!/bin/sh
# Builds the daemon for one of the processors in cross/targets, as target/openwrt/TARGET/tollgated: static, stripped, and
# the same bytes wherever it is built with the same compiler. Usage: build.sh TARGET [daemon|tests]
# `tests` makes target/openwrt/TARGET/unit-tests, which smoke runs on an emulated processor.
#
# The standard library of some of these processors exists as source only and must match the compiler to the letter, so both
# come from Debian (rustc-web, rust-web-src), whatever `cargo` is first in PATH. Zig is the C compiler and brings musl.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
cache=${TOLLGATED_CACHE:-$HOME/.cache/tollgated}
target=${1:-}
what=${2:-daemon}

# shellcheck disable=SC2046 # a line of words
set -- $(awk -v name="$target" '$1 == name' cross/targets)
[ $# = 3 ] || {
	echo "no such target: $target. There are:" $(awk '!/^#/ { print $1 }' cross/targets) >&2
	exit 1
}
triple=$2

# Zig knows no makers and calls 32-bit ARM by its family; soft float is its plain eabi.
case $triple in
mips*) zig_target=${triple%%-*}-linux-musleabi ;;
armv7*) zig_target=arm-linux-musleabihf ;;
*) zig_target=${triple%%-*}-linux-musl ;;
esac

# Named from the root of the checkout: what the compiler is told goes into the symbols.
no_unwinder=target/openwrt/build/no_unwinder-$target.o

# Paths of this machine would end up in panic messages.
registry=${CARGO_HOME:-$HOME/.cargo}
crates=$(echo "$registry"/registry/src/*/ | cut -d' ' -f1)
flags="-Clink-self-contained=no|-Cforce-unwind-tables=no|-Crelocation-model=static"
flags="$flags|-Zpre-link-arg=$no_unwinder|--cfg=sha2_backend_soft=\"compact\"|--remap-path-prefix=$registry=/cargo|--remap-path-prefix=${crates%/}=|--remap-path-prefix=$root="
machine=
case $triple in
# Thumb-2 is a quarter smaller, and every ARMv7 has it.
armv7*) flags="$flags|-Ctarget-feature=+thumb-mode" machine=-mthumb ;;
# What several functions do alike is done in one place; other processors' compilers do so by themselves, or cannot.
x86_64*) flags="$flags|-Cllvm-args=-enable-machine-outliner=always" ;;
esac
CARGO_ENCODED_RUSTFLAGS=$(printf %s "$flags" | tr '|' '\037')
unset RUSTFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN
export CARGO_ENCODED_RUSTFLAGS
# The crates that compile C ask for position-independent code, which is a seventh larger on MIPS.
export CFLAGS="$machine -fno-pic -fno-unwind-tables -fno-asynchronous-unwind-tables -ffile-prefix-map=$registry=/cargo"
export PATH="$cache/cross/bin:/usr/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="$root/target/openwrt/build" CARGO_ZIGBUILD_CACHE_DIR="$cache/cross/wrappers" ZIG_GLOBAL_CACHE_DIR="$cache/cross/zig"
# Symbols are taken away afterwards: `make size` wants to see them.
export CARGO_PROFILE_RELEASE_STRIP=none

build() {
	"$cache/cross/bin/cargo-zigbuild" "$@" --locked --quiet --release --target "$triple" -Z build-std-features=optimize_for_size
}

# .pdr exists on MIPS only and is 8 % of the file there. A position-independent static binary crashes on MIPS as soon as it
# serves (an absent weak symbol becomes the load address), and would be larger elsewhere.
strip_into() {
	llvm-objcopy-22 --strip-all -R .pdr -R .comment "$1" "$2.new"
	found=$(LC_ALL=C readelf -h "$2.new" | awk '$1 == "Type:" { print $2 }')
	[ "$found" = EXEC ] || {
		echo "$target: the binary is $found, it must be EXEC" >&2
		exit 1
	}
	mv "$2.new" "$2"
}

out=target/openwrt/$target
mkdir -p "$out" "$CARGO_TARGET_DIR"
echo "  building $what for $target"
# shellcheck disable=SC2086 # words
"$cache/cross/bin/python" -m ziglang cc -target "$zig_target" -Oz -g0 $CFLAGS -c cross/no_unwinder.c -o "$no_unwinder"
case $what in
daemon)
	build zigbuild --bin tollgated -Z build-std=std,panic_abort
	strip_into "$CARGO_TARGET_DIR/$triple/release/tollgated" "$out/tollgated"
	;;
tests)
	made=$(build test --lib --no-run -Z build-std=std,panic_abort,test -Z panic-abort-tests --message-format=json-render-diagnostics |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	strip_into "$made" "$out/unit-tests"
	;;
esac

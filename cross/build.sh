#!/bin/sh
# Builds the daemon for one of the processors in cross/targets, as target/openwrt/TARGET/tollgated: static, stripped, and
# the same bytes wherever it is built with the same compiler. Usage: build.sh TARGET [daemon|tests]
# `tests` makes target/openwrt/TARGET/unit-tests, which smoke runs on an emulated processor.
#
# The standard library of some of these processors exists as source only and must match the compiler to the letter, so both
# come from Debian (rustc-web, rust-web-src), whatever `cargo` is first in PATH. So do the C compiler, see cc.sh, and the linker.
# Zig brings musl.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
cache=${TOLLGATED_CACHE:-$HOME/.cache/tollgated}
target=${1:-}
what=${2:-daemon}

# shellcheck disable=SC2046 # a line of words
set -- $(awk -v name="$target" '$1 == name' cross/targets)
[ $# = 4 ] || {
	echo "no such target: $target. There are:" $(awk '!/^#/ { print $1 }' cross/targets) >&2
	exit 1
}
triple=$2 gnu=$3-
echo "  building $what for $target"

# Zig knows no makers and calls 32-bit ARM by its family; soft float is its plain eabi.
case $triple in
mips*) zig_target=${triple%%-*}-linux-musleabi ;;
armv7*) zig_target=arm-linux-musleabihf ;;
*) zig_target=${triple%%-*}-linux-musl ;;
esac

# Named from the root of the checkout: what the compiler is told goes into the symbols.
runtime=target/openwrt/build/$target/runtime.o

# Paths of this machine would end up in panic messages.
registry=${CARGO_HOME:-$HOME/.cargo}
crates=$(echo "$registry"/registry/src/*/ | cut -d' ' -f1)
zig() { "$cache/cross/bin/python" -m ziglang "$@"; }
export ZIG_GLOBAL_CACHE_DIR="$cache/cross/zig"

# What zig links into every C program, as a folder in which a linker finds -lc; printed as flags for rustc. Where zig makes
# the pieces first, it says so in lines before.
musl_flags() {
	musl=target/openwrt/build/$target/musl
	mkdir -p "$musl"
	echo 'int main(void) { return 0; }' >"$musl/empty.c"
	pieces=$(zig build-exe -target "$zig_target" -lc -static -O ReleaseSmall --verbose-link "$musl/empty.c" -femit-bin="$musl/empty" 2>&1 |
		grep '/crt1\.o' | tail -n 1 | tr ' ' '\n' | grep -E '/(crt1\.o|libc\.a|libzigc\.a|libcompiler_rt\.a)$')
	echo "GROUP ( $(echo "$pieces" | grep '\.a$' | tr '\n' ' '))" >"$musl/libc.a"
	echo '/* nothing is unwound */' | tee "$musl/libgcc_s.a" >"$musl/libunwind.a"
	cp "$(echo "$pieces" | grep '/crt1\.o$')" "$musl/crt1.o"
	printf %s "-Zpre-link-arg=$musl/crt1.o|-Clink-arg=-L$musl|-Clink-arg=-static|-Clink-arg=--build-id=none|-Clink-arg=-z|-Clink-arg=max-page-size=4096|-Clink-arg=-z|-Clink-arg=stack-size=16777216"
}

# A derived Debug prints a type's name only: nobody reads more on a router, and it is 70 kB on MIPS.
flags="-Clinker=${gnu}ld|-Clinker-flavor=ld|-Clink-self-contained=no|-Zfmt-debug=shallow|-Cforce-unwind-tables=no|-Crelocation-model=static"
flags="$flags|-Zpre-link-arg=$runtime|--cfg=sha2_backend_soft=\"compact\"|--remap-path-prefix=$registry=/cargo|--remap-path-prefix=${crates%/}=|--remap-path-prefix=$root="
machine=
case $triple in
# Thumb-2 is a quarter smaller, and every ARMv7 has it.
armv7*) flags="$flags|-Ctarget-feature=+thumb-mode" machine=-mthumb ;;
# SQLite as MIPS16, which every 24K has, is half as large.
mips*)
	machine="-march=mips32r2 -mabi=32 -msoft-float -mno-shared -mplt"
	export SQLITE_FLAGS=-mips16
	;;
# What several functions do alike is done in one place; other processors' compilers do so by themselves, or cannot. What is
# longer than 32 bytes is copied by memcpy: in line, every 16 bytes are two instructions of 8 bytes.
x86_64*) flags="$flags|-Cllvm-args=-enable-machine-outliner=always -max-store-memcpy=2 -max-store-memmove=2" ;;
esac
CARGO_ENCODED_RUSTFLAGS=$(printf %s "$flags|$(musl_flags)" | tr '|' '\037')
unset RUSTFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN
export CARGO_ENCODED_RUSTFLAGS
# The crates that compile C ask for position-independent code, which is larger.
export CFLAGS="$machine -g0 -fno-pic -fno-unwind-tables -fno-asynchronous-unwind-tables -ffile-prefix-map=$registry=/cargo"
export PATH="$cache/cross/bin:/usr/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="$root/target/openwrt/build/$target"
export GCC="${gnu}gcc" "CC_$(echo "$triple" | tr - _)=$root/cross/cc.sh" "AR_$(echo "$triple" | tr - _)=${gnu}ar"
GCC_HEADERS="-nostdinc -isystem $("$GCC" -print-file-name=include) $(zig cc -target "$zig_target" -v -E -xc /dev/null 2>&1 |
	awk '/^ .*\/lib\/libc\/include\// { print "-isystem", $1 }' | tr '\n' ' ')"
export GCC_HEADERS
# Symbols are taken away afterwards: `make size` wants to see them.
export CARGO_PROFILE_RELEASE_STRIP=none

# The tests' library is made in any case: so the tests need the same crates, and build no second time what the daemon has built.
build() {
	/usr/bin/cargo "$@" --locked --quiet --release --no-default-features --target "$triple" \
		-Z build-std=std,panic_abort,test -Z build-std-features=optimize_for_size
}

# .pdr exists on MIPS only and is 8 % of the file there. A position-independent static binary crashes on MIPS as soon as it
# serves (an absent weak symbol becomes the load address), and would be larger elsewhere.
strip_into() {
	"${gnu}objcopy" --strip-all -R .pdr -R .comment "$1" "$2.new"
	found=$(LC_ALL=C readelf -h "$2.new" | awk '$1 == "Type:" { print $2 }')
	[ "$found" = EXEC ] || {
		echo "$target: the binary is $found, it must be EXEC" >&2
		exit 1
	}
	mv "$2.new" "$2"
}

out=target/openwrt/$target
mkdir -p "$out" "$CARGO_TARGET_DIR"
# shellcheck disable=SC2086 # words
sh cross/cc.sh -Os $CFLAGS -c cross/runtime.c -o "$runtime"
case $what in
daemon)
	build build --bin tollgated
	strip_into "$CARGO_TARGET_DIR/$triple/release/tollgated" "$out/tollgated"
	;;
tests)
	made=$(build test --lib --no-run -Z panic-abort-tests --message-format=json-render-diagnostics |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	strip_into "$made" "$out/unit-tests"
	;;
esac

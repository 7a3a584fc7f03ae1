"""`make size`: the stripped release binary, and what it is made of, crate by crate, by the symbols it had before.

Built with the release profile as it ships, but for `strip`, which is done afterwards: that changes no code.
"""

import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHOWN = 10
RING = re.compile(r"^_?(ring_core|x25519|aes|gcm|chacha|poly1305|bn_|p256|p384|ecp|LIMB|bssl|OPENSSL)", re.I)
"""C has no crate names; besides ring's there are SQLite's symbols and, linked statically, the C library's."""


def main() -> int:
    target = os.path.join(ROOT, "target", "size")
    build(target)
    with_symbols = os.path.join(target, "release", "tollgated")
    without = with_symbols + ".stripped"
    subprocess.run(["strip", "--strip-all", "-o", without, with_symbols], check=True)
    stripped = os.path.getsize(without)
    crates = contributors(with_symbols)
    total = sum(crates.values())
    print(f"{'tollgated, release, stripped':<40} {stripped:>12,} bytes")
    print(f"\n{'largest contributors (code and data)':<40} {'bytes':>12} {'share':>8}")
    for crate, size in crates.most_common(SHOWN):
        print(f"{crate:<40} {size:>12,} {size / total:>8.1%}")
    rest = total - sum(size for _, size in crates.most_common(SHOWN))
    print(f"{'all others':<40} {rest:>12,} {rest / total:>8.1%}")
    return 0


def build(target: str) -> None:
    print("building the release profile ...", file=sys.stderr, flush=True)
    env = {"CARGO_PROFILE_RELEASE_STRIP": "none", "CARGO_TARGET_DIR": target}
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, env={**os.environ, **env}, check=True)


def contributors(binary: str) -> collections.Counter:
    out = subprocess.run(["nm", "--size-sort", "--demangle", "--print-size", binary], check=True, capture_output=True, text=True).stdout
    sizes: collections.Counter = collections.Counter()
    for line in out.splitlines():
        parts = line.split(" ", 3)
        if len(parts) == 4 and parts[2] not in "bB":  # zeroed memory is not in the file
            sizes[crate_of(parts[3])] += int(parts[1], 16)
    return sizes


def crate_of(symbol: str) -> str:
    """`<a::B as c::D>::e` belongs to a; `core::ptr::drop_in_place<a::B>` to a as well: it exists for its sake."""
    generic = re.match(r"core::ptr::drop_in_place<(.*)", symbol)
    found = re.search(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[[0-9a-f]+\])?::", generic.group(1) if generic else symbol)
    if found:
        return found.group(1)
    return "ring (C, assembly)" if RING.match(symbol) else "libsqlite3-sys and libc (C)"


if __name__ == "__main__":
    sys.exit(main())

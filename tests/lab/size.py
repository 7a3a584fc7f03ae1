"""`make size`: the stripped release binary, and what it is made of, crate by crate, from the symbols of an unstripped build.

The profile is the release profile as it ships; only symbols are kept for the second build, which changes no code.
"""

import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHOWN = 10
# C parts come without crate names.
C_PARTS = [(re.compile(r"^(sqlite3|unix|pager|btree|vdbe|wal|pcache|whereLoop|expr|select|fts|json|memdb)", re.I), "libsqlite3-sys (C)"),
           (re.compile(r"^(ring_core|_?x25519|aes|gcm|chacha|poly1305|bn_|p256|p384|ecp|sha|bssl|OPENSSL)", re.I), "ring (C)")]


def main() -> int:
    target = os.path.join(ROOT, "target")
    build("release", {})
    build("release with symbols", {"CARGO_PROFILE_RELEASE_STRIP": "none", "CARGO_TARGET_DIR": os.path.join(target, "size")})
    stripped = os.path.getsize(os.path.join(target, "release", "tollgated"))
    crates = contributors(os.path.join(target, "size", "release", "tollgated"))
    total = sum(crates.values())
    print(f"{'tollgated, release, stripped':<40} {stripped:>12,} bytes")
    print(f"\n{'largest contributors (code and data)':<40} {'bytes':>12} {'share':>8}")
    for crate, size in crates.most_common(SHOWN):
        print(f"{crate:<40} {size:>12,} {size / total:>8.1%}")
    rest = total - sum(size for _, size in crates.most_common(SHOWN))
    print(f"{'all others':<40} {rest:>12,} {rest / total:>8.1%}")
    return 0


def build(what: str, env: dict[str, str]) -> None:
    print(f"building: {what} ...", file=sys.stderr, flush=True)
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
    for pattern, name in C_PARTS:
        if pattern.match(symbol):
            return name
    return "other C and data"


if __name__ == "__main__":
    sys.exit(main())

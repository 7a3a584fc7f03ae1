"""`make size`: the router binaries and their packages against their limits in `cross/limits`, and what the binaries
are made of, crate by crate, by the symbols they had before they were stripped. Fails when one is over. Usage: size.py
TARGET...
"""

import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHOWN = 10
RING = re.compile(r"^_?(ring_core|x25519|aes|gcm|chacha|poly1305|bn_|p256|p384|ecp|LIMB|bssl|OPENSSL)", re.I)
"""C has no crate names; besides ring's there are SQLite's symbols and, linked statically, the C library's."""


def main() -> int:
    targets = sys.argv[1:]
    rows = [("binary", target, binary(target)) for target in targets] + [
        ("ipk", target, package(target)) for target in targets
    ]
    over = False
    print(f"{'stripped, and packed':<32} {'bytes':>12} {'limit':>12} {'left':>10}")
    for kind, target, path in rows:
        size, limits = os.path.getsize(path), read_limits(kind)
        limit = limits.get(target) or limits["all"]
        over |= size > limit
        print(f"{kind:<7}{target:<25} {size:>12,} {limit:>12,} {limit - size:>10,} {'OVER' if size > limit else ''}")
    tables = {target: contributors(with_symbols(target)) for target in targets}
    largest = [crate for crate, _ in sum(tables.values(), collections.Counter()).most_common(SHOWN)]
    print(f"\n{'contributors (code and data)':<30}" + "".join(f"{target.split('_')[0]:>12}" for target in targets))
    for crate in largest:
        print(f"{crate:<30}" + "".join(f"{tables[target][crate]:>12,}" for target in targets))
    print(
        f"{'all other crates':<30}"
        + "".join(f"{table.total() - sum(table[crate] for crate in largest):>12,}" for table in tables.values())
    )
    return 1 if over else 0


def binary(target: str) -> str:
    return os.path.join(ROOT, "target", "openwrt", target, "tollgated")


def package(target: str) -> str:
    packer = [
        sys.executable,
        os.path.join(ROOT, "openwrt", "package.py"),
        "ipk",
        "--binary",
        binary(target),
        "--arch",
        target,
    ]
    done = subprocess.run(packer, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[0]


def read_limits(kind: str) -> dict[str, int]:
    with open(os.path.join(ROOT, "cross", "limits")) as file:
        rows = (line.split() for line in file if not line.startswith("#"))
        return {row[1]: int(row[2]) for row in rows if row and row[0] == kind}


def with_symbols(target: str) -> str:
    with open(os.path.join(ROOT, "cross", "targets")) as file:
        (triple,) = [line.split()[1] for line in file if line.split()[0] == target]
    return os.path.join(ROOT, "target", "openwrt", "build", target, triple, "release", "tollgated")


def contributors(program: str) -> collections.Counter:
    out = subprocess.run(
        ["nm", "--size-sort", "--demangle", "--print-size", program], check=True, capture_output=True, text=True
    ).stdout
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

"""Checks what we build on, offline: every crate's licence and source, and crates that must not reach a router.

Usage: lint_crates.py, at the top of the checkout. Advisories need the network: `.github/workflows/ci.yml` asks for
them.
"""

import json
import re
import subprocess
import sys

# What may be linked into a program under MIT, and given away with it.
LICENCES = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MITNFA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}
SOURCE = "registry+https://github.com/rust-lang/crates.io-index"
BANNED = {
    "clap": "argument parsers cost more than all our commands",
    "chrono": "wall time is asked for only where a peer needs it (src/clock.rs)",
    "lazy_static": "there is no global state",
    "native-tls": "TLS is rustls with ring",
    "openssl-sys": "TLS is rustls with ring",
    "regex": "0.9 MB",
    "reqwest": "calls to others are made by src/calls",
    "secp256k1-sys": "1.2 MB of C; the curve is k256",
    "ureq": "it blocks; a second client for tests only",
}
# In more than one version, and why.
TWICE = {"getrandom": "ring's own is older"}


def main() -> int:
    metadata = ask("metadata", "--format-version", "1", "--filter-platform", host())
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    macros = {one for one, package in packages.items() if is_macro(package)}
    routers = ask("metadata", "--format-version", "1", "--filter-platform", host(), "--no-default-features")
    shipped = reached_from(root, {node["id"]: node for node in routers["resolve"]["nodes"]}, macros)
    problems = []
    for package in packages.values():
        name = f"{package['name']} {package['version']}"
        if not is_allowed(package["license"] or ""):
            problems.append(f"{name}: licence {package['license']!r} (tests/lab/lint_crates.py lists what may be)")
    names = {}
    for one in sorted(shipped):
        names.setdefault(packages[one]["name"], []).append(packages[one]["version"])
    for name, versions in names.items():
        if name in BANNED:
            problems.append(f"{name} reaches the router: {BANNED[name]}")
        if len(versions) > 1 and name not in TWICE:
            problems.append(f"{name} reaches the router more than once: {', '.join(versions)}")
    with open("Cargo.lock") as file:
        sources = re.findall(r'^source = "(.*)"$', file.read(), re.M)
    problems += [f"a crate is from {source}" for source in sorted(set(sources)) if source != SOURCE]
    for problem in problems:
        print(problem)
    print(f"crates: {len(shipped)} on the router, {len(sources)} in all, {len(problems)} problems")
    return 1 if problems else 0


def ask(*arguments: str) -> dict:
    done = subprocess.run(["cargo", *arguments, "--offline", "--locked"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def host() -> str:
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return re.search(r"^host: (.*)$", told, re.M).group(1)


def is_macro(package: dict) -> bool:
    return any("proc-macro" in target["kind"] for target in package["targets"])


def reached_from(root: str, nodes: dict[str, dict], macros: set[str]) -> set[str]:
    """What becomes part of the daemon: macros and build scripts, and what these need, stay on the machine that
    builds.
    """
    reached, waiting = set(), [root]
    while waiting:
        at = waiting.pop()
        if at not in reached and at not in macros:
            reached.add(at)
            for dep in nodes[at]["deps"]:
                if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                    waiting.append(dep["pkg"])
    return reached


def is_allowed(licence: str) -> bool:
    """`A OR B` wants one of them, `A AND B` both; crates of old write `A/B`."""
    parts = re.split(r" AND ", licence.replace("/", " OR "))
    return all(any(one.strip("() ") in LICENCES for one in part.split(" OR ")) for part in parts)


if __name__ == "__main__":
    sys.exit(main())

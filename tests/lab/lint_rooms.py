"""Checks what the compiler does not: that a room uses only rooms above it, and a few words that may not occur.

Usage: lint_rooms.py SRC. Rooms are read in the order below, which is the order of `lib.rs`; `app` and `main` may use all.
Comments, strings and test code (`#[cfg(test)]` items, `tests.rs`) are left out.
"""

import os
import re
import sys

# A room may use the ones before it.
ROOMS = [
    "folder", "units", "url", "form", "hex", "correlation", "json", "mac", "pace", "set", "stream", "task", "clock", "bech32", "bolt11", "config", "store", "network", "calls", "ecash", "lightning", "card", "access", "sale", "mint_proxy", "tollgate",
    "auth", "tickets", "fiat", "shop", "setup", "commands", "portal", "http", "control", "ops",
]
ANYTHING = {"app", "main", "lib"}

FORBIDDEN = [
    (re.compile(r"\be?print(ln)?!"), "prints and panics on a closed pipe: use `writeln!` or the log"),
    (re.compile(r"\bAtomic[UI]64\b"), "does not exist on 32-bit MIPS"),
    (re.compile(r"\bdbg!"), "left over from debugging"),
    (re.compile(r"\.unwrap\(\)|\.expect\("), "panics: return an error"),
    (re.compile(r"\b(panic|todo|unimplemented|unreachable)!"), "panics: return an error"),
]
USE = re.compile(r"\b(?:crate|tollgated)::(?:\{([^;]*)\}|([a-z_0-9]+))", re.S)


def main(src: str) -> int:
    problems, files = [], 0
    for directory, _, names in sorted(os.walk(src)):
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(".rs"):
                files += 1
                problems += check(path, os.path.relpath(path, src))
    for problem in problems:
        print(problem)
    print(f"rooms: {files} files, {len(problems)} problems")
    return 1 if problems else 0


def check(path: str, inside: str) -> list[str]:
    with open(path) as file:
        text = without_tests(without_comments_and_strings(file.read()))
    room = inside.split(os.sep)[0].removesuffix(".rs")
    is_test = inside.endswith(os.sep + "tests.rs") or os.sep + "tests" + os.sep in inside
    problems = []
    if room not in ROOMS and room not in ANYTHING:
        problems.append(f"{path}: the room `{room}` is not in the list of rooms (tests/lab/lint_rooms.py)")
    elif room in ROOMS and not is_test:
        for used, line in uses(text):
            if used in ANYTHING or (used in ROOMS and ROOMS.index(used) > ROOMS.index(room)):
                problems.append(f"{path}:{line}: `{room}` uses `{used}`, which is below it")
    if not is_test:
        for pattern, why in FORBIDDEN:
            for found in pattern.finditer(text):
                problems.append(f"{path}:{line_of(text, found.start())}: `{found.group()}` {why}")
    return problems


def uses(text: str) -> list[tuple[str, int]]:
    found = []
    for match in USE.finditer(text):
        line = line_of(text, match.start())
        if match.group(2):
            found.append((match.group(2), line))
        else:
            found += [(part, line) for part in top_level_names(match.group(1))]
    return found


def top_level_names(group: str) -> list[str]:
    """`mac::{A, B}, units::C` -> mac, units."""
    flat, depth = "", 0
    for letter in group:
        depth += letter == "{"
        if depth == 0:
            flat += letter
        depth -= letter == "}"
    return [part.strip().split("::")[0] for part in flat.split(",") if part.strip()]


def without_comments_and_strings(text: str) -> str:
    """Blanks them, keeping every line where it is."""
    token = re.compile(
        r"""//[^\n]*|/\*.*?\*/|b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\\n])'""", re.S
    )
    return token.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def without_tests(text: str) -> str:
    """Blanks every item under `#[cfg(test)]`."""
    at = 0
    while (start := text.find("#[cfg(test)]", at)) >= 0:
        end, depth = start, 0
        for end in range(start + len("#[cfg(test)]"), len(text)):
            depth += text[end] == "{"
            if text[end] == "}":
                depth -= 1
                if depth == 0:
                    break
            if text[end] == ";" and depth == 0:
                break
        text = text[:start] + re.sub(r"[^\n]", " ", text[start : end + 1]) + text[end + 1 :]
        at = end
    return text


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "src"))

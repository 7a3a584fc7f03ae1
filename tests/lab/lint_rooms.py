"""Checks what the compiler does not: that a room uses only rooms above it, that two types which other files see have
two names.

Usage: lint_rooms.py SRC. The rooms and their order are those of `lib.rs`. A comment line there is the heading of a
group; the rooms of a group whose heading says so never use each other. `app` and `main` may use all.
Comments, strings and test code (`#[cfg(test)]` items, `tests.rs`) are left out.
"""

import os
import re
import sys

ANYTHING = {"app", "main", "lib"}
APART = "never use each other"

TYPE = re.compile(r"^pub(?:\([^)]*\))? (?:struct|enum|trait|type) (\w+)", re.M)
USE = re.compile(r"\b(?:crate|tollgated)::(?:\{([^;]*)\}|([a-z_0-9]+))", re.S)


def main(src: str) -> int:
    problems, files, types = [], 0, {}
    with open(os.path.join(src, "lib.rs")) as file:
        rooms, apart = read_rooms(file.read())
    for directory, _, names in sorted(os.walk(src)):
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(".rs"):
                files += 1
                problems += check(path, os.path.relpath(path, src), rooms, apart)
                problems += check_types(path, types)
    for problem in problems:
        print(problem)
    print(f"rooms: {files} files, {len(problems)} problems")
    return 1 if problems else 0


def read_rooms(lib: str) -> tuple[list[str], list[set[str]]]:
    """The rooms in their order, and the groups whose rooms are kept apart."""
    rooms, apart, group = [], [], None
    for line in lib.splitlines():
        if line.startswith("// "):
            group = set() if APART in line else None
            apart += [group] if group is not None else []
        elif match := re.match(r"(?:pub )?mod (\w+);", line):
            rooms.append(match.group(1))
            if group is not None:
                group.add(match.group(1))
    return [room for room in rooms if room not in ANYTHING], apart


def check(path: str, inside: str, rooms: list[str], apart: list[set[str]]) -> list[str]:
    with open(path) as file:
        text = without_tests(without_comments_and_strings(file.read()))
    room = inside.split(os.sep)[0].removesuffix(".rs")
    problems = []
    if room not in rooms and room not in ANYTHING:
        problems.append(f"{path}: the room `{room}` is not in `lib.rs`")
    elif room in rooms and not is_test(inside):
        for used, line in uses(text):
            if used in ANYTHING or (used in rooms and rooms.index(used) > rooms.index(room)):
                problems.append(f"{path}:{line}: `{room}` uses `{used}`, which is below it")
            elif used != room and any({room, used} <= group for group in apart):
                problems.append(f"{path}:{line}: `{room}` uses `{used}`: they are to know nothing of each other")
    return problems


def check_types(path: str, types: dict[str, str]) -> list[str]:
    """Types with the name of one that was seen in another file. `types` keeps where each name was seen."""
    with open(path) as file:
        text = without_tests(without_comments_and_strings(file.read()))
    problems = []
    for match in [] if is_test(path) else TYPE.finditer(text):
        here = f"{path}:{line_of(text, match.start())}"
        there = types.setdefault(match.group(1), here)
        if there != here:
            problems.append(f"{here}: the type `{match.group(1)}` has the name of another one at {there}")
    return problems


def is_test(path: str) -> bool:
    return path.endswith(os.sep + "tests.rs") or os.sep + "tests" + os.sep in path


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

"""The table of paths in `src/http/README.md`, which a unit test compares with the program's own."""

import os
from dataclasses import dataclass

README = os.path.join(os.path.dirname(__file__), "..", "..", "src", "http", "README.md")


@dataclass
class Row:
    audiences: list[str]
    method: str
    path: str
    guard: str
    money: str
    """What a request does with money: `moves`, `buys`, or nothing."""


def readme() -> str:
    with open(README) as file:
        return file.read()


def rows() -> list[Row]:
    found = []
    for line in readme().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:7]]
        if line.startswith("| ") and len(cells) == 6 and cells[2].startswith("`"):
            who, method, path, guard, _, money = cells
            found.append(Row(who.split(", "), method, path.strip("`"), guard, money))
    return found

"""Checks that what is written for people is so: links, what to do about every code of a closed shop, and the files and
names in the recipes of `src/README.md` and in the essay of `src/lib.rs`.

Usage: lint_papers.py, at the top of the checkout.
"""

import os
import re
import subprocess
import sys

OPERATORS = "openwrt/README.md"
RECIPES = "src/README.md"
ESSAY = "src/lib.rs"
CODE = re.compile(r'"([A-Z]+(?:_[A-Z]+)+|SEALED)"')
# Upper case for other reasons: of the environment, a state and a prefix that others' nodes use, and a word of NUT-11.
NO_CODES = re.compile(
    r"CARGO_|OUT_DIR$|PORTAL_\w+_DIGEST$|LC_ALL$|COMP_|SERVER_ACTIVE$|FAILURE_REASON_|IN_FLIGHT$|SIG_INPUTS$"
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def main() -> int:
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    names = [name for name in files.stdout.splitlines() if os.path.exists(name)]
    papers = [name for name in names if name.endswith(".md")]
    problems = codes([name for name in names if name.startswith("src/") and name.endswith(".rs")])
    for paper in papers:
        problems += links(paper)
    problems += recipes() + essay()
    for problem in problems:
        print(problem)
    print(f"papers: {len(papers)} files, {len(problems)} problems")
    return 1 if problems else 0


def codes(sources: list[str]) -> list[str]:
    """Every code that a closed shop may give has a row that says what to do, and no row is of a code that is gone."""
    in_code = set()
    for source in sources:
        if not re.search(r"(^|/)tests(\.rs|/)", source):
            in_code |= set(CODE.findall(read(source).split("#[cfg(test)]\nmod tests")[0]))
    in_code = {code for code in in_code if not NO_CODES.match(code)}
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", read(OPERATORS), re.M))
    return [f"{OPERATORS}: no row says what to do about {code}" for code in sorted(in_code - rows)] + [
        f"{OPERATORS}: {code} is in no source" for code in sorted(rows - in_code)
    ]


def links(paper: str) -> list[str]:
    """Links within the checkout lead to a file, and to a heading of it where they name one."""
    problems = []
    for path, heading in LINK.findall(read(paper)):
        if "://" in path or path.startswith("mailto:"):
            continue
        target = os.path.normpath(os.path.join(os.path.dirname(paper), path)) if path else paper
        if not os.path.exists(target):
            problems.append(f"{paper}: {path} does not exist")
        elif heading and heading not in headings(target):
            problems.append(f"{paper}: {target} has no heading #{heading}")
    return problems


def recipes() -> list[str]:
    """Every file that a recipe names is there, and holds the names that stand behind it in the same step."""
    problems = []
    for step in re.split(r"\n(?=\d+\. |#|\n)", read(RECIPES)):
        file = None
        for word in re.findall(r"`([^`\n]+)`", step):
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", word):
                file = word
                if not os.path.exists(file):
                    problems.append(f"{RECIPES}: there is no {file}")
            elif file and os.path.exists(file) and re.fullmatch(r"\w+", word):
                if not re.search(rf"\b{word}\b", read(file)):
                    problems.append(f"{RECIPES}: {file} has no {word}")
    if problems or len(re.findall(r"^## How to add ", read(RECIPES), re.M)) == 5:
        return problems
    return [f"{RECIPES}: there are five recipes"]


def essay() -> list[str]:
    """Every file that the essay names is there, under `src` or at the top."""
    text = "\n".join(line for line in read(ESSAY).splitlines() if line.startswith("//!"))
    named = re.findall(r"`([\w-]+(?:/[\w.-]+)*\.(?:rs|py|md))`", text)
    return [f"{ESSAY}: there is no {name}" for name in named if not any(map(os.path.exists, (name, "src/" + name)))]


def headings(paper: str) -> set[str]:
    """As GitHub makes anchors of them."""
    found = re.findall(r"^#+ (.*)$", read(paper), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def read(name: str) -> str:
    with open(name) as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main())

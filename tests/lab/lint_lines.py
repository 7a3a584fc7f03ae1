"""Checks that lines of Python fit on half a screen, and that no condition of several parts, and no lambda, assigns.

Usage: lint_lines.py, at the top of the checkout.
"""

import ast
import subprocess
import sys

LONGEST = 119


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True)
    names = listed.stdout.split()
    problems = []
    for name in names:
        with open(name) as file:
            text = file.read()
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > LONGEST:
                problems.append(f"{name}:{number}: {len(line)} columns, at most {LONGEST} (`ruff format` splits most)")
        problems += [f"{name}:{number}: assigns in the middle of something else" for number in assignments(text)]
    for problem in problems:
        print(problem)
    print(f"lines: {len(names)} files, {len(problems)} problems")
    return 1 if problems else 0


def assignments(text: str) -> list[int]:
    """The lines of those that are hard to read."""
    around = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.BoolOp, ast.Lambda))]
    return sorted({one.lineno for node in around for one in ast.walk(node) if isinstance(one, ast.NamedExpr)})


if __name__ == "__main__":
    sys.exit(main())

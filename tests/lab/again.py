"""`make test-again`: runs what failed in the last `make test` once more, each test alone, and says loudly that it did.

For `.ci/run` on a shared machine, which may stall for seconds: one test that met such a moment shall not cost hours of
work. A test that fails twice fails. Where `make test` failed before its tests, or a suite ended badly without naming a
test, nothing is repeated and this fails as well.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAILED = os.path.join(ROOT, "target", "failed")
"""Made anew by `make test`: `status` (how each suite ended), `unit.log`, and `system`, a test a line by
conftest.py.
"""
MOST = 5
"""More than this is no stall of the machine."""


def main() -> int:
    try:
        status = dict(line.split() for line in read("status").splitlines())
    except OSError:
        return give_up("make test failed before its tests")
    failed = {"unit": failed_unit_tests(read("unit.log")), "system": read("system").split("\n")[:-1]}
    tests = [(suite, name) for suite, names in failed.items() for name in names]
    for suite, code in status.items():
        if code != "0" and not failed[suite]:
            return give_up(f"the {suite} tests ended with {code} and name no test that failed")
    if len(tests) > MOST:
        return give_up(f"{len(tests)} tests failed")
    for suite, name in tests:
        banner(f"FAILED: {name} - once more, alone")
        if subprocess.run(command(suite, name), cwd=ROOT).returncode != 0:
            return give_up(f"{name} failed twice")
    banner(
        (
            "PASSED THE SECOND TIME, which is a fault of the test or of the product: "
            f"{', '.join(name for _, name in tests)}"
        )
    )
    return 0


def read(name: str) -> str:
    with open(os.path.join(FAILED, name)) as file:
        return file.read()


def failed_unit_tests(log: str) -> list[str]:
    """What cargo's test programs list under `failures:` at their end."""
    lists = re.findall(r"^failures:\n((?:    \S+\n)+)", log, re.M)
    return sorted({name for names in lists for name in names.split()})


def command(suite: str, name: str) -> list[str]:
    if suite == "system":
        return [sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", "-n", "1", name]
    return [sys.executable, "-m", "lab.with_mint", "--", "cargo", "test", "--locked", "--quiet", name, "--", "--exact"]


def banner(text: str) -> None:
    print(f"\n{'!' * 100}\n!!!! {text}\n{'!' * 100}", flush=True)


def give_up(why: str) -> int:
    banner(f"not repeated: {why}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

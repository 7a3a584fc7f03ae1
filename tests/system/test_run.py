"""`make run`, as far as its tour: the demo is the first thing that anybody sees."""

import os
import pty
import subprocess
import sys
import time

import pytest

from lab.daemon import binary


@pytest.mark.skipif(not os.path.exists(binary()), reason="no daemon is built")
def test_tour_shows_a_guests_whole_way():
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-m", "lab.run", "--once"],
        env=dict(os.environ, PYTHONPATH=tests),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ["blocked", "portal", "invoice", "paid", "online", "time over", "blocked"]
    lines = [line.strip() for line in done.stdout.splitlines()]
    seen = [step for line in lines for step in dict.fromkeys(steps) if line.startswith(step)]
    assert seen == steps


@pytest.mark.skipif(not os.path.exists(binary()), reason="no daemon is built")
def test_ctrl_c_in_make_ends_the_demo_well(tmp_path):
    """The terminal sends it to everybody in the foreground; `make` would end with an error by it."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    (tmp_path / "Makefile").write_text(f"run:\n\t@{sys.executable} -m lab.run\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = tests
        os.execvp("make", ["make", "-C", str(tmp_path), "run"])
    said, begun = b"", time.monotonic()
    while b"Ctrl-C ends everything." not in said:
        assert time.monotonic() - begun < 280, said.decode()
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said.decode()
    assert b"Everything is taken down." in said and b"Error" not in said

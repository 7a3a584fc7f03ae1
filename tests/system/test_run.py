"""`make run`, as far as its tour: the demo is the first thing that anybody sees."""

import os
import subprocess
import sys

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

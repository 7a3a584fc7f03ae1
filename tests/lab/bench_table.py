"""Rows of `make bench`, and how they are measured on a machine that has other work: processor time, counts and ratios
where the budget is one of those. Where it is a time, what was waited for a processor is taken off, and it is measured
once more when it is over."""

import contextlib
import os
import statistics
import sys
import time
from dataclasses import dataclass

from .daemon import Daemon

TRIES = 3


@dataclass
class Row:
    what: str
    measured: str
    budget: str = ""
    kept: bool | None = None
    """None: no budget."""


def tried(measure) -> list[Row]:
    """What `measure` answers; the best of some tries if a budget is not kept. The row says that it was so."""
    best: list[Row] = []
    for number in range(1, TRIES + 1):
        rows = measure()
        if not best or over(rows) < over(best):
            best = rows
            if number > 1:
                best[0].what += f" (try {number})"
        if not over(best):
            break
        print(
            f"  over: {'; '.join(f'{row.what}: {row.measured}' for row in rows if row.kept is False)}", file=sys.stderr
        )
    return best


def over(rows: list[Row]) -> int:
    return sum(row.kept is False for row in rows)


def show(rows: list[Row]) -> None:
    for row in rows:
        verdict = "" if row.kept is None else "kept" if row.kept else "OVER"
        print(f"{row.what:<76} {row.measured:>16} {row.budget:>8} {verdict}".rstrip(), flush=True)


def say(text: str) -> None:
    """Progress, for who watches."""
    if sys.stderr.isatty():
        print(f"\r{' ' * 40}\r  {text}", end="", file=sys.stderr, flush=True)


def cpu_seconds(daemon: Daemon, programs: bool = False) -> float:
    """Processor time of the daemon's threads so far, to the microsecond; with that of the `programs` it ran, to the
    hundredth.
    """
    pid = daemon.process.host_pid
    used = time.clock_gettime(~pid << 3 | 2)  # its CLOCK_PROCESS_CPUTIME_ID
    if programs:
        with open(f"/proc/{pid}/stat") as stat:
            used += sum(map(int, stat.read().rsplit(")")[1].split()[13:15])) / 100
    return used


class Stopwatch:
    """With it, `took` is the time of the block, and `own` that without what threads of the daemon and of this program
    (the client, the mint, the node) waited for a processor meanwhile."""

    def __init__(self, daemon: Daemon) -> None:
        self.pids = daemon.process.host_pid, os.getpid()

    def __enter__(self) -> "Stopwatch":
        self.waited = self._waited()
        self.began = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.took = time.monotonic() - self.began
        waits = sum(after - self.waited.get(thread, 0) for thread, after in self._waited().items())
        self.own = max(0.0, self.took - waits / 1e9)

    def without(self, peer: float) -> None:
        """A peer's share is taken off both."""
        self.took, self.own = max(0.0, self.took - peer), max(0.0, self.own - peer)

    def _waited(self) -> dict[str, int]:
        """Nanoseconds of each thread."""
        waits = {}
        for pid in self.pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with (
                    contextlib.suppress(FileNotFoundError, ProcessLookupError),
                    open(f"/proc/{pid}/task/{thread}/schedstat") as file,
                ):
                    waits[thread] = int(file.read().split()[1])
        return waits


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def both(times: list[float]) -> str:
    """p50 / p95."""
    return f"{1000 * statistics.median(times):.1f} / {1000 * p95(times):.1f} ms"

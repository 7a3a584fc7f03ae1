"""The moment when the daemon has written a commit, seen from outside."""

import os
import threading
import time

from .daemon import Daemon


def at_commit(daemon: Daemon, number: int, act, after: float = 0.0, limit: float = 10.0) -> threading.Event:
    """Calls `act` when the journal has grown by so many transactions, the last of which may only have begun. It grows
    for the first 500 pages after a start. After `limit` seconds the wait is over, and `act` is called."""
    done = threading.Event()

    def length() -> int:
        try:
            return os.stat(os.path.join(daemon.state_dir, "store.db-wal")).st_size
        except FileNotFoundError:
            return 0

    size = length()

    def watch() -> None:
        nonlocal size
        left, grew = number, 0.0
        deadline = time.monotonic() + limit
        while left and time.monotonic() < deadline:
            now = length()
            if now != size:
                # The frames of one transaction are written at once; between two there is a sync at least.
                left -= time.monotonic() - grew > 0.0005
                size, grew = now, time.monotonic()
        if after:
            time.sleep(after)
        act()
        done.set()

    threading.Thread(target=watch, daemon=True).start()
    return done

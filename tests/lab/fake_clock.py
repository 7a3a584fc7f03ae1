"""The daemon's clock in the hands of a test: libfaketime in front of the C library."""

import os
import time

import pytest

PATH = next(
    (
        path
        for path in (f"/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1" for machine in ("x86_64", "aarch64"))
        if os.path.exists(path)
    ),
    None,
)
needs_faketime = pytest.mark.skipif(PATH is None, reason="libfaketime is not installed")


class FakeClock:
    """`daemon.start(env=clock.env)`. Until it is set it shows the machine's time."""

    monotonic_too = True

    def __init__(self, lab) -> None:
        self.path = lab.path(f"clock-{time.monotonic_ns()}")
        self.write("+0")

    def later(self, seconds: float) -> None:
        """So many seconds from the machine's own time, as if one had waited."""
        self.write(f"+{seconds}")

    def write(self, text: str) -> None:
        with open(self.path + ".new", "w") as file:
            file.write(f"{text}\n")
        os.rename(self.path + ".new", self.path)

    @property
    def env(self) -> dict[str, str]:
        wall_only = {} if self.monotonic_too else {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {
            "LD_PRELOAD": PATH,
            "FAKETIME_TIMESTAMP_FILE": self.path,
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_RESET": "1",
            "TZ": "UTC",
            **wall_only,
        }


class FakeWall(FakeClock):
    """The wall clock only, in 1970 at first; the monotonic clock is the machine's."""

    monotonic_too = False

    def __init__(self, lab) -> None:
        super().__init__(lab)
        self.set("1970-01-01 00:00:40")

    def set(self, moment: str) -> None:
        self.write(f"@{moment}")


def other_boot(lab, name="boot"):
    """A command that shows the daemon another boot of the machine."""
    path = lab.path(f"{name}-{time.monotonic_ns()}")
    with open(path, "w") as file:
        file.write("11111111-2222-3333-4444-%012d\n" % (time.monotonic_ns() % 10**12))
    return ["unshare", "-m", "sh", "-c", f'mount --bind {path} /proc/sys/kernel/random/boot_id && exec "$@"', "sh"]

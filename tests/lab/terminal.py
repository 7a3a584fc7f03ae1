"""What a command prints to somebody who sits at a terminal, and what a phone's camera reads there."""

import contextlib
import os
import pty
import re
import select
import termios
import time

import zxingcpp

from .daemon import Daemon
from .place import PATIENCE

MODULES = {"█": (0, 0), "▀": (0, 255), "▄": (255, 0), " ": (255, 255)}
SCALE = 4


def on_terminal(daemon: Daemon, *argv: str, limit: float = PATIENCE, columns: int = 0) -> str:
    """Standard output and error of an operator's command, which believes that they are a terminal. Without `columns`
    it does not tell its width."""
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, columns))
    words = " ".join(f"'{word}'" for word in [*daemon.program, *argv, "-c", daemon.config])
    process = daemon.lab.router.spawn(["sh", "-c", f"exec {words} >{os.ttyname(far)} 2>&1"])
    shown, deadline = b"", time.monotonic() + limit
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if select.select([near], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                shown += os.read(near, 65536)
        elif ended:
            break
    os.close(near), os.close(far)
    return shown.decode()


def typed_at_bash(lab, before: str, line: str, limit: float = PATIENCE) -> str:
    """What a terminal shows of a line that is typed, and not entered, after what comes `before` has been."""
    near, far = pty.openpty()
    tty = os.ttyname(far)
    process = lab.router.spawn(["sh", "-c", f"PS1=ready: exec bash --norc --noprofile -i <{tty} >{tty} 2>&1"])
    shown = ""

    def read_until(end: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + limit
        while not shown.endswith(end) and time.monotonic() < deadline:
            if select.select([near], [], [], 0.2)[0]:
                shown += re.sub("\x1b\\[[?]2004[hl]", "", os.read(near, 65536).decode())

    read_until("ready:")
    for entered in before.splitlines():
        os.write(near, entered.encode() + b"\n")
        shown = ""
        read_until("ready:")
    for key in line.split("\t"):
        os.write(near, key.encode())
        read_until(key)
        os.write(near, b"\t")
        read_until(" ")
    process.kill()
    os.close(near), os.close(far)
    return shown.replace("\a", "")


def qr_codes(shown: str) -> list[str]:
    """The texts of the codes drawn there."""
    rows = [line for line in re.findall("\x1b\\[30;107m(.*?)\x1b\\[0m", shown)]
    pixels = [
        [MODULES[char][half] for char in row for _ in range(SCALE)]
        for row in rows
        for half in (0, 1)
        for _ in range(SCALE)
    ]
    if not pixels:
        return []
    image = memoryview(bytes(pixel for row in pixels for pixel in row)).cast("B", (len(pixels), len(pixels[0])))
    return [code.text for code in zxingcpp.read_barcodes(image)]

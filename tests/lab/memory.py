"""`make memory`: what the router build keeps resident, idle, with 250 sessions and 1,000 WebSockets, and at most while
48 made-up stations attack, against `cross/limits`. Fails when it is more. Usage: memory.py BINARY"""

import contextlib
import os
import sys
import time

from .daemon import Daemon, Mint
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .place import wait_for
from .portal_client import MINT_PROXY
from .smoke import ROOT
from .stations import PING, Stations, allow_many_files, begin_bodies, peak_kib, say_one_byte, upgrade

SESSIONS = 250
SOCKETS = 1000
STATIONS = 48


def main() -> int:
    allow_many_files()
    rows = []
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(guests=1))
        mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
        limits = {"guest_sockets": 1024, "guest_connections": 2 * SOCKETS, "log_level": "info"}
        daemon = stack.enter_context(Daemon(lab, [Mint(mint.url)], main=limits, program=sys.argv[1:2]))
        wait_for(lambda: daemon.status(), 10)
        time.sleep(3)
        rows.append(("idle", resident(daemon)))
        for number in range(SESSIONS):
            daemon.command("grant", f"02:00:00:00:{0x10 + number // 256:02x}:{number % 256:02x}", "1h")
        wait_for(lambda: len(daemon.paid_macs()) == SESSIONS, 20, "the sessions stand in the kernel")
        rows.append((f"{SESSIONS} sessions", resident(daemon)))
        for _ in range(SOCKETS):
            stack.callback(lab.guest.websocket(MINT_PROXY).close)
        time.sleep(2)
        rows.append(("busy", resident(daemon)))
        daemon.stop()
        lab.clean_router()
        rows.append(
            (
                "hostile",
                under_attack(
                    lab, stack.enter_context(Daemon(lab, [Mint(mint.url)], name="hostile", program=sys.argv[1:2]))
                ),
            )
        )
    limits = read_limits()
    over = False
    for name, size in rows:
        limit = limits.get(name)
        over |= limit is not None and size > limit
        shown = f"{limit / 2**20:6.2f} MiB" if limit else ""
        note = {
            "busy": f" ({SESSIONS} sessions, {SOCKETS} sockets)",
            "hostile": f" (at most, with {STATIONS} hostile stations)",
        }.get(name, "")
        verdict = "" if limit is None else "OVER" if size > limit else "kept"
        print(f"{name + note:<45} {size / 2**20:6.2f} MiB {shown:>12} {verdict}")
    return 1 if over else 0


def under_attack(lab: Lab, daemon: Daemon) -> int:
    """The most that was resident (bytes), whatever they did."""
    with Stations(lab.guest, STATIONS) as many:
        begin_bodies(many, 64)
        say_one_byte(many, 64)
        for number in range(16 * STATIONS):
            upgrade(many, number % STATIONS)
        many.repeat(PING, 2)
        begin_bodies(many, 64)
        time.sleep(5)
        resident(daemon)
        return peak_kib(daemon) * 1024


def resident(daemon: Daemon) -> int:
    """`VmRSS` in bytes, and its parts on standard error."""
    parts = daemon.process.memory_kib()
    print({name: parts[name] for name in ("VmRSS", "RssAnon", "RssFile", "VmData", "VmStk")}, file=sys.stderr)
    return parts["VmRSS"] * 1024


def read_limits() -> dict[str, int]:
    with open(os.path.join(ROOT, "cross", "limits")) as file:
        rows = (line.split() for line in file if not line.startswith("#"))
        return {row[1]: int(row[2]) for row in rows if row and row[0] == "memory"}


if __name__ == "__main__":
    sys.exit(main())

"""Rows of `make bench` about ecash: from a token to the gate, many guests at once, `/usage` of many routers, our wallet beside another."""

import concurrent.futures
import os
import statistics
import time

from .daemon import Daemon, Mint
from .fault_mint import FaultMint
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .other_wallets import Cashu
from .place import wait_for
from .purse import Customers
from .tollgate_client import TOLLGATE

STEP = 60_000
POSTS = 60
CROWD = 100
LOOKS = 20
"""Questions of each guest for its use."""
TOKENS = 8

Row = tuple[str, str, str, bool | None]


class WatchedMint(FaultMint):
    """Knows how long it was at work, so that its share can be taken off."""

    busy = 0.0

    def handle(self, request) -> None:
        started = time.monotonic()
        try:
            super().handle(request)
        finally:
            self.busy += time.monotonic() - started


def rows() -> list[Row]:
    made = at_a_shop(1, token_to_gate)
    made += at_a_shop(CROWD, lambda lab, sales: crowd(lab, sales) + usage(lab, sales.daemon))
    return made + wallets()


def at_a_shop(guests: int, measure) -> list[Row]:
    with Lab(guests=guests) as lab, WatchedMint(lab.internet, MINT4) as mint:
        with Daemon(lab, [Mint(mint.url)], main={"log_level": "info"}, venue={"step_size": STEP}) as daemon:
            return measure(lab, Customers(lab, mint, daemon, STEP))


def token_to_gate(lab: Lab, sales: Customers) -> list[Row]:
    """Each time a guest who was never here before. The answer comes when the gate is open."""
    took, own = [], []
    for number in range(POSTS + 2):
        token = sales.token(100 + number)
        lab.guest.become_stranger()
        lab.guest.get(TOLLGATE + "/whoami")
        before, started = sales.mint.busy, time.monotonic()
        answer = sales.post(lab.guest, token)
        ended = time.monotonic()
        if answer.status != 200 or lab.guest.mac not in sales.daemon.paid_macs():
            raise RuntimeError(answer.text)
        if number >= 2:  # the first ones fetch the mint's terms
            took.append(ended - started)
            own.append(ended - started - (sales.mint.busy - before))
    return [
        (f"token posted -> gate open, p50 / p95 of {POSTS}", f"{1000 * statistics.median(took):.0f} / {1000 * p95(took):.0f} ms", "", None),
        ("without the mint's share, p95", f"{1000 * p95(own):.1f} ms", "25 ms", p95(own) < 0.025),
    ]


def crowd(lab: Lab, sales: Customers) -> list[Row]:
    tokens = [sales.token(100 + number) for number in range(CROWD)]
    for guest in lab.guests:
        guest.get(TOLLGATE + "/whoami")
    started = time.monotonic()

    def served(number: int) -> float:
        sales.buy(lab.guests[number], tokens[number], 60)
        return time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        took = list(pool.map(served, range(CROWD)))
    sales.check()
    return [(f"{CROWD} guests post at once: half of them / all are served", f"{statistics.median(took):.1f} / {max(took):.1f} s", "all", len(took) == CROWD)]


def usage(lab: Lab, daemon: Daemon) -> list[Row]:
    def ask(guest) -> None:
        for _ in range(LOOKS):
            if not guest.get(TOLLGATE + "/usage").text.split("/")[1].isdigit():
                raise RuntimeError("no session")

    before = cpu_seconds(daemon)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, lab.guests))
    share = (cpu_seconds(daemon) - before) / (len(lab.guests) * LOOKS) * 250
    return [(f"/usage 250 times a second ({len(lab.guests)} paid guests): of a core", f"{100 * share:.2f} %", "2 %", share < 0.02)]


def cpu_seconds(daemon: Daemon) -> float:
    with open(f"/proc/{daemon.process.host_pid}/stat") as stat:
        user, system = stat.read().rsplit(")")[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wallets() -> list[Row]:
    """As an operator has it: a command, from its start to its end."""
    with Lab(guests=1) as lab, Nutshell(lab.internet, MINT4, dir=lab.path("mint")) as mint, Daemon(lab, [Mint(mint.url)]) as daemon:
        sales = Customers(lab, mint, daemon, STEP)
        theirs = Cashu(lab.internet, mint.url, lab.path("cashu"))
        theirs.receive(sales.token(1))
        wait_for(lambda: daemon.command("wallet", "receive", sales.token(1)), 10)
        ours, other = [], []
        for _ in range(TOKENS):
            for times, receive in ((ours, lambda token: daemon.command("wallet", "receive", token)), (other, theirs.receive)):
                token = sales.token(1023)
                started = time.monotonic()
                receive(token)
                times.append(time.monotonic() - started)
    here, there = statistics.median(ours), statistics.median(other)
    return [(f"receive a token of 10 proofs, ours / nutshell's wallet, p50 of {TOKENS}", f"{1000 * here:.0f} / {1000 * there:.0f} ms", "faster", here < there)]


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]

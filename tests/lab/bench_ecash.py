"""Parts of `make bench` about ecash: from a token to the gate, many guests at once, `/usage` of many routers, our
wallet beside another.
"""

import concurrent.futures
import contextlib
import statistics
import time

from .bench_sessions import addresses, mac, send_from_each
from .bench_table import Row, Stopwatch, both, cpu_seconds, p95, say, tried
from .daemon import PORTAL_PORT, Daemon, Mint
from .fault_mint import FaultMint
from .guest import ROUTER4
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .other_wallets import Cashu
from .place import wait_for
from .purse import Customers
from .tollgate_client import TOLLGATE

STEP = 60_000
POSTS = 60
CROWD = 250
WITHIN = 1.5
"""Seconds in which all of them pay."""
FEW, MANY, SALES = 10, 4000, 30
ASKERS = 250
"""Who asks for its use once a second; as guests of this lab, ten at each of 25."""
EACH = 10
SECONDS = 30
TOKENS = 8


class WatchedMint(FaultMint):
    """Knows how long it was at work, so that its share can be taken off."""

    busy = 0.0

    def handle(self, request) -> None:
        started = time.monotonic()
        try:
            super().handle(request)
        finally:
            self.busy += time.monotonic() - started


def access() -> list[Row]:
    """Each try in a lab of its own: an address that another device had a moment ago is looked into for a quarter of a
    second.
    """
    return tried(lambda: at_a_shop(1, token_to_gate))


def crowd() -> list[Row]:
    return at_a_shop(CROWD, all_at_once)


def usage() -> list[Row]:
    return at_a_shop(ASKERS // EACH, use_asked)


def at_a_shop(guests: int, measure) -> list[Row]:
    with Lab(guests=guests) as lab, WatchedMint(lab.internet, MINT4) as mint:
        with Daemon(lab, [Mint(mint.url)], main={"log_level": "info"}, venue={"step_size": STEP}) as daemon:
            return measure(lab, Customers(lab, mint, daemon, STEP))


def token_to_gate(lab: Lab, sales: Customers) -> list[Row]:
    """Each time a guest who was never here before, who then buys once more. The answer comes when the gate is open."""
    first, again = [], []
    for number in range(POSTS + 2):
        lab.guest.become_stranger()
        lab.guest.get(TOLLGATE + "/whoami")
        for times in (first, again):
            times.append(sale(lab, sales, 100 + number))
        say(f"guest {number} of {POSTS}")
    # The first ones fetch the mint's terms.
    return [
        *sale_rows("token posted -> gate open", first[2:]),
        *sale_rows("top-up posted -> gate open for longer", again[2:]),
    ]


def sale(lab: Lab, sales: Customers, amount: int) -> tuple[float, float, float, float]:
    """Seconds in all, without the mint's share, without waits for a processor besides, and the daemon's processor
    time.
    """
    token = sales.token(amount)
    before, used = sales.mint.busy, cpu_seconds(sales.daemon)
    with Stopwatch(sales.daemon) as watch:
        answer = sales.post(lab.guest, token)
    used = cpu_seconds(sales.daemon) - used
    if answer.status != 200 or lab.guest.mac not in sales.daemon.paid_macs():
        raise RuntimeError(answer.text)
    whole = watch.took
    watch.without(sales.mint.busy - before)
    return whole, watch.took, watch.own, used


def sale_rows(what: str, times: list[tuple[float, float, float, float]]) -> list[Row]:
    whole, took, own, _ = (list(each) for each in zip(*times))
    kept = statistics.median(own) < 0.008 and p95(own) < 0.015
    return [
        Row(f"{what}, p50 / p95 of {len(times)}", both(whole)),
        Row("... without the mint's share", both(took)),
        Row("... and without waits for a processor", both(own), "8 / 15 ms", kept),
    ]


def many() -> list[Row]:
    return at_a_shop(1, beside_many)


def beside_many(lab: Lab, sales: Customers) -> list[Row]:
    """What a sale takes of the processor beside few sessions and beside many, each of which has sent packets."""
    costs, made = [], 0
    for count in (FEW, MANY):
        for number in range(made, count):
            answer = sales.daemon.control({"command": "grant", "args": [mac(number), "10h"]})
            assert answer["ok"], answer
            say(f"session {number + 1} of {MANY}")
        made = count
        send_from_each(lab, count)
        wait_for(lambda: addresses(lab) >= count, 30, "the kernel knows every guest's address")
        time.sleep(3)
        times = []
        for number in range(SALES):
            lab.guest.become_stranger()
            lab.guest.get(TOLLGATE + "/whoami")
            times.append(sale(lab, sales, 100 + number)[3])
            say(f"sale {number + 1} of {SALES}")
        costs.append(statistics.median(times))
    few, many = costs
    return [
        Row(
            f"processor time of a sale beside {MANY:,} sessions, against {FEW} ({1000 * few:.1f} ms), p50",
            f"{many / few:.2f} x",
            "1.2 x",
            many <= 1.2 * few,
        )
    ]


def all_at_once(lab: Lab, sales: Customers) -> list[Row]:
    tokens = [sales.token(100 + number) for number in range(CROWD)]
    for guest in lab.guests:
        guest.get(TOLLGATE + "/whoami")
    before = sales.mint.busy
    started = time.monotonic()

    def served(number: int) -> float:
        time.sleep(WITHIN * number / CROWD)
        sales.buy(lab.guests[number], tokens[number], 60)
        return time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        took = list(pool.map(served, range(CROWD)))
    busy = sales.mint.busy - before
    sales.check()
    served_all = len(took) == CROWD == len(sales.daemon.paid_macs())
    return [
        Row(
            f"{CROWD} guests pay within {WITHIN} s: half of them / all are served",
            f"{statistics.median(took):.1f} / {max(took):.1f} s",
            "all",
            served_all,
        ),
        Row("... all, without the mint's share", f"{max(took) - busy:.1f} s", "2 s", max(took) - busy <= 2),
    ]


def use_asked(lab: Lab, sales: Customers) -> list[Row]:
    """All ask in the same instant, again and again: the processor's time for one such second, at its median."""
    daemon = sales.daemon
    for guest in lab.guests:
        daemon.command("grant", guest.mac, "1h")

    def ask(sock) -> None:
        sock.sendall(f"GET /usage HTTP/1.1\r\nHost: {ROUTER4}\r\n\r\n".encode())

    def read(sock) -> None:
        used, _, allotment = sock.recv(4096).partition(b"\r\n\r\n")[2].partition(b"/")
        if not (used.isdigit() and allotment == b"3600000"):
            raise RuntimeError("no session")

    def second(socks) -> float:
        before = cpu_seconds(daemon)
        for sock in socks:
            ask(sock)
        for sock in socks:
            read(sock)
        return cpu_seconds(daemon) - before

    def connected(stack):
        return [stack.enter_context(guest.connect(ROUTER4, PORTAL_PORT)) for guest in lab.guests for _ in range(EACH)]

    with contextlib.ExitStack() as stack:
        socks = connected(stack)
        kept = statistics.median(second(socks) for _ in range(SECONDS))
    anew = []
    for _ in range(SECONDS):
        before = cpu_seconds(daemon)
        with contextlib.ExitStack() as stack:
            second(connected(stack))
        time.sleep(0.1)
        anew.append(cpu_seconds(daemon) - before)
    return [
        Row(
            f"/usage asked by {ASKERS} once a second, connections kept as clients do: of a core",
            f"{100 * kept:.2f} %",
            "2 %",
            kept < 0.02,
        ),
        Row("... a new connection for each question", f"{100 * statistics.median(anew):.2f} %"),
    ]


def wallets() -> list[Row]:
    """As an operator has it: a command, from its start to its end."""
    with (
        Lab(guests=1) as lab,
        Nutshell(lab.internet, MINT4, dir=lab.path("mint")) as mint,
        Daemon(lab, [Mint(mint.url)]) as daemon,
    ):
        sales = Customers(lab, mint, daemon, STEP)
        theirs = Cashu(lab.internet, mint.url, lab.path("cashu"))
        theirs.receive(sales.token(1))
        wait_for(lambda: daemon.command("wallet", "receive", sales.token(1)), 10)
        ours, other = [], []
        for _ in range(TOKENS):
            for times, receive in (
                (ours, lambda token: daemon.command("wallet", "receive", token)),
                (other, theirs.receive),
            ):
                token = sales.token(1023)
                started = time.monotonic()
                receive(token)
                times.append(time.monotonic() - started)
    here, there = statistics.median(ours), statistics.median(other)
    return [
        Row(
            f"receive a token of 10 proofs, ours / nutshell's wallet, p50 of {TOKENS}",
            f"{1000 * here:.0f} / {1000 * there:.0f} ms",
            "faster",
            here < there,
        )
    ]

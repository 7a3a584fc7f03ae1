"""The cards' part of `make bench`: a tap and a callback at 50 cards tapping, and what 10,000 cards cost.

The till is a client of ours on the router's loopback, the node a stand-in whose own time is taken off a callback's. There is nothing to
hold beside it: no other server of Bolt Cards can be had from PyPI, npm or as a Go module (LNbits has its own as an archive on GitHub only).
"""

import contextlib
import statistics
import sys
import time

from .bolt_card import BoltCard
from .card_shop import CARD_PORT, DOMAIN, LOOPBACK, CardNode, CardShop, callback_path
from .daemon import ADMIN_PORT
from .invoices import Made

CARDS = 50
ROUNDS = 8
EVERY = 0.02
"""Seconds between two taps: each of the 50 cards taps once a second."""
MANY = 10_000


class Timed(CardNode):
    """`took` is its own time for each payment, in turn."""

    def __init__(self, *where, **how) -> None:
        self.took: list[float] = []
        super().__init__(*where, **how)

    def handle(self, request) -> None:
        began = time.monotonic()
        super().handle(request)
        if request.path == "/payinvoice":
            self.took.append(time.monotonic() - began)


class Till:
    """One connection, asked again and again."""

    def __init__(self, lab, port: int = CARD_PORT, headers: str = "") -> None:
        self.sock, self.headers = lab.router.connect(LOOPBACK, port, 30), headers

    def ask(self, path: str, body: str = "", method: str = "GET") -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n{self.headers}{length}\r\n{body}".encode())
        seen = b""
        while not seen.rstrip().endswith(b"}"):
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError(f"the daemon closed the connection after {seen}")
            seen += more
        return seen

    def close(self) -> None:
        self.sock.close()


def cards(lab):
    """Rows of the table."""
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(CardShop(lab, main={"log_level": "info"}, node=Timed))
        made = programmed(shop, CARDS)
        few, callbacks = day(shop, made)
        burst = taps_at_once(shop, made)
        add(shop, MANY - CARDS)
        last = programmed(shop, CARDS)
        many, _ = day(shop, last)
    more = statistics.median(many) / statistics.median(few)
    return [
        (f"a tap, {CARDS} cards tapping once a second, p50 / p95", both(few), "3 ms", p95(few) <= 0.003),
        ("a callback without the node, the same, p50 / p95", both(callbacks), "10 ms", p95(callbacks) <= 0.01),
        (f"a tap, {CARDS} cards in the same instant, p50 / p95", both(burst), "", None),
        (f"a tap at {MANY:,} cards, p50 / p95", both(many), "", None),
        (f"... against {CARDS} cards, p50", f"{more:.2f} x", "1.25 x", more <= 1.25),
    ]


def programmed(shop: CardShop, count: int) -> list[BoltCard]:
    return [shop.card(tx_max=1000, day_max=1_000_000) for _ in range(count)]


def day(shop: CardShop, made: list[BoltCard]) -> tuple[list[float], list[float]]:
    """Every card taps and pays again and again, each on a till of its own. How long taps took, and callbacks but for the node."""
    taps, callbacks = [], []
    for round in range(ROUNDS):
        invoices: list[Made] = [shop.invoice(1 + round) for _ in made]
        due = time.monotonic()
        for card, invoice in zip(made, invoices):
            due += EVERY
            time.sleep(max(0.0, due - time.monotonic()))
            path = card.path()
            with contextlib.closing(Till(shop.lab)) as till:
                began = time.monotonic()
                answer = till.ask(path)
                taps.append(time.monotonic() - began)
                k1 = answer.partition(b'"k1":"')[2][:32].decode()
                own = len(shop.node.took)
                began = time.monotonic()
                paid = till.ask(callback_path(k1, invoice.request))
                took = time.monotonic() - began
            assert b'"OK"' in paid, paid
            while len(shop.node.took) == own:
                time.sleep(0.0005)
            callbacks.append(took - shop.node.took[own])
    return taps, callbacks


def taps_at_once(shop: CardShop, made: list[BoltCard]) -> list[float]:
    """All cards in the same instant; each till's time from then to its answer."""
    times = []
    with contextlib.ExitStack() as stack:
        tills = [stack.enter_context(contextlib.closing(Till(shop.lab))) for _ in made]
        for _ in range(ROUNDS):
            paths = [card.path() for card in made]
            began = time.monotonic()
            for till, path in zip(tills, paths):
                till.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
            for till in tills:
                assert b"withdrawRequest" in till.sock.recv(65536)
                times.append(time.monotonic() - began)
    return times


def add(shop: CardShop, count: int) -> None:
    till = Till(shop.lab, ADMIN_PORT, f"Authorization: Bearer {shop.token}\r\n")
    for number in range(count):
        if number % 100 == 0:  # a connection lives for a minute
            till.close()
            till = Till(shop.lab, ADMIN_PORT, f"Authorization: Bearer {shop.token}\r\n")
            print(f"\r  card {number} of {count} ", end="", file=sys.stderr, flush=True)
        assert b'"card_id"' in till.ask("/api/createboltcard", f'{{"card_name":"{number}","tx_max":10,"day_max":100}}', "POST")
    till.close()
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr)


def both(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.1f} / {1000 * p95(times):.1f} ms"


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]

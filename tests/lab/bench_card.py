"""The cards' part of `make bench`: a tap and a callback at 50 cards tapping, and what 10,000 cards cost.

The till is a client of ours on the router's loopback, the node a stand-in whose own time is taken off a callback's.
The disk's time is not ours either, and other programs' writes are in it: budgets are for a store in memory, with the
number of commits, each of which is one wait for the disk. The same on the disk is shown without a budget, beside what
one wait for it takes. There is nothing to hold beside it: no other server of Bolt Cards can be had from PyPI, npm or
as a Go module (LNbits has its own as an archive on GitHub only).
"""

import contextlib
import os
import time

from .bench_table import Row, Stopwatch, both, cpu_seconds, p95, say, tried
from .bolt_card import BoltCard
from .card_shop import CARD_PORT, DOMAIN, LOOPBACK, CardNode, CardShop, callback_path
from .daemon import ADMIN_PORT
from .invoices import Made
from .namespaces import Lab

MEMORY = "/dev/shm"
CARDS = 50
ROUNDS = 8
EVERY = 0.02
"""Seconds between two taps: each of the 50 cards taps once a second."""
FEW, MANY = 10, 10_000
BATCHES, BATCH = 40, 10
"""Taps whose processor time is looked at: the cheapest of so many batches of so many, as other programs only add to
it.
"""
SYNCS = 100


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


def cards() -> list[Row]:
    with Lab(guests=1, dir=MEMORY) as lab, CardShop(lab, main={"log_level": "info"}, node=Timed) as shop:
        made = programmed(shop, FEW)
        few = tap_cost(shop, made)
        made += programmed(shop, CARDS - FEW)
        rows = tried(lambda: in_memory(shop, made))
        rows += commits(shop, made)
        add(shop, MANY - CARDS)
        more = tap_cost(shop, programmed(shop, FEW)) / few
    rows.append(Row(f"processor time of a tap, {MANY:,} cards against {FEW}", f"{more:.2f} x", "1.25 x", more <= 1.25))
    with Lab(guests=1) as lab, CardShop(lab, main={"log_level": "info"}, node=Timed) as shop:
        return rows + on_disk(shop, programmed(shop, CARDS))


def in_memory(shop: CardShop, made: list[BoltCard]) -> list[Row]:
    taps, callbacks = day(shop, made)
    own_taps, own_callbacks = [tap.own for tap in taps], [callback.own for callback in callbacks]
    return [
        Row(
            f"a tap, {CARDS} cards tapping once a second, store in memory, p50 / p95", both([tap.took for tap in taps])
        ),
        Row("... without waits for a processor", both(own_taps), "3 ms", p95(own_taps) < 0.003),
        Row("a callback without the node, the same, p50 / p95", both([callback.took for callback in callbacks])),
        Row("... without waits for a processor", both(own_callbacks), "10 ms", p95(own_callbacks) < 0.01),
    ]


def commits(shop: CardShop, made: list[BoltCard]) -> list[Row]:
    """One after the other, so that none are shared."""
    counted = [written(shop)]
    k1 = [shop.tap(card)["k1"] for card in made]
    counted.append(written(shop))
    for one in k1:
        assert shop.callback(one, shop.invoice(1).request) == {"status": "OK"}
    counted.append(written(shop))
    tap, callback = ((after - before) / len(made) for before, after in zip(counted, counted[1:]))
    return [
        Row("commits for a tap / a callback", f"{tap:.1f} / {callback:.1f}", "1 / 3", tap <= 1.1 and callback <= 3.1)
    ]


def written(shop: CardShop) -> int:
    return shop.daemon.status()["data"]["store"]["commits"]


def on_disk(shop: CardShop, made: list[BoltCard]) -> list[Row]:
    taps, callbacks = day(shop, made)
    burst = taps_at_once(shop, made)
    syncs = []
    with open(shop.lab.path("sync"), "wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.monotonic()
            os.fsync(file.fileno())
            syncs.append(time.monotonic() - began)
            time.sleep(0.01)
    return [
        Row("on this machine's disk: one wait for it, p50 / p95", both(syncs)),
        Row("... a tap, p50 / p95", both([tap.took for tap in taps])),
        Row("... a callback without the node, p50 / p95", both([callback.took for callback in callbacks])),
        Row(f"... a tap, {CARDS} cards in the same instant, p50 / p95", both(burst)),
    ]


def tap_cost(shop: CardShop, made: list[BoltCard]) -> float:
    """Seconds of the processor."""
    costs = []
    with contextlib.closing(Till(shop.lab)) as till:
        for _ in range(BATCHES):
            paths = [made[number % len(made)].path() for number in range(BATCH)]
            before = cpu_seconds(shop.daemon)
            for path in paths:
                assert b"withdrawRequest" in till.ask(path)
            costs.append((cpu_seconds(shop.daemon) - before) / BATCH)
    return min(costs)


def programmed(shop: CardShop, count: int) -> list[BoltCard]:
    return [shop.card(tx_max=1000, day_max=1_000_000) for _ in range(count)]


def day(shop: CardShop, made: list[BoltCard]) -> tuple[list[Stopwatch], list[Stopwatch]]:
    """Every card taps and pays again and again, each on a till of its own. How long taps took, and callbacks but for
    the node.
    """
    taps, callbacks = [], []
    for round in range(ROUNDS):
        invoices: list[Made] = [shop.invoice(1 + round) for _ in made]
        due = time.monotonic()
        for card, invoice in zip(made, invoices):
            due += EVERY
            time.sleep(max(0.0, due - time.monotonic()))
            path = card.path()
            with contextlib.closing(Till(shop.lab)) as till:
                with Stopwatch(shop.daemon) as tap:
                    answer = till.ask(path)
                k1 = answer.partition(b'"k1":"')[2][:32].decode()
                paid_before = len(shop.node.took)
                with Stopwatch(shop.daemon) as callback:
                    paid = till.ask(callback_path(k1, invoice.request))
            assert b'"OK"' in paid, paid
            while len(shop.node.took) == paid_before:
                time.sleep(0.0005)
            taps.append(tap)
            callback.without(shop.node.took[paid_before])
            callbacks.append(callback)
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
            say(f"card {number} of {count}")
        assert b'"card_id"' in till.ask(
            "/api/createboltcard", f'{{"card_name":"{number}","tx_max":10,"day_max":100}}', "POST"
        )
    till.close()

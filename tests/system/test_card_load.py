"""What strangers may cost: bad taps by the thousand while a good card pays, k1 that nobody was given, and tills that
say nothing.
"""

import contextlib
import os
import socket
import threading
import time

import pytest

from lab.card_shop import CARD_PORT, DOMAIN, LOOPBACK

OK = {"status": "OK"}
FLOOD, GUESSES = 6000, 2000
AT_ONCE = 4
"""Connections of the flood. Each has a few questions out at any time."""
AHEAD = 25


class Flood:
    """So many requests of the paths in turn, and more until it is `enough`; `rate` is how many were answered a
    second.
    """

    def __init__(self, cards, paths: list[str], count: int = FLOOD, enough=lambda: True) -> None:
        self.cards, self.paths, self.count, self.enough = cards, paths, count, enough
        self.answered, self.rate = 0, 0.0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Flood":
        self.cpu, self.began = cpu_seconds(self.cards), time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.enough = lambda: True
        self.thread.join()
        self.rate = self.answered / (time.monotonic() - self.began)
        self.cpu = cpu_seconds(self.cards) - self.cpu

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            socks = [
                stack.enter_context(self.cards.lab.router.connect(LOOPBACK, CARD_PORT, 30)) for _ in range(AT_ONCE)
            ]
            while self.answered < self.count or not self.enough():
                batches = [
                    self.paths[(self.answered + at * AHEAD) % len(self.paths) :][:AHEAD] for at in range(AT_ONCE)
                ]
                for sock, batch in zip(socks, batches):
                    sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode() for path in batch))
                for sock, batch in zip(socks, batches):
                    self._read(sock, len(batch))

    def _read(self, sock: socket.socket, count: int) -> None:
        seen = b""
        while (answers := seen.count(b'"status":"ERROR"')) < count:
            more = sock.recv(65536)
            assert more, seen
            seen += more
        assert answers == count and b"withdrawRequest" not in seen
        self.answered += count


def cpu_seconds(cards) -> float:
    with open(f"/proc/{cards.daemon.process.host_pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bad_taps(card) -> list[str]:
    """Of cards that are not there, with a bad MAC of one that is, with a counter that was there, and of no card at
    all.
    """
    good = card.path(1)
    p = good.partition("p=")[2][:32]
    paths = [f"/ln?card_id={number}&p={p}&c={'0' * 16}" for number in (card.id, 10**9, card.id, -1)]
    return [
        *paths,
        good,
        "/ln",
        f"/ln?card_id={card.id}&p={'F' * 32}&c={'F' * 16}",
        f"/ln?card_id={card.id}&p={'A' * 8000}&c={'F' * 16}",
    ] * AHEAD


def test_good_card_pays_amid_a_thousand_bad_taps_a_second(cards):
    card = cards.card(tx_max=10, day_max=100_000)
    cards.spend(card, cards.invoice(1))
    paths, waits = bad_taps(card), []
    before, memory = cards.daemon.status()["data"]["store"]["commits"], cards.daemon.process.memory_kib()["VmRSS"]
    with Flood(cards, paths, enough=lambda: len(waits) >= 3) as flood:
        while flood.running:
            invoice, began = cards.invoice(1), time.monotonic()
            assert cards.spend(card, invoice) == OK
            waits.append(time.monotonic() - began)
    paid = len(waits)
    commits = cards.daemon.status()["data"]["store"]["commits"] - before
    print(
        f"{flood.rate:.0f} bad taps/s, {1e6 * flood.cpu / flood.answered:.0f} us of processor each, {paid} "
        f"payments, the longest {max(waits):.2f} s"
    )
    assert flood.answered >= FLOOD and max(waits) < 10
    assert flood.cpu / flood.answered < 0.001, (
        "a thousand a second leave room on one processor, even in a build for tests"
    )
    assert commits <= 4 * paid + 2, "a bad tap writes nothing"
    assert cards.daemon.process.memory_kib()["VmRSS"] - memory < 2048
    assert cards.spend(card, cards.invoice(1)) == OK and "refused" not in cards.show(card)


@pytest.mark.parametrize("path", ["/ln/callback?k1={:032x}&pr=lnbcrt1", "/new?a={:032x}"], ids=["k1", "codes"])
def test_guesses_cost_little_and_find_nothing(cards, path):
    card = cards.card()
    k1 = cards.k1(card)
    memory, commits = cards.daemon.process.memory_kib()["VmRSS"], cards.daemon.status()["data"]["store"]["commits"]
    with Flood(cards, [path.format(number) for number in range(1000, 3000)], GUESSES) as flood:
        pass
    assert flood.cpu / GUESSES < 0.002 and cards.daemon.process.memory_kib()["VmRSS"] - memory < 2048
    assert cards.daemon.status()["data"]["store"]["commits"] - commits <= 1
    assert cards.callback(k1, cards.invoice().request) == OK, "of somebody who was given it"


def test_log_does_not_grow_with_bad_taps(cards):
    card = cards.card()
    cards.tap(card)
    before = len(cards.daemon.log())
    with Flood(cards, bad_taps(card), 1000):
        pass
    assert len(cards.daemon.log()) == before


def test_tills_that_say_nothing_keep_no_card_from_paying(cards):
    card = cards.card()
    with contextlib.ExitStack() as stack:
        memory = cards.daemon.process.memory_kib()["VmRSS"]
        for _ in range(300):
            sock = stack.enter_context(cards.lab.router.connect(LOOPBACK, CARD_PORT))
            sock.sendall(b"GET /ln?card_id=1&p=")
        assert cards.spend(card, cards.invoice()) == OK
        assert cards.daemon.process.memory_kib()["VmRSS"] - memory < 300 * 32

"""How often a node is asked what became of a payment: with growing pauses, a few at a time, at once after a start, and
never again when it has an end. The node is a stand-in that counts."""

import threading
import time

import pytest

from lab.place import in_time, wait_for

CARDS = 10
AT_ONCE = 4


class Looks:
    """When the node was asked for each payment hash, and by how many at once."""

    def __init__(self, node) -> None:
        self.times: dict[str, list[float]] = {}
        self.now = self.most = 0
        self.lock, self.look, self.slow = threading.Lock(), node.on_look, 0.05
        node.on_look = self.on_look

    def on_look(self, request, payment_hash) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.times.setdefault(payment_hash, []).append(time.monotonic())
        time.sleep(self.slow)
        # Before the answer: whoever got it may ask again at once.
        with self.lock:
            self.now -= 1
        self.look(request, payment_hash)

    def forget(self) -> None:
        """Begin anew; nothing of a daemon that was killed is under way."""
        assert self.now == 0
        self.times, self.most = {}, 0


@pytest.fixture
def looks(cards):
    made = Looks(cards.node)
    yield made
    del cards.node.on_look


def pending(cards) -> list:
    """Cards with a payment each that the node has not ended."""
    sold = [(cards.card(), cards.invoice()) for _ in range(CARDS)]
    cards.node.next(pay="pending")
    for card, invoice in sold:
        cards.begin(card, invoice)
    cards.wait_for_pending(*sold)
    return sold


def test_lookups_back_off_are_few_at_once_and_begin_anew_at_a_start(cards, looks):
    paid_before = cards.invoice()
    cards.spend(cards.card(), paid_before)
    sold = pending(cards)
    hashes = {invoice.payment_hash for _, invoice in sold}

    wait_for(lambda: min(len(looks.times.get(one, [])) for one in hashes) >= 4, 20, "each was asked for four times")
    for one in hashes:
        # The first look belongs to the payment itself.
        first, *_, before, last = looks.times[one]
        assert last - before > 1 and last - first > 2, "the pauses grow: a half, one, two seconds"
    assert looks.most <= AT_ONCE + CARDS
    cards.kill()
    looks.forget()
    for number, (_, invoice) in enumerate(sold):
        (cards.node.settle if number % 2 else cards.node.fail)(invoice.payment_hash)
    cards.daemon.start()
    began = time.monotonic()
    for number, (card, _) in enumerate(sold):
        cards.wait_for_states(card, "paid" if number % 2 else "failed", limit=5)
    assert looks.most <= AT_ONCE
    assert {one: len(times) for one, times in looks.times.items()} == dict.fromkeys(hashes, 1), (
        "once each, and none that had an end"
    )
    assert max(times[0] for times in looks.times.values()) - began < 20
    assert all(cards.node.asked.count(invoice.request) == 1 for _, invoice in sold)
    time.sleep(2)
    assert sum(map(len, looks.times.values())) == CARDS, "what has an end is not asked for again"


def test_node_that_is_away_at_the_start_is_asked_until_it_is_back(cards, looks):
    sold = pending(cards)
    cards.kill()
    cards.node.close()
    looks.forget()
    for _, invoice in sold:
        cards.node.settle(invoice.payment_hash)
    cards.daemon.start()
    time.sleep(1.5)
    for card, _ in sold:
        assert cards.states(card) == ["pending"] and cards.show(card)["spent_today_msat"] == 21_000
    cards.node.open()
    for card, _ in sold:
        cards.wait_for_states(card, "paid")
    assert looks.most <= AT_ONCE
    assert all(cards.node.asked.count(invoice.request) == 1 for _, invoice in sold)


def pays(cards) -> None:
    assert cards.spend(cards.card(), cards.invoice()) == {"status": "OK"}


def test_slow_node_does_not_keep_a_new_payment_waiting(cards, looks):
    looks.slow = 0.4
    sold = pending(cards)
    cards.node.next()
    in_time(2, lambda: pays(cards))
    for _, invoice in sold:
        cards.node.settle(invoice.payment_hash)
    for card, _ in sold:
        cards.wait_for_states(card, "paid")
    assert looks.most <= AT_ONCE + CARDS

"""What takes a minute: a node that says nothing, and one that cannot be proven to have sent nothing before the invoice
is over.
"""

import threading
import time

from lab.card_shop import Waiting, callback_path
from lab.http_server import Cut

LIFE = 45
"""Seconds of an invoice; one that ends within 30 is not paid."""


def test_silence_is_no_failure_and_what_was_never_sent_comes_back_once_its_invoice_is_over(cards):
    """Both side by side, as both need their time."""
    silent, forgotten = cards.card(day_max=1000), cards.card(day_max=1000)
    arrived = threading.Event()

    def cut() -> None:
        arrived.set()
        raise Cut

    cards.node.when("arrived", cut)
    k1 = cards.k1(forgotten)
    paid, never = cards.invoice(600), cards.invoice(600, expiry=LIFE)
    ends = time.time() + LIFE
    tills = [Waiting(cards, callback_path(k1, never.request))]
    assert arrived.wait(60)
    cards.wait_for_states(forgotten, "pending")
    cards.node.next(pay="paid", fault="hang")
    tills.append(cards.begin(silent, paid))
    assert [till.answer() for till in tills] == [{"status": "OK"}] * 2 and max(till.seconds for till in tills) < 20
    for card in (silent, forgotten):
        assert cards.states(card) == ["pending"] and cards.show(card)["spent_today_msat"] == 600_000
    cards.wait_for_states(silent, "paid", limit=60)
    assert cards.node.asked == [paid.request]
    cards.wait_for_states(forgotten, "failed", limit=60)
    assert ends <= time.time() <= ends + 60 and cards.show(forgotten)["spent_today_msat"] == 0
    (line,) = cards.history(forgotten)
    assert line["note"] == "never sent"

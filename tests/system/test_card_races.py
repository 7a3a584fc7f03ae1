"""Everything at once, and `kill -9` between any two steps: a tap is one withdraw request, a withdraw request one
payment.
"""

import contextlib
import threading

import pytest

from lab.bolt_card import BoltCard
from lab.card_shop import callback_path
from lab.crash import at_commit
from lab.place import wait_for

OK = {"status": "OK"}
ROUNDS = 3


# At once


def test_fifty_taps_at_once_are_one_withdraw_request(cards):
    card = cards.card()
    for _ in range(ROUNDS):
        answers = cards.at_once([card.path()] * 50)
        assert sum(answer.get("tag") == "withdrawRequest" for answer in answers) == 1


def test_taps_of_many_counters_at_once_only_count_up(cards):
    card = cards.card()
    answers = cards.at_once([card.path(counter) for counter in reversed(range(1, 51))])
    granted = [answer["k1"] for answer in answers if "k1" in answer]
    counters = [line["counter"] for line in reversed(cards.history(card))]
    assert len(granted) == len(counters) >= 1 and counters == sorted(set(counters))
    assert cards.show(card)["counter"] == counters[-1] == 50


def test_fifty_callbacks_with_different_invoices_are_one_payment(cards):
    card = cards.card()
    for _ in range(ROUNDS):
        invoices = [cards.invoice(1).request for _ in range(50)]
        k1 = cards.k1(card)
        answers = cards.at_once([callback_path(k1, invoice) for invoice in invoices])
        assert answers.count(OK) == 1 and sum(cards.node.asked.count(invoice) for invoice in invoices) == 1
        assert cards.node.asked[-1] == invoices[answers.index(OK)]
    assert cards.show(card)["spent_today_msat"] == ROUNDS * 1000


def test_fifty_callbacks_with_one_invoice_are_one_payment_and_fifty_ok(cards):
    card, invoice = cards.card(), cards.invoice()
    answers = cards.at_once([callback_path(cards.k1(card), invoice.request)] * 50)
    assert answers == [OK] * 50 and cards.node.asked.count(invoice.request) == 1


def test_one_invoice_on_ten_cards_at_once_is_paid_by_one(cards):
    made, invoice = [cards.card() for _ in range(10)], cards.invoice()
    answers = cards.at_once([callback_path(cards.k1(card), invoice.request) for card in made])
    assert answers.count(OK) == 1 and cards.node.asked.count(invoice.request) == 1
    assert sorted(cards.show(card)["spent_today_msat"] for card in made) == [0] * 9 + [21_000]


@pytest.mark.parametrize("day_max, paid", [(1000, 1), (1999, 1), (3000, 3)])
def test_taps_at_the_full_day_limit_at_once_stay_within_it(cards, day_max, paid):
    card = cards.card(day_max=day_max)
    waiting = [callback_path(cards.k1(card), cards.invoice(1000).request) for _ in range(6)]
    asked = len(cards.node.asked)
    answers = cards.at_once(waiting)
    assert answers.count(OK) == paid == len(cards.node.asked) - asked
    assert cards.show(card)["spent_today_msat"] == paid * 1_000_000


def test_card_disabled_amid_many_callbacks_pays_nothing_afterwards(cards):
    card = cards.card()
    waiting = [callback_path(cards.k1(card), cards.invoice(1).request) for _ in range(30)]
    disabled = threading.Event()

    def disable() -> None:
        cards.do(card, "disable")
        disabled.set()

    threading.Thread(target=disable, daemon=True).start()
    cards.at_once(waiting)
    assert disabled.wait(60)
    asked = len(cards.node.asked)
    assert all(answer["status"] == "ERROR" or path in waiting for answer, path in zip(cards.at_once(waiting), waiting))
    assert len(cards.node.asked) == asked


# Killed


@pytest.fixture
def fresh(cards):
    """Its journal is empty, so that commits show."""
    cards.daemon.restart()
    return cards


def revive(cards) -> None:
    if not cards.daemon.running:
        cards.daemon.start()


def killed(cards, path: str, arm, by: str = "kill") -> dict | None:
    """The answer, if one came; `arm(kill)` says when the daemon dies. It runs again afterwards."""
    dying = threading.Lock()

    def kill() -> None:
        with dying:
            getattr(cards.daemon, by)()

    dead, answer = arm(kill), None
    with contextlib.suppress(OSError):
        answer = cards.ask(path)
    assert dead.wait(60), "the moment never came"
    cards.node.wait_quiet()
    revive(cards)
    return answer


BEFORE_SENT = [(1, 0.0), (1, 0.0002), (1, 0.0005), (2, 0.0)]
"""The commits of a payment: reserved, sent, paid. Which has begun when the daemon dies, and how long ago (s)."""
AFTER_SENT = [(2, 0.0005), (2, 0.001), (2, 0.002), (3, 0.0), (3, 0.001)]


@pytest.mark.parametrize("number, after", BEFORE_SENT + AFTER_SENT)
def test_killed_around_a_commit_a_payment_is_made_at_most_once_and_the_limit_holds(fresh, number, after):
    check(fresh, lambda kill: at_commit(fresh.daemon, number, kill, after, limit=2))


@pytest.mark.parametrize("end", ["paid", "pending", "failed"])
@pytest.mark.parametrize("moment", ["arrived", "done", "answered"])
def test_killed_while_the_node_has_the_payment_it_is_looked_up_and_never_sent_again(cards, moment, end):
    check(cards, lambda kill: cards.node.when(moment, kill), end)


def test_stopped_while_the_node_has_the_payment_it_is_looked_up_at_the_next_start(cards):
    check(cards, lambda stop: cards.node.when("done", stop), by="stop")


def check(cards, arm, end: str = "paid", by: str = "kill") -> None:
    """A payment of 600 with a limit of 1000, killed in the middle; then the till asks again, and tries another
    invoice.
    """
    card, invoice = cards.card(day_max=1000), cards.invoice(600)
    cards.node.next(pay=end)
    k1 = cards.k1(card)
    path = callback_path(k1, invoice.request)
    answer = killed(cards, path, arm, by)
    asked = lambda: cards.node.asked.count(invoice.request)
    spent = lambda: cards.show(card)["spent_today_msat"]
    if cards.states(card) == ["tapped"]:
        assert answer is None and asked() == 0, "nothing of it was written"
        assert cards.ask(path)["status"] == ("ERROR" if end == "failed" else "OK")
    if end == "pending" and asked():
        assert spent() == 600_000
        cards.node.settle(invoice.payment_hash)
    if asked():
        ends = "failed" if end == "failed" else "paid"
        cards.wait_for_states(card, ends)
        assert spent() == (0 if ends == "failed" else 600_000)
        assert cards.ask(path) == (OK if ends == "paid" else {"status": "ERROR", "reason": "the payment failed"})
    else:
        # Reserved only: proven never sent. Sent, it seems: counts until its invoice is over.
        assert cards.states(card) in (["failed"], ["pending"]) and answer is None
        assert spent() == (0 if cards.states(card) == ["failed"] else 600_000)
    assert asked() <= 1
    assert cards.callback(k1, cards.invoice(1).request)["status"] == "ERROR", "a used k1 takes no other invoice"
    before = asked()
    cards.node.next()
    over = cards.spend(card, cards.invoice(1000))
    assert (over == OK) == (spent() == 1_000_000), "what is spent or unknown counts, and nothing else"
    assert asked() == before
    cards.kill()
    revive(cards)
    assert asked() == before


@pytest.mark.parametrize("after", [0.0, 0.0003, 0.001])
def test_killed_during_a_tap_it_is_granted_at_most_once(fresh, after):
    card = fresh.card()
    path = card.path()
    answer = killed(fresh, path, lambda kill: at_commit(fresh.daemon, 1, kill, after, limit=2))
    again = [fresh.ask(path) for _ in range(2)]
    granted = sum("k1" in one for one in [answer or {}, *again])
    assert granted <= 1
    assert granted == len(fresh.history(card)) or (answer is None and granted == 0 and len(fresh.history(card)) == 1)
    assert fresh.tap(card)["tag"] == "withdrawRequest"


@pytest.mark.parametrize("after", [0.0, 0.001])
def test_killed_while_the_keys_are_handed_out_they_are_handed_out_at_most_once(fresh, after):
    order = fresh.order()
    answer = killed(fresh, order.path, lambda kill: at_commit(fresh.daemon, 1, kill, after, limit=2))
    again = [fresh.ask(order.path) for _ in range(2)]
    assert sum("k0" in one for one in [answer or {}, *again]) <= 1
    made = fresh.api("POST", f"/admin/cards/{order.card_id}/reprogram").json()
    card = BoltCard(fresh.ask("/new?" + made["url"].partition("?")[2]))
    assert fresh.spend(card, fresh.invoice()) == OK


def test_killed_again_and_again_while_payments_are_looked_up_all_come_to_their_end(cards):
    made = [(cards.card(), cards.invoice()) for _ in range(6)]
    cards.node.next(pay="pending")
    for card, invoice in made:
        cards.begin(card, invoice)
    cards.wait_for_pending(*made)
    for _ in range(3):
        cards.daemon.kill()
        revive(cards)
        assert [cards.states(card) for card, _ in made] == [["pending"]] * 6
    for number, (_, invoice) in enumerate(made):
        (cards.node.settle if number % 2 else cards.node.fail)(invoice.payment_hash)
    for number, (card, invoice) in enumerate(made):
        cards.wait_for_states(card, "paid" if number % 2 else "failed")
        assert cards.node.asked.count(invoice.request) == 1
    wait_for(lambda: cards.daemon.status()["ok"], 5)

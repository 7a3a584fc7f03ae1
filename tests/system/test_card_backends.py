"""What becomes of a card's payment when the node answers late, wrongly, or not at all: the till hears within 4 s, the
history says in the end what is true, and nothing is ever paid twice. Runs over a stand-in; each real node's own ways
are in `test_lightning*.py`."""

import threading
import time
from urllib.parse import quote

import pytest

from lab.card_shop import LOOPBACK, CardNode, Waiting, callback_path
from lab.place import wait_for

OK = {"status": "OK"}
FAILED = {"status": "ERROR", "reason": "the payment failed"}
TILL_WAITS = 5
"""Seconds after which LNbits' own till gives up; the daemon means to answer within 4."""
TILL_IS_KEPT = 3.5
"""Seconds that the daemon waits for a payment's end before it says "OK, on its way". A till's own watch starts before
the daemon's.
"""


def spend_in_time(cards, card, invoice) -> dict:
    k1 = cards.k1(card)
    began = time.monotonic()
    answer = cards.callback(k1, invoice.request)
    assert time.monotonic() - began < TILL_WAITS
    return answer


@pytest.mark.parametrize(
    "fault",
    [
        "cut",
        "truncate",
        "garbage",
        "gateway",
        "error",
        "oversized",
        "redirect",
        "wrong-preimage",
        "no-preimage",
        "other-hash",
    ],
)
def test_answer_that_is_lost_or_wrong_after_paying_is_ok_and_paid_in_the_history(cards, fault):
    card, invoice = cards.card(day_max=1000), cards.invoice(600)
    cards.node.next(pay="paid", fault=fault)
    assert spend_in_time(cards, card, invoice) == OK
    cards.wait_for_states(card, "paid")
    assert cards.node.asked.count(invoice.request) == 1
    assert cards.show(card)["spent_today_msat"] == 600_000
    assert cards.spend(card, cards.invoice(500))["status"] == "ERROR"


def test_pending_payment_counts_until_it_has_ended(cards):
    cards.node.next(pay="pending")
    ends = {"paid": cards.node.settle, "failed": cards.node.fail}
    sold = {end: (cards.card(day_max=1000), cards.invoice(600)) for end in ends}
    tills = {end: cards.begin(*sold[end]) for end in ends}
    cards.wait_for_pending(*sold.values())
    cards.node.next()
    for card, _ in sold.values():
        assert cards.show(card)["spent_today_msat"] == 600_000
        assert cards.spend(card, cards.invoice(401))["status"] == "ERROR"
    for end, (card, invoice) in sold.items():
        assert tills[end].answer() == OK and TILL_IS_KEPT <= tills[end].seconds < TILL_WAITS, (
            "it may have ended while the till waited"
        )
        ends[end](invoice.payment_hash)
    for end, (card, invoice) in sold.items():
        cards.wait_for_states(card, "tapped", end)
        assert cards.show(card)["spent_today_msat"] == (600_000 if end == "paid" else 0)
        assert cards.node.asked.count(invoice.request) == 1


def test_same_callback_is_answered_alike_while_the_payment_is_under_way_and_after_it(cards):
    card, invoice = cards.card(), cards.invoice()
    cards.node.next(pay="pending")
    k1, ended = cards.k1(card), threading.Event()
    path = callback_path(k1, invoice.request)
    # The node answers when it has failed: looks at what is pending have pauses that might outlast the tills.
    cards.node.when("done", ended.wait)
    tills = [Waiting(cards, path) for _ in range(5)]
    cards.wait_for_pending((card, invoice))
    assert cards.callback(k1, cards.invoice().request)["status"] == "ERROR"
    cards.node.fail(invoice.payment_hash)
    ended.set()
    answers = [till.answer() for till in tills]
    assert all(
        answer == FAILED or (answer == OK and till.seconds >= TILL_IS_KEPT) for answer, till in zip(answers, tills)
    ), [(answer, till.seconds) for answer, till in zip(answers, tills)]
    cards.wait_for_states(card, "failed")
    assert [cards.ask(path) for _ in range(5)] == [FAILED] * 5 and cards.node.asked.count(invoice.request) == 1


def test_same_card_tapped_again_for_the_invoice_that_it_pays_hears_ok(cards):
    card, other, invoice = cards.card(day_max=1000), cards.card(), cards.invoice(600)
    cards.node.next(pay="pending")
    till = cards.begin(card, invoice)
    cards.wait_for_pending((card, invoice))
    assert cards.spend(card, invoice) == OK, "whatever is left of the day's limit"
    assert cards.spend(other, invoice) == {"status": "ERROR", "reason": "another tap has this invoice already"}
    assert cards.spend(card, cards.invoice(600))["status"] == "ERROR"
    cards.node.settle(invoice.payment_hash)
    assert till.answer() == OK
    cards.wait_for_states(card, "tapped", "tapped", "paid")
    assert cards.spend(card, invoice)["status"] == "ERROR", "once it is paid"
    assert cards.node.asked.count(invoice.request) == 1 and cards.show(card)["spent_today_msat"] == 600_000


@pytest.mark.parametrize("written", ["lightning:{}", "LIGHTNING:{}", "lightning://{}", " {} ", "({})."])
def test_invoice_is_taken_as_wallets_write_it(cards, written):
    card, invoice = cards.card(), cards.invoice()
    assert cards.callback(cards.k1(card), quote(written.format(invoice.request))) == OK
    cards.wait_for_states(card, "paid")
    assert cards.node.asked.count(invoice.request) == 1


def test_proven_failure_is_told_and_the_money_is_free_at_once(cards):
    card, invoice = cards.card(day_max=1000), cards.invoice(1000)
    cards.node.next(pay="failed")
    k1 = cards.k1(card)
    assert cards.callback(k1, invoice.request) == FAILED
    assert cards.callback(k1, invoice.request) == FAILED, "the same question, the same answer"
    (line,) = cards.history(card)
    assert line["state"] == "failed" and line["note"] and cards.show(card)["spent_today_msat"] == 0
    assert cards.node.asked.count(invoice.request) == 1
    cards.node.next()
    assert cards.spend(card, invoice) == OK, "the same invoice, tapped anew"
    assert cards.states(card) == ["paid", "failed"]


def test_already_paid_is_looked_up_and_believed_only_with_its_preimage(cards):
    """Somebody paid the till's invoice from the same node before."""
    card, invoice = cards.card(), cards.invoice()
    cards.node.pay(invoice.request)
    assert spend_in_time(cards, card, invoice) == OK
    cards.wait_for_states(card, "paid")
    assert cards.node.times_paid(invoice.payment_hash) == 1


def test_node_that_is_away_was_never_asked_and_costs_nothing(cards):
    card, invoice = cards.card(), cards.invoice()
    cards.node.close()
    try:
        assert spend_in_time(cards, card, invoice) == FAILED
        assert cards.states(card) == ["failed"] and cards.show(card)["spent_today_msat"] == 0
    finally:
        cards.node.open()
    assert cards.spend(card, invoice) == OK


def test_node_that_goes_away_in_the_middle_is_asked_until_it_is_back(cards):
    card, invoice = cards.card(), cards.invoice()
    gone = cards.node.when("done", cards.node.close)
    till = cards.begin(card, invoice)
    assert gone.wait(60)
    wait_for(lambda: cards.states(card) == ["pending"], 5)
    time.sleep(1)
    assert cards.states(card) == ["pending"], "looks that nobody answers prove nothing"
    cards.node.open()
    cards.wait_for_states(card, "paid")
    assert till.answer() == OK
    assert cards.node.asked.count(invoice.request) == 1


def test_till_that_goes_away_changes_nothing(cards):
    card, invoice = cards.card(), cards.invoice()
    path = callback_path(cards.k1(card), invoice.request)
    gone = threading.Event()
    cards.node.when("arrived", gone.wait)
    sock = cards.lab.router.connect(LOOPBACK, 2124)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_for(lambda: cards.states(card) == ["pending"], 5)
    sock.close()
    gone.set()
    cards.wait_for_states(card, "paid")
    assert cards.ask(path) == OK and cards.node.asked.count(invoice.request) == 1


def test_reload_changes_the_backend_and_loses_no_payment_in_flight(cards):
    """Each payment is looked up where it was sent, also after a restart and with the old secret's file gone."""
    card, first, second = cards.card(), cards.invoice(), cards.invoice()
    cards.node.next(pay="pending")
    lightning = cards.daemon.sections["lightning"]
    with CardNode(cards.lab.router, LOOPBACK) as other:
        other.password = "0" * 64
        other.know(second.request, second.payment_hash, second.preimage, 21_000)
        other.know(first.request, first.payment_hash, first.preimage, 21_000)
        try:
            cards.begin(card, first)
            cards.wait_for_pending((card, first))
            cards.daemon.sections["lightning"] = {
                "type": "phoenixd",
                "url": other.url,
                "password_file": cards.secret("other", other.password),
            }
            cards.daemon.write_config()
            cards.daemon.command("reload")
            assert cards.spend(card, second) == OK
            assert (cards.node.asked.count(second.request), other.asked) == (0, [second.request])
            cards.secret("phoenixd", "gone")
            cards.daemon.restart()
            assert cards.states(card) == ["paid", "pending"]
            cards.node.settle(first.payment_hash)
            cards.wait_for_states(card, "paid", "paid")
            assert other.asked == [second.request] and cards.node.asked.count(first.request) == 1
            assert not other.complaints
        finally:
            cards.daemon.sections["lightning"] = lightning
            cards.secret("phoenixd", CardNode.password)
            cards.daemon.write_config()
            cards.daemon.command("reload")
    assert cards.spend(card, cards.invoice()) == OK


def test_without_a_backend_nothing_is_paid_and_no_tap_used_up(cards):
    card, invoice = cards.card(), cards.invoice()
    k1 = cards.k1(card)
    try:
        cards.secret("phoenixd", "")
        cards.daemon.command("reload")
        assert cards.callback(k1, invoice.request) == {"status": "ERROR", "reason": "cards cannot pay at the moment"}
    finally:
        cards.secret("phoenixd", CardNode.password)
        cards.daemon.command("reload")
    assert cards.callback(k1, invoice.request) == OK


# Several nodes, tried in their order


class Two:
    """The shop's node, and another that is tried after it."""

    def __init__(self, cards, other) -> None:
        self.cards, self.other = cards, other
        other.password = "0" * 64
        self.section = {
            "type": "phoenixd",
            "url": other.url,
            "password_file": cards.secret("other", other.password),
        }
        self.configure(True)

    def configure(self, on: bool) -> None:
        sections = self.cards.daemon.sections
        sections.pop("lightning second", None)
        if on:
            sections["lightning second"] = self.section
        self.cards.daemon.write_config()
        self.cards.daemon.command("reload")

    def invoice(self):
        made = self.cards.invoice()
        self.other.know(made.request, made.payment_hash, made.preimage, 21_000)
        return made


@pytest.fixture(name="two")
def two_nodes(cards):
    with CardNode(cards.lab.router, LOOPBACK) as other:
        made = Two(cards, other)
        try:
            yield made
            assert not other.complaints
        finally:
            cards.secret("phoenixd", CardNode.password)
            made.configure(False)


def test_second_node_pays_what_the_first_does_not_take_on(two):
    cards, card, invoice = two.cards, two.cards.card(), two.invoice()
    cards.secret("phoenixd", "1" * 64)
    cards.daemon.command("reload")
    assert cards.spend(card, invoice) == OK
    assert (cards.node.asked.count(invoice.request), two.other.asked) == (0, [invoice.request])
    assert cards.states(card) == ["paid"]
    cards.secret("phoenixd", CardNode.password)
    cards.daemon.command("reload")
    later = two.invoice()
    assert cards.spend(card, later) == OK
    assert (cards.node.asked.count(later.request), two.other.asked) == (1, [invoice.request])


def test_second_node_never_gets_what_the_first_may_have(two):
    cards, card, invoice = two.cards, two.cards.card(), two.invoice()
    cards.node.next(pay="pending", fault="cut")
    cards.begin(card, invoice)
    cards.wait_for_pending((card, invoice))
    cards.daemon.sections["lightning"], kept = two.section, cards.daemon.sections["lightning"]
    try:
        cards.daemon.write_config()
        cards.daemon.command("reload")
        cards.daemon.kill()
        cards.daemon.start()
        assert cards.states(card) == ["pending"]
        cards.node.settle(invoice.payment_hash)
        cards.wait_for_states(card, "paid")
    finally:
        cards.daemon.sections["lightning"] = kept
    assert (cards.node.asked.count(invoice.request), two.other.asked) == (1, [])


def test_second_node_does_not_get_what_the_first_could_not_pay(two):
    cards, card, invoice = two.cards, two.cards.card(), two.invoice()
    cards.node.next(pay="failed")
    assert cards.spend(card, invoice) == FAILED
    assert two.other.asked == [] and cards.states(card) == ["failed"]


def test_all_nodes_are_tried_out_by_the_command(two):
    data = two.cards.daemon.data("lightning", "test")
    assert data["url"] == two.cards.node.url and data["tested"]["answers"]["ok"]
    assert [(one["url"], one["tested"]["may_pay"]["ok"]) for one in data["next"]] == [(two.other.url, True)]
    two.cards.secret("other", "2" * 64)
    done = two.cards.daemon.command("lightning", "test", check=False)
    assert done.code == 1 and done.out.count("phoenixd at http://") == 2 and "the password is refused" in done.out

"""A card at a till: what a tap is answered, which invoices are paid, and within which limits. The card and the till
are ours, the node a stand-in; `test_card_backends.py` has the node misbehave, `test_card_races.py` has everything come
at once."""

import os
import time

import pytest

from lab.bolt_card import cmac, message
from lab.card_shop import CARD_PORT, DOMAIN, callback_path
from lab.guest import ROUTER4
from lab.invoices import make

OK = {"status": "OK"}
UNREADABLE = "this card could not be read; please tap again"
SPENT = "this tap is used or too old; please tap again"
OVER_TAP = "the amount is above the card's limit for one payment"
OVER_DAY = "the amount is above what the card may still spend today"
FAILED = "the payment failed"


def error(reason: str) -> dict:
    return {"status": "ERROR", "reason": reason}


# The tap


def test_tap_is_answered_with_a_withdraw_request(cards):
    card = cards.card(tx_max=1234)
    answer = cards.get(card.path())
    asked = answer.json()
    assert len(bytes.fromhex(asked.pop("k1"))) == 16
    assert asked == {
        "tag": "withdrawRequest", "callback": f"https://{DOMAIN}/ln/callback", "defaultDescription": "Bolt Card",
        "minWithdrawable": 1000, "maxWithdrawable": 1_234_000,
    }
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*", "tills that are web pages ask too"


def test_guests_of_the_router_tap_on_its_own_port(cards):
    card, invoice = cards.card(), cards.invoice()
    asked = cards.lab.guest.get(f"http://{ROUTER4}:2121{card.path()}").json()
    assert asked["tag"] == "withdrawRequest"
    assert cards.lab.guest.get(f"http://{ROUTER4}:2121{callback_path(asked['k1'], invoice.request)}").json() == OK
    assert cards.node.asked[-1] == invoice.request


def test_hex_is_read_in_either_case(cards):
    card = cards.card()
    for change in (str.lower, str.upper):
        path = card.path()
        start = path.index("p=") + 2
        p, c = path[start : start + 32], path[-16:]
        assert cards.ask(path.replace(p, change(p)).replace(c, change(c)))["tag"] == "withdrawRequest"


def test_before_the_mac_every_fault_has_the_same_answer_and_changes_nothing(cards):
    card, other = cards.card(), cards.card()
    used = card.path()
    assert cards.ask(used)["tag"] == "withdrawRequest"
    k1, k2 = card.keys[1:3]
    link = f"/ln?card_id={card.id}"
    p, c = message(k1, k2, card.uid, 2)
    wrong_tag, stranger = message(k1, k2, card.uid, 2, tag=0xC6), message(k1, k2, os.urandom(7), 2)
    signs_more = (
        p,
        cmac(cmac(k2, bytes.fromhex("3cc300010080") + card.uid + b"\x02\0\0"), f"{p}&cmac=".encode())[1::2].hex(),
    )
    faults = [
        used,
        f"{link}&p={p}&c={'0' * 16}",
        f"{link}&p={'0' * 32}&c={c}",
        f"/ln?card_id={other.id}&p={p}&c={c}",
        f"/ln?card_id=99999999&p={p}&c={c}",
        f"/ln?card_id=-1&p={p}&c={c}",
        f"/ln?card_id={'9' * 40}&p={p}&c={c}",
        f"/ln?card_id=one&p={p}&c={c}",
        f"/ln?p={p}&c={c}",
        f"{link}&p={p}",
        f"{link}&c={c}",
        link,
        "/ln",
        "/ln?",
        f"{link}&p={p[:-1]}&c={c}",
        f"{link}&p={p}00&c={c}",
        f"{link}&p={p}&c={c}00",
        f"{link}&p={p[:-1]}g&c={c}",
        f"{link}&p=%00{p}&c={c}",
        f"{link}&p={p}&c={c[:-2]}%C3%A9",
        f"{link}&p={c}&c={p}",
        f"{link}&p={wrong_tag[0]}&c={wrong_tag[1]}",
        f"{link}&p={stranger[0]}&c={stranger[1]}",
        f"{link}&p={signs_more[0]}&c={signs_more[1]}",
        card.path(0),
        card.path(1),
    ]
    answers = {tuple(sorted(cards.ask(path).items())) for path in faults}
    assert answers == {tuple(sorted(error(UNREADABLE).items()))}
    assert cards.show(card)["counter"] == 1
    assert cards.ask(f"{link}&p={p}&c={c}")["tag"] == "withdrawRequest"


def test_counter_counts_forward_over_all_its_24_bits(cards):
    card = cards.card()
    for counter in (0, 1, 255, 256, 65_535, 65_536, 0xFFFFFF):
        assert cards.ask(card.path(counter))["tag"] == "withdrawRequest", counter
        for before in (counter, max(0, counter - 1)):
            assert cards.ask(card.path(before)) == error(UNREADABLE)
    assert cards.show(card)["counter"] == 0xFFFFFF


def test_first_tap_binds_the_chip(cards):
    card = cards.card()
    cards.tap(card)
    copy = message(card.keys[1], card.keys[2], b"\x04COPIED", 50)
    assert cards.ask(f"/ln?card_id={card.id}&p={copy[0]}&c={copy[1]}") == error(UNREADABLE)
    assert cards.tap(card)["tag"] == "withdrawRequest"
    assert cards.show(card)["uid"] == card.uid.hex()


def test_disabled_card_does_not_pay_and_its_counter_goes_on(cards):
    card = cards.card()
    cards.do(card, "disable")
    path = card.path()
    assert cards.ask(path) == error("this card is disabled")
    cards.do(card, "enable")
    assert cards.ask(path) == error(UNREADABLE), "what was shown while it was disabled is used up"
    assert cards.spend(card, cards.invoice()) == OK


def test_onion_service_and_port_are_in_the_links(lab, cards):
    onion = "a" * 56 + ".onion"
    try:
        cards.daemon.sections["card"]["domain"] = onion
        cards.daemon.write_config()
        cards.daemon.command("reload")
        order = cards.order()
        assert order.url.startswith(f"http://{onion}/new?a=")
        card = cards.card()
        assert card.base == f"lnurlw://{onion}/ln?card_id={card.id}"
        assert cards.tap(card)["callback"] == f"http://{onion}/ln/callback"
    finally:
        cards.daemon.sections["card"]["domain"] = DOMAIN
        cards.daemon.write_config()
        cards.daemon.command("reload")


def test_card_port_serves_cards_and_nothing_else(cards):
    for path in (
        "/",
        "/api/createboltcard",
        "/admin/cards",
        "/mint-requests",
        "/health/live",
        "/stats",
        "/lnurl",
        "/ln/",
    ):
        assert cards.get(path).status == 404, path
    for method in ("POST", "PUT", "HEAD", "DELETE"):
        assert cards.get("/ln", method=method).status in (404, 405), method
    assert cards.lab.guest.try_tcp(ROUTER4, CARD_PORT, 0.5).outcome != "connected", "on loopback only"


# The payment


def test_payment_reaches_the_payee_once_and_is_in_the_history(cards):
    card, invoice = cards.card(), cards.invoice(21)
    before = time.time()
    assert cards.spend(card, invoice) == OK
    assert cards.node.times_paid(invoice.payment_hash) == 1 and cards.node.asked.count(invoice.request) == 1
    (line,) = cards.history(card)
    assert before - 1 <= line.pop("at") <= time.time() + 1
    assert line == {
        "counter": 1,
        "state": "paid",
        "amount_msat": 21_000,
        "fee_msat": 4000,
        "payment_hash": invoice.payment_hash,
        "note": None,
    }
    assert cards.show(card)["spent_today_msat"] == 21_000, "fees do not count against the limits"


def test_same_callback_again_is_answered_as_the_first_and_pays_nothing(cards):
    card, invoice = cards.card(), cards.invoice()
    k1 = cards.k1(card)
    assert [cards.callback(k1, text) for text in (invoice.request, invoice.request, invoice.request.upper())] == [
        OK
    ] * 3
    assert cards.callback(k1, cards.invoice().request) == error(SPENT)
    assert cards.node.asked.count(invoice.request) == 1 and cards.states(card) == ["paid"]


def test_k1_that_nobody_was_given_pays_nothing(cards):
    asked = len(cards.node.asked)
    invoice = cards.invoice().request
    for k1 in ("00" * 16, "0", "zz" * 16, "00" * 32, "%00", "' OR 1=1 --".replace(" ", "+")):
        assert cards.callback(k1, invoice) == error(SPENT), k1
    for path in ("/ln/callback", f"/ln/callback?pr={invoice}", f"/ln/callback?k1={'00' * 16}"):
        assert cards.ask(path) == error("k1 and pr are needed")
    assert len(cards.node.asked) == asked


def test_refused_invoices_leave_the_tap_as_it_was(cards):
    card = cards.card(tx_max=1000)
    k1 = cards.k1(card)
    cases = [
        (make(age=3700), "the invoice has expired, or does within half a minute"),
        (make(expiry=29), "the invoice has expired, or does within half a minute"),
        (make(msat=0), "the invoice names no amount"),
        (make(currency="bc"), "the invoice is for another network"),
        (make(currency="tb"), "the invoice is for another network"),
        (make(msat=999), "the invoice is for less than one satoshi"),
        (make(msat=1_000_001), OVER_TAP),
        (make(msat=1_000_999), OVER_TAP),
        (make(2_100_000_000_000_000), OVER_TAP),
    ]
    for invoice, reason in cases:
        assert cards.callback(k1, invoice.request) == error(reason)
    good = cards.invoice(1000)
    assert cards.callback(k1, good.request) == OK
    assert cards.states(card) == ["paid"] and cards.node.asked[-1] == good.request


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "q",
        lambda text: text[:-10] + "q" * 10,
        lambda text: text.replace("1", "b"),
        lambda text: "lnbcrt1",
        lambda text: "x" * 5000,
        lambda text: text[:-20] + text[-20:].upper(),
        lambda text: "lnurl1dp68gurn8ghj7",
        lambda text: "%F0%9F%92%B0" * 9,
    ],
    ids=["short", "long", "checksum", "no-separator", "empty", "noise", "mixed-case", "lnurl", "emoji"],
)
def test_what_is_no_invoice_is_refused_and_may_be_followed_by_one(cards, change):
    card, good = cards.card(), cards.invoice()
    k1 = cards.k1(card)
    refused = cards.callback(k1, change(good.request))
    assert refused["status"] == "ERROR" and "invoice" in refused["reason"]
    assert cards.callback(k1, good.request) == OK


def test_eleven_refused_invoices_use_a_tap_up(cards):
    card = cards.card()
    k1 = cards.k1(card)
    answers = [cards.callback(k1, make(age=3700).request)["reason"] for _ in range(11)]
    assert set(answers[:10]) == {"the invoice has expired, or does within half a minute"} and answers[10] == SPENT
    assert cards.tap(card)["tag"] == "withdrawRequest"


def test_invoice_of_1500_characters_is_paid(cards):
    card = cards.card()
    invoice = cards.invoice(21, description="m" * 639, hints=4)
    assert 1500 <= len(invoice.request) <= 3000, len(invoice.request)
    assert cards.spend(card, invoice) == OK
    assert cards.node.asked[-1] == invoice.request


def test_limits_are_exact_to_the_millisatoshi(cards):
    card = cards.card(tx_max=1000, day_max=2500)
    assert cards.spend(card, cards.invoice(msat=1_000_000)) == OK
    assert cards.spend(card, cards.invoice(msat=999_999)) == OK
    k1 = cards.k1(card)
    assert cards.callback(k1, cards.invoice(msat=500_002).request) == error(OVER_DAY)
    assert cards.callback(k1, cards.invoice(msat=500_001).request) == OK
    assert cards.show(card)["spent_today_msat"] == 2_500_000
    assert cards.spend(card, cards.invoice(1)) == error(OVER_DAY)


def test_attempt_above_a_limit_costs_nothing_of_it(cards):
    card = cards.card(tx_max=1000, day_max=1000)
    for _ in range(3):
        assert cards.spend(card, cards.invoice(1001)) == error(OVER_TAP)
    assert cards.spend(card, cards.invoice(1000)) == OK


def test_zero_means_nothing(cards):
    card = cards.card(tx_max=0, day_max=0)
    assert cards.tap(card) == error("this card may not pay anything")
    cards.do(card, "limits", {"tx_max": 10, "day_max": 10})
    assert cards.spend(card, cards.invoice(10)) == OK


@pytest.mark.parametrize("action, body, reason", [
    ("disable", None, "this card is disabled"), ("wipe", None, "this card is disabled"), ("reprogram", None, SPENT),
    ("limits", {"tx_max": 20}, OVER_TAP), ("limits", {"tx_max": 20, "day_max": 20}, OVER_TAP),
], ids=["disabled", "wiped", "new-keys", "limit", "limits"])
def test_what_the_operator_did_between_tap_and_callback_counts(cards, action, body, reason):
    card, invoice = cards.card(tx_max=1000), cards.invoice(21)
    k1 = cards.k1(card)
    cards.do(card, action, body)
    answer = cards.callback(k1, invoice.request)
    assert answer == error(reason) and invoice.request not in cards.node.asked
    assert cards.states(card) == ["tapped"]


def test_invoice_that_another_card_pays_is_refused(cards):
    first, second, invoice = cards.card(), cards.card(), cards.invoice()
    assert cards.spend(first, invoice) == OK
    assert cards.spend(second, invoice) == error("another tap has this invoice already")
    assert cards.spend(first, invoice) == error("another tap has this invoice already")
    assert cards.node.asked.count(invoice.request) == 1 and cards.states(second) == ["tapped"]


def test_cards_over_are_off_and_on_with_the_section(cards):
    card = cards.card()
    section = cards.daemon.sections["card"]
    try:
        section["enabled"] = 0
        cards.daemon.write_config()
        cards.daemon.command("reload")
        for answer in (cards.lab.guest.get(f"http://{ROUTER4}:2121{card.path()}"), cards.get(card.path())):
            assert answer.json() == error("there are no cards here")
    finally:
        section.pop("enabled")
        cards.daemon.write_config()
        cards.daemon.command("reload")
    assert cards.get("/").status == 404
    assert cards.spend(card, cards.invoice()) == OK

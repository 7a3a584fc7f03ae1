"""Cards on a router without a clock of its own: it begins in 1970, it is set, it jumps, and it is switched off and
on.
"""

import time

import pytest

from lab.bolt_card import BoltCard
from lab.card_shop import CardShop
from lab.fake_clock import FakeClock, FakeWall, needs_faketime, other_boot
from lab.invoices import make

OK = {"status": "OK"}
NOT_NOW = {"status": "ERROR", "reason": "cards cannot pay at the moment"}
DAY = 86_400
LIFE = 600
"""Seconds that a tap lives, unless it is made by `short_tap`."""
SHORT_LIFE = 5
SPENT = {"status": "ERROR", "reason": "this tap is used or too old; please tap again"}
OVER = {"status": "ERROR", "reason": "the amount is above what the card may still spend today"}


@pytest.fixture
def shop(lab):
    """Not started."""
    made = CardShop(lab, name=f"cards-{time.monotonic_ns()}", card={"k1_life": LIFE})
    try:
        yield made
    finally:
        made.__exit__()
        made.daemon.must_be_sound()


def set_life(shop, seconds: int) -> None:
    shop.daemon.sections["card"]["k1_life"] = seconds
    shop.daemon.write_config()
    shop.daemon.command("reload")


def short_tap(shop, card) -> str:
    """The k1 of a tap that lives for `SHORT_LIFE`."""
    set_life(shop, SHORT_LIFE)
    k1 = shop.k1(card)
    set_life(shop, LIFE)
    return k1


def outlive_a_tap() -> None:
    """Nothing but time shows that it is over."""
    time.sleep(SHORT_LIFE + 0.2)


@needs_faketime
def test_nothing_is_paid_until_the_clock_is_set_and_the_tap_stays_good(lab, shop):
    wall = FakeWall(lab)
    shop.daemon.start(env=wall.env)
    card, invoice = shop.card(), shop.invoice()
    k1 = shop.k1(card)
    assert shop.callback(k1, invoice.request) == NOT_NOW and shop.node.asked == []
    wall.write("+0")
    assert shop.callback(k1, invoice.request) == OK


@needs_faketime
def test_wall_clock_neither_frees_the_days_limit_nor_ends_or_prolongs_a_tap(lab, shop):
    wall = FakeWall(lab)
    wall.write("+0")
    shop.daemon.start(env=wall.env)
    card = shop.card(day_max=1000)
    assert shop.spend(card, shop.invoice(1000)) == OK
    for jump in (2 * DAY, -DAY, 400 * DAY, 0):
        wall.write(f"{jump:+}")
        assert shop.spend(card, shop.invoice(1, age=-jump)) == OVER, jump
        assert shop.callback(shop.k1(card), shop.invoice(1, age=3700 - jump).request)["reason"].startswith(
            "the invoice has expired"
        )
    other = shop.card()
    k1 = shop.k1(other)
    wall.write(f"+{DAY}")
    assert shop.callback(k1, shop.invoice(age=-DAY).request) == OK, "an hour by the wall is no hour"
    k1 = short_tap(shop, other)
    wall.write(f"-{DAY}")
    outlive_a_tap()
    assert shop.callback(k1, shop.invoice(age=DAY).request) == SPENT


@needs_faketime
def test_limit_rolls_over_24_hours(lab, shop):
    clock = FakeClock(lab)
    shop.daemon.start(env=clock.env)
    card, order = shop.card(day_max=1000), shop.order()
    assert shop.spend(card, shop.invoice(600)) == OK
    clock.later(DAY / 2)
    assert shop.spend(card, shop.invoice(400, age=-DAY // 2)) == OK
    clock.later(DAY - 300)
    assert shop.spend(card, shop.invoice(1, age=300 - DAY)) == OVER
    young = shop.order()
    clock.later(DAY + 30)
    assert shop.spend(card, shop.invoice(601, age=-DAY - 30)) == OVER
    assert shop.spend(card, shop.invoice(600, age=-DAY - 30)) == OK
    assert shop.show(card)["spent_today_msat"] == 1_000_000
    assert "one time code" in shop.ask(order.path)["reason"], "a code lives for a day"
    assert BoltCard(shop.ask(young.path)).id == young.card_id


def test_reboot_frees_no_limit_and_revives_no_tap(lab, shop):
    shop.daemon.start()
    card = shop.card(day_max=1000)
    used = card.path()
    k1 = shop.ask(used)["k1"]
    assert shop.callback(k1, shop.invoice(1000).request) == OK
    waiting = short_tap(shop, card)
    shop.daemon.kill()
    lab.clean_router()
    shop.daemon.start(through=other_boot(lab))
    assert shop.ask(used)["status"] == "ERROR" and shop.spend(card, shop.invoice(1)) == OVER
    assert shop.callback(k1, make(1).request) == SPENT
    shop.do(card, "limits", {"day_max": 2000})
    outlive_a_tap()
    assert shop.callback(waiting, shop.invoice(1).request) == SPENT

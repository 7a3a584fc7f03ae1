"""Paying with a card on the portal, in a real browser: the form with and without script, in both languages, and what
it says.
"""

import pytest
from playwright.sync_api import expect

from lab.browser import audit
from lab.counter import own_card
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.issuer import Issuer
from lab.portal_client import PORTAL

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mint(lab):
    """There at once: what is tried here is the page."""
    with FaultMint(lab.internet, MINT4) as made:
        yield made


@pytest.fixture(scope="module")
def open_bank(lab, mint):
    with Issuer(lab, pay=mint.pay, dir=lab.path("bank")) as made:
        yield made


@pytest.fixture
def bank(open_bank, mint, make_daemon, lab):
    """The bank, and the shop that trusts its authority, with a new guest."""
    open_bank.behave()
    open_bank.shop = make_daemon(
        mint.url,
        main={"ca_file": open_bank.ca_file},
        sections={"card": {"domain": "own.example", "network": "mainnet"}},
    )
    lab.guest.become_stranger()
    yield open_bank
    assert not open_bank.complaints


def show(page, link: str) -> None:
    page.goto(PORTAL)
    page.locator("#way-card").click()
    page.locator("#link").fill(link)
    page.locator("button[type=submit]").click()


def looks_well(page, picture: str) -> None:
    for width in (320, 360):
        page.set_viewport_size({"width": width, "height": 740})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert audit(page) == [], (theme, width)
            page.screenshot(path=f"{picture}-{theme}-{width}.png", full_page=True)
    page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("script", [True, False])
def test_a_pasted_link_pays_and_the_page_gets_online_by_itself(lab, bank, phone, tmp_path, script):
    page = phone(script=script)
    page.goto(PORTAL)
    page.locator("#way-card").click()
    expect(page.get_by_role("heading", name="Pay with card")).to_be_visible()
    page.get_by_label("How much time?").select_option(label="10 minutes · 10 sat")
    page.get_by_label("Paste the card’s link").fill(bank.tap())
    looks_well(page, str(tmp_path / "form"))
    bank.next(pay="never")
    page.get_by_role("button", name="Pay").click()
    expect(page.locator("main.pay")).to_contain_text("Waiting for the card’s bank")
    expect(page.locator("h1")).to_have_text("Pay 10 sat")
    expect(page.locator("#way-card")).to_have_count(0)
    # Without script it loads itself anew, in the midst of a picture.
    if script:
        looks_well(page, str(tmp_path / "waiting"))
    bank.pay(bank.given[-1][1])
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)
    assert lab.guest.online()


@pytest.mark.parametrize("script", [True, False])
def test_an_open_invoice_can_be_paid_by_card_instead(lab, bank, phone, tmp_path, script):
    page = phone(script=script)
    page.goto(PORTAL)
    page.locator("button.pay").click()
    invoice = page.locator("#invoice").input_value()
    page.locator("#way-card").click()
    expect(page.locator(".lead")).to_have_text("60 sat · 1 hour of internet")
    looks_well(page, str(tmp_path / "open"))
    page.locator("header .lang").click()
    expect(page.get_by_role("heading", name="Lipa kwa kadi")).to_be_visible()
    expect(page.locator(".lead")).to_contain_text("60 sat")
    page.locator("#link").fill(bank.tap())
    page.locator("button[type=submit]").click()
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)
    assert bank.given[-1][1] == invoice and lab.guest.online()


def test_a_refusal_is_said_above_the_form_and_never_as_markup(bank, phone, tmp_path):
    page = phone(language="sw")
    bank.next(ln="error <img src=x onerror=alert(1)> " + "m" * 300)
    show(page, bank.tap())
    expect(page.locator(".notice")).to_have_text(
        "Benki ya kadi inasema: “" + ("<img src=x onerror=alert(1)> " + "m" * 300)[:120] + "”"
    )
    expect(page.locator("#link")).to_have_value("")
    looks_well(page, str(tmp_path / "refused"))
    page.locator("#link").fill("hello")
    page.locator("button[type=submit]").click()
    expect(page.locator(".notice")).to_have_text("Hiki si kiungo cha kadi. Hakuna kilichochukuliwa.")
    page.locator("#link").fill(bank.tap())
    page.locator("button[type=submit]").click()
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)


def test_a_card_of_the_router_opens_at_once_and_adds_time_later(lab, bank, phone):
    card = own_card(bank.shop)
    page = phone()
    show(page, card.tap())
    expect(page.locator("main.online")).to_be_visible()
    assert (
        page.url == f"{PORTAL}/"
        and lab.guest.online()
        and bank.shop.ask("sessions")["data"][0]["allotment_seconds"] == 3600
    )
    page.locator("summary").click()
    page.locator("#way-card").click()
    page.locator("#link").fill(card.tap())
    page.locator("button[type=submit]").click()
    expect(page.locator("main.online")).to_be_visible()
    assert bank.shop.ask("sessions")["data"][0]["allotment_seconds"] == 7200

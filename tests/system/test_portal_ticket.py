"""Tickets on the portal, in a real browser: kept after paying, and shown again by a phone whose MAC has changed."""

import pytest
from playwright.sync_api import expect

from lab.guest import ROUTER4
from lab.http_client import exchange
from lab.place import wait_for
from lab.portal_client import PORTAL
from lab.tickets import WRONG, change_mac, forget_packets, show

pytestmark = pytest.mark.browser


def buy(page, mint) -> None:
    page.goto(PORTAL)
    page.locator("button.pay").click()
    expect(page.locator("main.pay")).to_be_visible()
    mint.pay(page.locator("#invoice").input_value())
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)


def type_in(page, ticket: str) -> None:
    page.goto(PORTAL)
    page.locator("#way-ticket").click()
    page.locator("#ticket").fill(ticket)
    page.locator("button[type=submit]").click()


@pytest.mark.parametrize("script", [True, False])
def test_a_phone_with_a_new_mac_goes_on_with_the_ticket_it_kept(lab, mint, make_daemon, phone, script):
    make_daemon(mint.url)
    lab.guest.become_stranger()
    page = phone(script=script)
    buy(page, mint)
    ticket = page.locator("#own-ticket").input_value()
    change_mac(lab, lab.guest)
    page = phone(script=script)
    type_in(page, ticket.upper().replace("-", " "))
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)
    assert page.url == f"{PORTAL}/" and page.locator("#own-ticket").input_value() == ticket
    assert lab.guest.online()


def test_the_code_leads_to_the_ticket_in_its_field(lab, mint, make_daemon, phone, browser):
    make_daemon(mint.url)
    lab.guest.become_stranger()
    page = phone()
    buy(page, mint)
    ticket = page.locator("#own-ticket").input_value()
    page.locator("#kept").click()
    (link,) = browser.read_qr(page.locator(".code"))
    assert link == f"{PORTAL}/?ticket={ticket}"
    change_mac(lab, lab.guest)
    page = phone()
    page.goto(link)
    expect(page.locator("#ticket")).to_have_value(ticket)
    assert not lab.guest.online(), "looking moves nothing"
    page.locator("button[type=submit]").click()
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)


def test_the_ticket_can_be_copied(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    lab.guest.become_stranger()
    page = phone()
    buy(page, mint)
    page.evaluate("() => { window.setTimeout = () => 0; }")  # what the button says stays
    page.locator("#copy-ticket").click()
    expect(page.locator("#copy-ticket")).to_have_text("✓ Copied")
    other = page.context.new_page()
    other.set_content("<textarea></textarea>")
    other.locator("textarea").focus()
    other.keyboard.press("Control+V")
    assert other.locator("textarea").input_value() == page.locator("#own-ticket").input_value()


@pytest.mark.parametrize("script", [True, False])
def test_after_a_restart_a_new_ticket_can_be_made(lab, mint, make_daemon, phone, script):
    daemon = make_daemon(mint.url)
    lab.guest.become_stranger()
    page = phone(script=script)
    buy(page, mint)
    old = page.locator("#own-ticket").input_value()
    daemon.kill()
    daemon.start()
    page.goto(PORTAL)
    expect(page.locator("#own-ticket")).to_have_count(0)
    page.locator("#kept").click()
    page.get_by_role("button", name="Make a new ticket").click()
    new = page.locator("#own-ticket").input_value()
    assert new != old and page.url == f"{PORTAL}/?way=kept"
    assert show(lab.guest, old).status == 403 and show(lab.guest, new).status == 200


def test_a_refused_ticket_stays_in_its_field_and_the_reason_is_said(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    lab.guest.become_stranger()
    page = phone()
    type_in(page, WRONG)
    expect(page.locator(".notice")).to_have_text("This ticket is not valid. Please check what you have typed.")
    expect(page.locator("#ticket")).to_have_value(WRONG)
    buy(page, mint)
    ticket = page.locator("#own-ticket").input_value()
    lab.guest.become_stranger()
    page = phone(language="sw")
    type_in(page, ticket)
    expect(page.locator(".notice")).to_contain_text("Kifaa kilicholipa bado kinatumika hapa.")
    forget_packets(lab)
    assert lab.guest.ping(ROUTER4), "the router knows it again"
    page.locator("button[type=submit]").click()
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)
    page.goto(f"{PORTAL}/?way=kept")
    for _ in range(5):
        page.locator("button[type=submit]").click()
        page.wait_for_load_state()
    page.locator("button[type=submit]").click()
    expect(page.locator(".notice")).to_contain_text("Tafadhali jaribu tena baada ya")


def test_a_page_under_a_foreign_name_shows_no_ticket_and_leads_to_the_own_address(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    guest = lab.guest.become_stranger()
    page = phone()
    buy(page, mint)
    ticket = page.locator("#own-ticket").input_value()

    def ask(path: str, host: str):
        return exchange(guest.connect(ROUTER4, 2121), "GET", path, host, {"Accept": "text/html"})

    assert (
        ticket.encode() in ask("/", f"{ROUTER4}:2121").body
        and ticket.encode() not in ask("/", "evil.example:2121").body
    )
    for path in ("/?way=kept", "/?way=ticket", f"/?ticket={ticket}"):
        answer = ask(path, "evil.example:2121")
        assert (answer.status, answer.headers["location"]) == (
            302,
            f"{PORTAL}/?way={'kept' if 'kept' in path else 'ticket'}",
        )
        assert ticket.encode() not in answer.body


def test_a_form_of_a_foreign_page_moves_nothing(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    guest = lab.guest.become_stranger()
    buy(phone(), mint)
    for origin in ("http://evil.example", "null"):
        answer = exchange(
            guest.connect(ROUTER4, 2121),
            "POST",
            "/ticket",
            ROUTER4,
            {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"},
            b"new=1",
        )
        assert answer.status == 403


def test_the_address_a_form_leaves_behind_is_the_portal(lab, mint, make_daemon):
    make_daemon(mint.url)
    answer = lab.guest.get(f"{PORTAL}/ticket")
    assert (answer.status, answer.headers["location"]) == (303, "/")

"""A guest's way through the portal, in a real browser on the guest's side of the real daemon: blocked, choosing,
paying, online, over. How the pages look is in `test_portal_looks.py`."""

import contextlib
import threading
import time

import bolt11
import pytest
from playwright.sync_api import TimeoutError as NotShown
from playwright.sync_api import expect

from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4, ROUTER6
from lab.internet import HOST4, HOST6, MINT4
from lab.place import wait_for
from lab.portal_client import PORTAL

pytestmark = pytest.mark.browser

NEWS = f"http://{HOST4}/news"
SECONDS = {"step_size": 1000, "max_steps": 12}
"""A venue that sells at most twelve seconds: on a busy machine a page is a few seconds late."""


def buy(page, steps: int | None = None) -> str:
    """From the choice to the invoice; the chip that is chosen already, or the one of so many steps."""
    if steps is not None:
        page.locator(f'.pick[value="{steps}"] + label').click()
    page.locator("button.pay").click()
    return invoice(page)


def invoice(page) -> str:
    expect(page.locator("main.pay")).to_be_visible()
    return page.locator("#invoice").input_value()


def is_in(page, state: str, limit: float = 60) -> None:
    expect(page.locator(f"main.{state}")).to_be_visible(timeout=limit * 1000)


def follows(page, link: str, wanted: str) -> bool:
    """Whether this link, if it is still there, has led to what is wanted."""
    with contextlib.suppress(NotShown):
        page.get_by_role("link", name=link).click(timeout=2000)
    return page.locator(wanted).count() > 0


def seconds_left(page) -> int:
    """What the first countdown shows."""
    clock = page.locator("[data-seconds]").first.inner_text()
    return sum(int(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))


# From blocked to online


def test_any_web_page_leads_to_the_portal_and_after_paying_to_itself(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(NEWS)
    assert page.url == f"http://{ROUTER4}:2121/"
    is_in(page, "choose")
    to_pay = buy(page, 10)
    assert "Pay 10 sat" in page.locator("h1").inner_text()
    mint.pay(to_pay)
    is_in(page, "online")
    page.goto(NEWS)
    assert page.url == NEWS and page.locator("body").inner_text().strip() == "the internet"


def test_a_web_page_over_ipv6_leads_to_the_routers_ipv6_address(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(f"http://[{HOST6}]/news")
    assert page.url == f"http://[{ROUTER6}]:2121/"
    mint.pay(buy(page))
    is_in(page, "online")


def test_a_name_that_only_the_internet_knows_leads_to_the_portal(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto("http://captive.example/generate_204")
    assert page.url in (f"http://{ROUTER4}:2121/", f"http://[{ROUTER6}]:2121/")
    is_in(page, "choose")


def test_guest_without_script_gets_online(lab, mint, make_daemon, phone):
    daemon = make_daemon(mint.url)
    page = phone(script=False)
    page.goto(NEWS)
    is_in(page, "choose")
    assert page.locator("meta[http-equiv=refresh]").count() == 0, "a choice stands still"
    to_pay = buy(page, 60)
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
    mint.pay(to_pay)
    is_in(page, "online")
    assert lab.guest.online()
    assert 3540 <= seconds_left(page) <= 3600
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "60"
    daemon.command("revoke", lab.guest.mac)
    page.reload()
    is_in(page, "ended")
    assert page.locator("meta[http-equiv=refresh]").count() == 0


def test_guest_without_script_chooses_any_amount(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone(script=False)
    page.goto(PORTAL)
    page.locator("label[for=other]").click()
    page.locator("#steps").fill("17")
    page.locator("button.pay").click()
    expect(page.locator("h1")).to_have_text("Pay 17 sat")
    expect(page.locator(".lead")).to_have_text("17 minutes of internet")


def test_guest_without_websocket_gets_online(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone(sockets=False)
    page.goto(PORTAL)
    mint.pay(buy(page))
    is_in(page, "online")


def test_guest_who_closed_the_page_is_online_once_the_invoice_is_paid(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    to_pay = buy(page)
    page.close()
    mint.pay(to_pay)
    wait_for(lab.guest.online, 10)


def test_what_was_bought_is_what_is_left(lab, mint, make_daemon, phone):
    daemon = make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    mint.pay(buy(page, 240))
    is_in(page, "online")
    more, shown, less = (
        daemon.ask("sessions")["data"][0]["remaining_seconds"],
        seconds_left(page),
        daemon.ask("sessions")["data"][0]["remaining_seconds"],
    )
    assert less - 30 <= shown <= more + 30
    assert 240 * 60 - 60 <= shown <= 240 * 60
    first = seconds_left(page)
    wait_for(lambda: seconds_left(page) < first, 3, "it counts")


# While the money is under way


def test_the_invoice_counts_down_to_its_own_end(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    asked = bolt11.decode(buy(page))
    end = asked.date + asked.expiry
    more, shown, less = end - time.time(), seconds_left(page), end - time.time()
    assert less - 30 <= shown <= more + 30


def test_a_mint_that_does_not_hand_over_is_said_to_be_waited_for_and_the_guest_gets_online(
    mint, fault_proxy, make_daemon, phone
):
    make_daemon(fault_proxy.url)
    page = phone()
    page.goto(PORTAL)
    to_pay = buy(page)
    fault_proxy.fault("/v1/mint/bolt11$", method="POST", status=503)
    paying = time.monotonic()
    mint.pay(to_pay)
    is_in(page, "paid")
    expect(page.locator(".steps .done")).to_have_text(["Payment received"])
    assert page.locator(".notice").count() == 0 or time.monotonic() - paying > 5, "nothing is said for five seconds"
    address = page.url
    expect(page.locator(".notice")).to_contain_text("Your money is safe", timeout=60_000)
    page.reload()
    is_in(page, "paid")
    page.goto(PORTAL)
    is_in(page, "paid")
    page.goto(address)
    fault_proxy.clear()
    is_in(page, "online")


def test_paid_step_by_step_and_announced(mint, fault_proxy, make_daemon, phone):
    make_daemon(fault_proxy.url)
    page = phone()
    page.goto(PORTAL)
    to_pay = buy(page)
    seen = threading.Event()
    fault_proxy.fault("/v1/mint/bolt11$", method="POST", until=seen)
    mint.pay(to_pay)
    is_in(page, "paid")
    expect(page.locator("[aria-live]")).to_have_text("Paid – opening")
    steps = ["Payment received", "Confirmed by the payment service", "You are online"]
    expect(page.locator(".steps li")).to_have_text(steps)
    expect(page.locator(".steps [aria-current=step]")).to_have_text("Confirmed by the payment service")
    seen.set()
    is_in(page, "online")
    expect(page.locator("[aria-live]")).to_have_text("You are online")


# Coming back


def test_a_reload_shows_the_same_invoice(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    shown, address = buy(page), page.url
    page.reload()
    assert (invoice(page), page.url) == (shown, address)


def test_a_new_phone_browser_finds_the_unpaid_invoice_and_later_the_session(mint, make_daemon, phone):
    """Captive mini-browsers forget everything: the MAC alone leads back."""
    make_daemon(mint.url)
    first, second, third = phone(), phone(), phone()
    first.goto(PORTAL)
    shown = buy(first)
    first.close()
    second.goto(NEWS)
    assert invoice(second) == shown
    second.close()
    mint.pay(shown)
    third.goto(PORTAL)
    is_in(third, "online")


def test_the_page_of_a_paid_request_shows_the_session_after_a_reload(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    mint.pay(buy(page))
    is_in(page, "online")
    page.reload()
    is_in(page, "online")


def test_state_survives_a_restart_of_the_daemon(mint, make_daemon, phone, browser):
    daemon = make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    shown = buy(page)
    daemon.kill()
    daemon.start()
    page.reload()
    assert invoice(page) == shown
    mint.pay(shown)
    is_in(page, "online")
    daemon.kill()
    daemon.start()
    page.reload()
    is_in(page, "online")
    browser.problems(page).clear()  # the socket of a daemon that was killed


def test_two_tabs_show_one_request_and_both_get_online(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    other = page.context.new_page()
    page.goto(PORTAL)
    other.goto(PORTAL)
    shown = buy(page)
    assert buy(other) == shown, "the same purchase twice is one invoice"
    mint.pay(shown)
    is_in(page, "online")
    is_in(other, "online")


def test_another_amount_can_be_chosen_and_the_first_invoice_is_kept(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    first = buy(page, 60)
    page.get_by_role("link", name="Other amount").click()
    is_in(page, "choose")
    page.reload()
    is_in(page, "choose")
    page.get_by_role("link", name="Back to the open invoice").click()
    assert invoice(page) == first
    page.get_by_role("link", name="Other amount").click()
    second = buy(page, 10)
    assert second != first
    mint.pay(first)
    wait_for(lambda: page.goto(PORTAL) and page.locator("main.online").count(), 10, "either invoice opens")


def test_a_guest_who_chooses_again_sees_that_the_first_invoice_was_paid(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    to_pay = buy(page)
    page.get_by_role("link", name="Other amount").click()
    is_in(page, "choose")
    mint.pay(to_pay)
    is_in(page, "online")


# Adding time, and the end


def test_time_is_added_without_interrupting_the_session(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    mint.pay(buy(page, 60))
    is_in(page, "online")
    page.get_by_text("Add time").click()
    to_pay = buy(page, 10)
    expect(page.locator("main")).to_contain_text("You stay online meanwhile.")
    assert lab.guest.online()
    page.goto(PORTAL)
    is_in(page, "online")
    mint.pay(to_pay)
    page.go_back()
    is_in(page, "online")
    wait_for(lambda: 70 * 60 - 60 <= seconds_left(page) <= 70 * 60, 10)
    assert lab.guest.online()


def test_the_end_is_shown_by_itself_and_more_can_be_bought_at_once(lab, mint, make_daemon, phone):
    make_daemon(mint.url, venue=SECONDS)
    page = phone()
    page.goto(PORTAL)
    mint.pay(buy(page))
    is_in(page, "online")
    is_in(page, "ended")
    assert not lab.guest.online(timeout=0.3)
    expect(page.locator("h1")).to_have_text("Your time is over")
    expect(page.locator("[aria-live]")).to_have_text("Your time is over")
    assert page.locator("main").get_attribute("data-poll") is None, "it waits for the guest"
    page.reload()
    is_in(page, "ended")
    mint.pay(buy(page))
    is_in(page, "online")


def test_an_invoice_that_ran_out_is_watched_on_and_paid_late_it_opens_the_internet(lab, make_daemon, phone):
    with FaultMint(lab.internet, MINT4, invoice_seconds=15) as short:
        make_daemon(short.url)
        page, without_script = phone(), phone(script=False)
        page.goto(PORTAL)
        first = buy(page)
        is_in(page, "choose")
        expect(page.locator(".notice")).to_contain_text("If your wallet is still sending, do not pay again")
        assert "othing was taken" not in page.locator("body").inner_text()
        # The device alone leads back to it, and it can buy anew.
        without_script.goto(PORTAL)
        expect(without_script.locator(".notice")).to_contain_text("do not pay again")
        expect(without_script.locator("meta[http-equiv=refresh]")).to_have_count(1)
        short.invoice_seconds = 3600
        assert buy(without_script) != first
        short.pay(first)
        is_in(page, "online", limit=120)


def test_an_invoice_that_is_given_up_is_said_to_have_cost_nothing(lab, make_daemon, phone):
    with FaultMint(lab.internet, MINT4, invoice_seconds=15) as short:
        make_daemon(short.url, main={"invoice_grace": 0})
        page = phone()
        page.goto(PORTAL)
        buy(page)
        is_in(page, "choose")
        expect(page.locator(".notice")).to_have_text("The invoice ran out and nothing was taken. Please choose again.")


def test_a_trusted_device_is_told_that_it_need_not_pay(lab, mint, make_daemon, phone):
    make_daemon(mint.url, venue={"trusted_mac": [lab.guest.mac], "portal_name": "wifi.kibanda"})
    page = phone()
    page.goto(PORTAL)
    is_in(page, "online")
    expect(page.locator("main")).to_contain_text("without paying")
    expect(page.locator("main")).to_contain_text("To come back to it, open http://wifi.kibanda/")
    assert page.locator("form").count() == 0


# The router is away


def test_a_router_that_is_away_is_said_to_be_and_the_page_goes_on_by_itself(mint, make_daemon, phone, browser):
    daemon = make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    shown = buy(page)
    daemon.kill()
    expect(page.locator("#away")).to_be_visible()
    expect(page.locator("[aria-live]")).to_have_text(
        "No connection to the router. Your payment is safe; this goes on by itself."
    )
    stood = page.locator(".clock").first.inner_text()
    page.wait_for_timeout(2500)  # over which a clock that runs would have gone on
    assert page.locator(".clock").first.inner_text() == stood, "the countdown stands still"
    daemon.start()
    expect(page.locator("#away")).to_be_hidden()
    assert invoice(page) == shown
    mint.pay(shown)
    is_in(page, "online")
    browser.problems(page).clear()  # what was asked of a daemon that was killed


def test_the_button_keeps_the_form_while_the_router_is_away(mint, make_daemon, phone, browser):
    daemon = make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    page.locator("label[for=other]").click()
    page.locator("#steps").fill("17")
    daemon.kill()
    page.locator("button.pay").click()
    expect(page.locator("#away")).to_be_visible()
    expect(page.locator("button.pay")).to_be_enabled()
    expect(page.locator("button.pay")).to_have_text("Pay with Lightning")
    assert page.locator("#steps").input_value() == "17"
    daemon.start()
    expect(page.locator("#away")).to_be_hidden()
    page.locator("button.pay").click()
    expect(page.locator("h1")).to_have_text("Pay 17 sat")
    browser.problems(page).clear()  # what was asked of a daemon that was killed


# Before the end


@pytest.mark.parametrize("left, said", [("303s", "Less than 5 minutes left"), ("63s", "Less than 1 minute left")])
def test_the_coming_end_is_said_without_being_in_the_way(lab, mint, make_daemon, phone, left, said):
    daemon = make_daemon(mint.url)
    page = phone()
    daemon.command("grant", lab.guest.mac, left)
    page.goto(PORTAL)
    is_in(page, "online")
    page.locator("summary", has_text="Add time").click()
    page.locator("label[for=other]").click()
    page.locator("#steps").fill("17")
    expect(page.locator(".ending")).to_have_text(said)
    expect(page.locator("[aria-live]")).to_have_text(said)
    assert page.title() == f"{said} · Kibanda Wi-Fi"
    assert page.locator("#steps").input_value() == "17" and page.locator("#steps").is_visible()


# What is kept


def test_the_language_is_remembered_for_the_device(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone(script=False)
    page.goto(PORTAL)
    page.get_by_role("link", name="Kiswahili").click()
    new = phone(script=False)
    new.goto(NEWS)
    expect(new.locator("html")).to_have_attribute("lang", "sw")
    expect(new.locator("h1")).to_have_text("Chagua muda")
    new.get_by_role("link", name="English").click()
    page.goto(PORTAL)
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_who_has_paid_finds_a_receipt_and_the_way_back(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(f"{PORTAL}/?way=receipt")
    is_in(page, "choose")
    to_pay = buy(page, 10)
    request = page.url.partition("r=")[2]
    mint.pay(to_pay)
    is_in(page, "online")
    expect(page.locator("main")).to_contain_text(f"To come back to it, open {PORTAL}/")
    page.get_by_role("link", name="Receipt").click()
    is_in(page, "receipt")
    lines = page.locator("#receipt").input_value().splitlines()
    assert lines[:2] == ["Kibanda Wi-Fi", "10 sat · 10 minutes of internet"]
    assert lines[2].endswith(" UTC") and lines[3] == f"Code: {request[:8]}"
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copy-receipt")).to_have_text("✓ Copied")


# Trouble


def test_an_unknown_device_is_not_asked_to_pay(lab, mint, make_daemon, phone):
    make_daemon(mint.url)
    try:
        # An entry that nobody asked the guest for says nothing about who it is.
        lab.router.ip(f"neigh replace {lab.guest.ip} lladdr {lab.guest.mac} dev br-guest nud noarp")
        page = phone()
        page.goto(PORTAL)
        is_in(page, "trouble")
        expect(page.locator("main")).to_contain_text("does not recognise this device")
        expect(page.locator("main")).to_contain_text("Nothing was taken.")
        expect(page.locator("code")).to_have_text("unknown_device")
        page.get_by_role("link", name="Kiswahili").click()
        expect(page.locator("h1")).to_have_text("Ruta haikitambui kifaa hiki.")
    finally:
        lab.router.ip(f"neigh del {lab.guest.ip} dev br-guest")
    is_in(page, "choose")  # without being asked


def test_a_damaged_store_is_said_with_its_code_and_nothing_is_offered(mint, make_daemon, phone):
    daemon = make_daemon(mint.url)
    daemon.stop()
    with open(f"{daemon.state_dir}/store.db", "r+b") as file:
        file.write(b"not a database" * 50)
    daemon.start()
    page = phone()
    page.goto(PORTAL)
    is_in(page, "trouble")
    expect(page.locator("code")).to_have_text("STORE_CORRUPT")
    expect(page.locator("main")).to_contain_text("Nothing was taken.")
    assert page.locator("form").count() == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 200, "body": "<h1>It works</h1>", "content_type": "text/html"},
        {"cut_request": True},
    ],
)
def test_a_mint_that_gives_no_invoice_is_said_to_be_away(fault_proxy, make_daemon, phone, fault):
    daemon = make_daemon(fault_proxy.url)
    page = phone()
    page.goto(PORTAL)
    fault_proxy.fault("/v1/mint/quote", method="POST", **fault)
    page.locator("button.pay").click()
    is_in(page, "trouble")
    expect(page.locator("h1")).to_have_text("The payment service does not answer.")
    expect(page.locator("main")).to_contain_text("Nothing was taken.")
    code = page.locator("code").inner_text()
    assert code in daemon.log(), "the code leads to the cause"
    fault_proxy.clear()
    page.get_by_role("link", name="Choose again").click()
    is_in(page, "choose")


def test_a_fourth_open_invoice_is_refused_and_the_open_ones_stay(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    for steps in (10, 60, 240):
        last = buy(page, steps)
        page.get_by_role("link", name="Other amount").click()
    page.locator('.pick[value="1440"] + label').click()
    page.locator("button.pay").click()
    expect(page.locator(".notice")).to_contain_text("several invoices already")
    page.get_by_role("link", name="Back to the open invoice").click()
    assert invoice(page) == last


def test_an_amount_outside_of_the_limits_is_refused_with_the_limits(mint, make_daemon, phone):
    """Without script nothing corrects the number before it is sent."""
    make_daemon(mint.url)
    page = phone(script=False)
    page.goto(PORTAL)
    for steps in ("0", "1441", "99999999999999999999", "1.5", ""):
        page.locator("label[for=other]").click()
        page.locator("#steps").fill(steps)
        page.locator("button.pay").click()
        expect(page.locator(".notice")).to_have_text("That amount cannot be sold. You can buy from 1 minute to 1 day.")
    buy(page, 10)


def test_a_refusal_keeps_the_language_that_was_chosen(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone(script=False)
    page.goto(f"{PORTAL}/?lang=sw")
    page.locator("label[for=other]").click()
    page.locator("#steps").fill("0")
    page.locator("button.pay").click()
    expect(page.locator(".notice")).to_contain_text("Kiasi hicho hakiuzwi.")
    buy(page, 10)
    expect(page.locator("h1")).to_have_text("Lipa 10 sat")


def test_the_script_keeps_the_amount_within_the_limits(mint, make_daemon, phone):
    make_daemon(Mint(mint.url, price=2, min_steps=5), venue={"max_steps": 100})
    page = phone()
    page.goto(PORTAL)
    page.get_by_text("Other amount").click()
    page.locator("#steps").fill("5000")
    expect(page.locator(".tother strong")).to_have_text("200 sat")
    page.get_by_label("More").click()
    assert page.locator("#steps").input_value() == "100"
    page.locator("#steps").fill("6")
    page.get_by_label("Less").click()
    page.get_by_label("Less").click()
    assert page.locator("#steps").input_value() == "5"
    page.locator("button.pay").click()
    expect(page.locator("h1")).to_have_text("Pay 10 sat")


def test_a_page_left_by_a_form_can_be_asked_for_again(make_daemon, phone):
    """The address bar says `/pay` after a refusal; opening it, as mini-browsers do, leads to the portal."""
    make_daemon(f"http://{MINT4}:9")
    page = phone()
    page.goto(f"{PORTAL}/pay")
    assert page.url == f"{PORTAL}/"
    is_in(page, "choose")


def test_a_mint_that_is_away_is_said_and_the_others_are_offered(lab, mint, make_daemon, phone):
    with FaultMint(lab.internet, MINT4) as other:
        other.misbehave("down")
        make_daemon(Mint(other.url, price=3), Mint(mint.url))
        page = phone()
        wait_for(
            lambda: page.goto(PORTAL) and page.locator(".notice").count(), 5, "the probe has found it away", every=0.1
        )
        expect(page.locator(".notice")).to_have_text(f"{MINT4}:{other.port} does not answer right now.")
        expect(page.locator(".rate")).to_have_text("1 sat = 1 minute")
        assert page.locator(".mints").count() == 0


def test_of_several_mints_the_guest_may_choose(lab, mint, make_daemon, phone):
    with FaultMint(lab.internet, MINT4) as other:
        make_daemon(Mint(mint.url), Mint(other.url, price=3))
        page = phone()
        page.goto(PORTAL)
        expect(page.locator(".rate")).to_have_text("1 sat = 1 minute")
        page.get_by_text(f"{MINT4}:{other.port}").click()
        expect(page.locator(".rate")).to_have_text("3 sat = 1 minute")
        buy(page, 10)
        expect(page.locator("h1")).to_have_text("Pay 30 sat")


def test_with_every_mint_away_nothing_is_offered_until_one_is_back(fault_mint, make_daemon, phone):
    fault_mint.misbehave("down")
    make_daemon(fault_mint.url)
    page = phone()
    wait_for(
        lambda: page.goto(PORTAL) and page.locator(".notice").count(), 5, "the probe has found it away", every=0.1
    )
    expect(page.locator(".notice")).to_contain_text("The payment service does not answer right now")
    assert page.locator("form").count() == 0
    fault_mint.behave()
    wait_for(lambda: follows(page, "Try again", "form"), 15, "it is offered again", every=0.5)

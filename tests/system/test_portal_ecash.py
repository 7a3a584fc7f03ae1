"""Paying with ecash on the portal, in a real browser and with tokens of a real mint: what is taken, what is refused
and why, and what a guest sees while a mint makes it wait."""

import base64
import contextlib
import json
import re
import threading

import cbor2
import pytest
from playwright.sync_api import TimeoutError as NotShown
from playwright.sync_api import expect

from lab.daemon import Mint
from lab.guest import ROUTER4
from lab.http_client import exchange
from lab.internet import HOST4
from lab.place import wait_for
from lab.portal_client import PORTAL
from lab.tickets import change_mac
from lab.tollgate_client import token_v3, token_v4
from lab.wallet import Wallet

pytestmark = pytest.mark.browser

MB = 1_048_576
GOOD = {"en": "It was not taken: you can still use it.", "sw": "Haijachukuliwa: bado unaweza kuitumia."}


@pytest.fixture
def till(fault_proxy, make_daemon):
    """A minute for a sat, two at least and a hundred at most, through a proxy that can make the mint slow."""
    return make_daemon(Mint(fault_proxy.url, price=1, min_steps=2), venue={"max_steps": 100})


@pytest.fixture
def purse(lab, mint):
    """`purse(amount)`: proofs of exactly this amount, fresh from the mint."""

    return lambda amount: Wallet(lab.internet, mint.url).buy(mint, amount)


@pytest.fixture
def token(fault_proxy, purse):
    return lambda amount: token_v4(fault_proxy.url, purse(amount))


def paste(page, token: str, path: str = "/") -> None:
    page.goto(PORTAL + path)
    page.locator("#way-ecash").click()
    page.locator("#token").fill(token)
    page.locator("button[type=submit]").click()


def pasted(page, token: str) -> bool:
    """Also when the guest is online before it comes to that."""
    page.set_default_timeout(5000)
    with contextlib.suppress(NotShown):
        paste(page, token)
        return True
    return page.locator("main.online").count() > 0


def online(page) -> None:
    expect(page.locator("main.online")).to_be_visible(timeout=60_000)


def allotment(guest) -> int:
    return int(guest.get(f"{PORTAL}/usage").text.split("/")[1])


@pytest.mark.parametrize("script", [True, False])
def test_a_token_pays_and_its_ticket_goes_to_another_mac(lab, till, token, phone, stranger, script):
    page = phone(script=script)
    paste(page, token(60))
    online(page)
    # The form waits three seconds for a mint; where that is not enough, the page of the token becomes that of the
    # session.
    assert page.url == f"{PORTAL}/" or page.url.startswith(f"{PORTAL}/?token=")
    assert stranger.online() and allotment(stranger) == 3_600_000
    assert 3540 <= int(page.locator(".left").get_attribute("data-seconds")) <= 3600
    ticket = page.locator("#own-ticket").input_value()
    change_mac(lab, stranger)
    page = phone(script=script)
    page.goto(PORTAL)
    page.locator("#way-ticket").click()
    page.locator("#ticket").fill(ticket)
    page.locator("button[type=submit]").click()
    online(page)
    assert stranger.online()


def test_nothing_that_a_browser_repeats_charges_twice(till, token, phone, stranger):
    page = phone(script=False)
    made = token(10)
    page.goto(f"{PORTAL}/?way=ecash")
    page.locator("#token").fill(made)
    page.locator("button[type=submit]").dblclick()
    online(page)
    page.go_back()
    page.locator("#token").fill(made)
    page.locator("button[type=submit]").click()
    online(page)
    page.reload()
    page.goto(f"{PORTAL}/ecash")
    online(page)
    assert allotment(stranger) == 600_000


def test_more_can_be_added_and_the_ticket_stays(till, token, phone, stranger):
    page = phone()
    paste(page, f"Here it is:\n{token(10)}\nKaribu!")
    online(page)
    ticket = page.locator("#own-ticket").input_value()
    page.locator("summary").click()
    page.locator("#way-ecash").click()
    expect(page.locator(".notice.calm")).to_contain_text("You are online · 9 minutes")
    page.locator("#token").fill(token(5))
    page.locator("button[type=submit]").click()
    online(page)
    assert allotment(stranger) == 900_000 and page.locator("#own-ticket").input_value() == ticket


REFUSED = {
    "spent": (
        "This ecash has been spent already. It cannot pay again.",
        "Ecash hii imeshatumika. Haiwezi kulipa tena.",
    ),
    "foreign": (
        "This ecash is of another payment service. Ecash taken here: {mint}.",
        "Ecash hii ni ya huduma nyingine ya malipo. Hapa hupokelewa ecash ya: {mint}.",
    ),
    "too little": (
        "This ecash is worth too little: pay at least 2 sat.",
        "Ecash hii ni kidogo mno: lipa angalau 2 sat.",
    ),
    "too much": (
        "That is more than can be bought at once: pay at most 100 sat.",
        "Hicho ni zaidi ya kinachouzwa kwa mara moja: lipa 100 sat au chini yake.",
    ),
    "locked": ("This ecash is locked to somebody else.", "Ecash hii imefungwa kwa ajili ya mtu mwingine."),
    "other unit": (
        "This ecash is not in sat, and only sat is taken here.",
        "Ecash hii si ya sat, na hapa hupokelewa sat pekee.",
    ),
    "double": ("This ecash cannot be taken here.", "Ecash hii haiwezi kupokelewa hapa."),
    "no token": (
        "This is not ecash, or a part of it is missing. Nothing was taken.",
        "Hii si ecash, au sehemu yake inakosekana. Hakuna kilichochukuliwa.",
    ),
}


@pytest.mark.parametrize("language, script", [("en", True), ("sw", False)])
def test_every_refusal_has_its_reason_and_leaves_the_token_in_its_field(
    lab, mint, fault_proxy, till, purse, phone, stranger, language, script
):
    url, proofs = fault_proxy.url, purse(3)
    wallet = Wallet(lab.internet, mint.url)
    spent = token_v4(url, purse(4))
    wallet.receive(spent)
    lock = json.dumps(["P2PK", {"nonce": "ab", "data": "02" + "ab" * 32, "tags": []}])
    tokens = {
        "spent": spent,
        "foreign": token_v4("https://mint.elsewhere.example", proofs),
        "too little": token_v4(url, purse(1)),
        "too much": token_v4(url, purse(101)),
        "locked": token_v3(url, [proofs[0] | {"secret": lock}]),
        "other unit": token_v4(url, proofs, unit="usd"),
        "double": token_v4(url, [proofs[0], proofs[0]]),
        "no token": "lnbc1nothing",
    }
    page = phone(script=script, language=language)
    page.goto(f"{PORTAL}/?way=ecash")
    for case, made in tokens.items():
        page.locator("#token").fill(made)
        page.locator("button[type=submit]").click()
        said = REFUSED[case][language == "sw"].format(mint=url.removeprefix("http://"))
        if case not in ("spent", "no token"):
            said += " " + GOOD[language]
        expect(page.locator(".notice")).to_have_text(said)
        expect(page.locator("#token")).to_have_value("" if case == "spent" else made)
        if case in ("foreign", "too little", "too much"):
            assert set(wallet.states(made)) == {"UNSPENT"}, case
    assert not stranger.online() and allotment(stranger) == -1


def test_a_refusal_and_what_was_typed_stay_when_the_guest_comes_back_to_the_page(till, phone, stranger):
    page = phone()
    paste(page, "lnbc1nothing")
    expect(page.locator(".notice")).to_be_visible()
    with page.expect_request_finished(lambda request: request.resource_type == "xhr"):
        page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator("#token")).to_have_value("lnbc1nothing")
    expect(page.locator(".notice")).to_be_visible()


def test_what_cannot_be_paid_now_is_not_taken_and_the_same_button_works_later(
    lab, mint, fault_proxy, till, token, phone, stranger
):
    made = token(10)
    page = phone()
    fault_proxy.fault("/v1/swap", status=400, body='{"detail":"proofs are pending.","code":11002}')
    paste(page, made)
    expect(page.locator(".notice")).to_have_text(
        f"It cannot be paid right now. Please try again in a minute. {GOOD['en']}"
    )
    assert set(Wallet(lab.internet, mint.url).states(made)) == {"UNSPENT"}
    fault_proxy.clear()
    page.locator("button[type=submit]").click()
    online(page)
    assert allotment(stranger) == 600_000


@pytest.mark.parametrize("script", [True, False])
def test_a_slow_mint_is_waited_for_on_a_page_that_goes_on_by_itself(fault_proxy, till, token, phone, stranger, script):
    made = token(10)
    seen = threading.Event()
    fault_proxy.fault("/v1/swap", until=seen)
    page = phone(script=script)
    # Open before, because a call is given up after 9 s, 3 of which the form has waited.
    second = None if script else phone(script=False)
    paste(page, made)
    expect(page.locator("main.paid h1")).to_have_text("Checking your ecash")
    assert "?token=" in page.url
    expect(page.locator(".steps .done")).to_have_count(1)
    if second:  # again, while it is under way
        paste(second, made)
    else:
        page.locator("header .lang").click()
        expect(page.locator("main.paid h1")).to_have_text("Tunakagua ecash yako")
    seen.set()
    if second:
        online(second)
    online(page)
    assert allotment(stranger) == 600_000 and stranger.online()


def test_a_refusal_that_comes_late_shows_the_form_again(lab, mint, fault_proxy, till, purse, phone, stranger):
    made = token_v4(fault_proxy.url, purse(10))
    spent = threading.Event()
    fault_proxy.fault("/v1/swap", until=spent)
    page = phone()
    paste(page, made)
    expect(page.locator("main.paid")).to_be_visible()
    Wallet(lab.internet, mint.url).receive(made)
    spent.set()
    expect(page.locator("main.ecash .notice")).to_have_text(REFUSED["spent"][0])
    page.reload()
    expect(page.locator("main.ecash .notice")).to_have_text(REFUSED["spent"][0])
    page.locator("header .lang").click()
    expect(page.locator("main.ecash .notice")).to_have_text(REFUSED["spent"][1])


def test_an_answer_that_got_lost_is_looked_up_and_the_guest_let_in(fault_proxy, till, token, phone, browser, stranger):
    made = token(10)
    fault_proxy.fault("/v1/swap", cut_answer=True, times=1)
    fault_proxy.fault("/v1/(swap|restore|checkstate)", status=503)
    page = phone()
    paste(page, made)
    expect(page.locator("main.trouble")).to_be_visible(timeout=60_000)
    expect(page.locator(".money")).to_have_text("Your payment is being looked up.")
    assert "Please do not pay again." in page.locator(".lead").inner_text()
    till.kill()
    till.start()
    page.reload()
    expect(page.locator("main.trouble .money")).to_be_visible()
    browser.problems(page).clear()  # a look at a daemon that was killed
    fault_proxy.clear()
    again = phone(script=False)
    wait_for(lambda: pasted(again, made), 10, "the token is sent again")
    for seen in (page, again):
        online(seen)
    assert allotment(stranger) == 600_000 and stranger.online()


def test_a_wallet_on_the_phone_pays_the_request_of_the_page(fault_proxy, till, purse, phone, stranger):
    page = phone()
    page.goto(f"{PORTAL}/?way=ecash")
    link = page.locator("#wallet").get_attribute("href")
    request = cbor2.loads(base64.urlsafe_b64decode(link.removeprefix("cashu:creqA")))
    assert request == {
        "u": "sat",
        "m": [fault_proxy.url],
        "d": "Kibanda Wi-Fi",
        "t": [{"t": "post", "a": f"{PORTAL}/"}],
    }
    payload = {"memo": None, "mint": request["m"][0], "unit": "sat", "proofs": purse(7)}
    answer = stranger.post(request["t"][0]["a"], payload)
    assert answer.status == 200, answer.text
    expect(page.locator(".notice.calm")).to_contain_text("You are online")
    page.locator("#home").click()
    online(page)
    assert allotment(stranger) == 420_000


def test_data_is_bought_with_ecash_and_the_rest_of_it_goes_to_another_mac(
    lab, mint, make_daemon, purse, phone, stranger
):
    make_daemon(mint.url, venue={"metric": "bytes", "step_size": MB, "max_steps": 1000})
    page = phone()
    page.goto(f"{PORTAL}/?way=ecash")
    expect(page.locator("p.rate")).to_have_text("1 sat = 1 MB")
    paste(page, token_v4(mint.url, purse(50)))
    online(page)
    ticket = page.locator("#own-ticket").input_value()
    assert allotment(stranger) == 50 * MB
    assert len(stranger.get(f"http://{HOST4}/bytes/{10 * MB}").body) == 10 * MB
    expect(page.locator(".left")).to_have_text(re.compile(r"4[01](\.\d)? MB"), timeout=60_000)
    change_mac(lab, stranger)
    page = phone(script=False)
    page.goto(f"{PORTAL}/?ticket={ticket}")
    page.locator("button[type=submit]").click()
    online(page)
    assert re.fullmatch(r"4[01](\.\d)? MB", page.locator(".left").inner_text()) and stranger.online()


def test_two_devices_with_one_address_are_told_so_whatever_they_do(lab, till, token, phone, stranger, other_stranger):
    page = phone()
    page.goto(PORTAL)
    other_stranger.become(ip=stranger.ip)
    wait_for(lambda: other_stranger.get(PORTAL, timeout=1).status == 200, 5, "it has been at the portal")
    lab.router.ip(f"neigh replace {stranger.ip} lladdr {stranger.mac} dev br-guest nud permanent")
    try:
        said = (
            "Another device uses the same network address as yours. Turn Wi-Fi off and on, then try again. Nothing "
            "was taken."
        )
        page.locator("button.pay").click()
        expect(page.locator(".notice")).to_have_text(said)
        page.locator("#way-ecash").click()
        page.locator("#token").fill(token(10))
        page.locator("button[type=submit]").click()
        expect(page.locator(".notice")).to_have_text(said)
    finally:
        lab.router.ip(f"neigh del {stranger.ip} dev br-guest")
        other_stranger.become_stranger()


def test_a_form_that_is_too_long_or_of_a_foreign_page_takes_nothing(till, token, stranger):
    def post(body: str, **headers):
        sent = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded", **headers}
        return exchange(stranger.connect(ROUTER4, 2121), "POST", "/ecash", f"{ROUTER4}:2121", sent, body.encode())

    assert "This is not ecash" in post("token=cashuB" + "A" * 140_000).text
    assert post(f"token={token(5)}", Origin="http://evil.example").status == 403
    assert not stranger.online()
    assert post(f"token={token(5)}", Origin=PORTAL).status == 303
    wait_for(stranger.online)

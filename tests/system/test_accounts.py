"""What was paid belongs to an account: tickets, cards and logins attach devices to it, and nobody has more for it."""

import contextlib
import os
import re
import sqlite3
import threading
import time
import urllib.parse

import pytest

from lab.counter import own_card
from lab.crash import at_commit
from lab.fault_mint import FaultMint
from lab.guest import Guest
from lab.http_client import Answer
from lab.internet import HOST4, MINT4
from lab.login import DOMAIN, LoginBrowser, LoginWallet
from lab.place import PATIENCE, wait_for
from lab.portal_client import PORTAL, MintProxy
from lab.tickets import WRONG, change_mac, forget_packets, show

MINUTE = 60_000
MB = 1_000_000
CARDS = {"domain": "cards.example.com", "network": "mainnet"}


class Place:
    """A shop with cards, at which a minute is a sat."""

    def __init__(self, make, mint: FaultMint, venue: dict | None = None, **auth) -> None:
        sections = {"card": CARDS} | ({"auth": {"domain": DOMAIN, **auth}} if auth else {})
        self.mint = mint
        self.daemon = make(mint.url, sections=sections, venue=venue or {})

    def buy(self, guest: Guest, steps: int = 5) -> dict:
        """Pays for so many minutes; the daemon's `session_granted`."""
        with MintProxy(guest) as proxy:
            ready = proxy.request(self.mint.url, steps, apply=True)
            self.mint.pay(ready["invoice"])
            return proxy.wait("session_granted")

    def open(self) -> set[str]:
        return self.daemon.paid_macs()


@pytest.fixture(scope="module")
def mint(lab):
    with FaultMint(lab.internet, MINT4) as made:
        yield made


@pytest.fixture
def place(make_daemon, mint):
    return Place(make_daemon, mint)


@pytest.fixture
def at_once(make_daemon, mint):
    """The same without a cool-down."""
    return Place(make_daemon, mint, move_cooldown="0")


def ask(guest: Guest, what: str, body: dict | None = None, **headers) -> Answer:
    return guest.post(f"{PORTAL}/session/{what}", body or {}, headers=headers, timeout=PATIENCE)


def refusal(answer: Answer) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["message"] and error["request_id"] == answer.headers["x-request-id"]
    return answer.status, error["code"]


def left(answer: Answer) -> int:
    assert answer.status == 200, answer.text
    assert answer.json()["remaining"]["metric"] == "milliseconds"
    return answer.json()["remaining"]["amount"]


# Cards


def test_a_linked_card_moves_the_rest_at_once_and_nothing_is_paid(place, stranger, other_stranger):
    granted, card = place.buy(stranger), own_card(place.daemon)
    linked = ask(stranger, "link", {"card": card.tap()})
    assert linked.json()["mac"] == stranger.mac and linked.json()["detached"] == []
    assert len(bytes.fromhex(linked.json()["account"])) == 16
    assert stranger.online() and not other_stranger.online()
    moved = ask(other_stranger, "attach", {"card": card.tap()})
    assert 4.5 * MINUTE < left(moved) <= 5 * MINUTE
    assert moved.json()["detached"] == [stranger.mac] and moved.json()["mac"] == other_stranger.mac
    assert other_stranger.online() and other_stranger.online(six=True) and not stranger.online()
    assert place.open() == {other_stranger.mac}
    assert place.daemon.ask("card", "history", str(card.id))["data"][0]["state"] == "tapped", "nothing was paid"
    assert left(ask(other_stranger, "attach", {"card": card.tap()})) > 4 * MINUTE, "an answer that was lost"
    assert show(other_stranger, granted["ticket"]).status == 200, "the ticket stands for it as well"


def test_the_portals_form_takes_a_linked_card_where_it_takes_a_ticket(place, stranger, other_stranger):
    place.buy(stranger)
    card = own_card(place.daemon)
    show_form = lambda text: LoginBrowser(other_stranger).request(
        "POST", "/ticket", urllib.parse.urlencode({"ticket": text}).encode(),
        {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"},
    )
    assert show_form(card.tap()).status == 404, "it is linked to nothing"
    tap = card.tap()
    assert ask(stranger, "link", {"card": tap}).status == 200
    assert show_form(tap).status == 403 and place.open() == {stranger.mac}, "used"
    moved = show_form(card.tap())
    assert (moved.status, moved.headers["location"]) == (303, "/")
    assert place.open() == {other_stranger.mac}


def test_a_tap_counts_once(place, stranger, other_stranger):
    place.buy(stranger)
    card = own_card(place.daemon)
    tap = card.tap()
    assert ask(stranger, "link", {"card": tap}).status == 200
    for what in ("link", "attach"):
        assert refusal(ask(other_stranger, what, {"card": tap})) == (403, "card_refused")
    assert place.open() == {stranger.mac}


def test_a_card_that_is_linked_to_nothing_moves_nothing(place, stranger):
    assert refusal(ask(stranger, "attach", {"card": own_card(place.daemon).tap()})) == (404, "nothing_to_move")


def test_a_card_that_was_disabled_or_wiped_claims_nothing(place, stranger, other_stranger):
    place.buy(stranger)
    card = own_card(place.daemon)
    ask(stranger, "link", {"card": card.tap()})
    place.daemon.ask("card", "disable", str(card.id))
    assert refusal(ask(other_stranger, "attach", {"card": card.tap()})) == (403, "card_refused")
    place.daemon.ask("card", "wipe", str(card.id))
    assert refusal(ask(other_stranger, "attach", {"card": card.tap()})) == (403, "card_refused")
    assert place.open() == {stranger.mac}


@pytest.mark.parametrize(
    "card, status, code",
    [
        ("x", 400, "invalid_link"),
        ("lnurlw://other.example.com/ln?card_id=1&p=00&c=00", 403, "forbidden"),
        (f"lnurlw://cards.example.com/ln?card_id=1&p={'00' * 16}&c={'00' * 8}", 403, "card_refused"),
    ],
)
def test_what_is_no_card_of_ours_is_refused(place, stranger, card, status, code):
    for what in ("attach", "link"):
        assert refusal(ask(stranger, what, {"card": card})) == (status, code)


def test_cards_are_tried_at_a_pace(place, stranger, other_stranger):
    wrong = f"lnurlw://cards.example.com/ln?card_id=1&p={'00' * 16}&c={'00' * 8}"
    codes = [refusal(ask(stranger, "attach", {"card": wrong})) for _ in range(11)]
    assert codes == [(403, "card_refused")] * 10 + [(429, "too_many")]
    assert refusal(ask(other_stranger, "attach", {"card": wrong})) == (403, "card_refused")


def test_a_card_with_an_account_of_its_own_makes_both_one(at_once, stranger, other_stranger):
    card = own_card(at_once.daemon)
    at_once.buy(stranger, 5)
    ask(stranger, "link", {"card": card.tap()})
    kept = at_once.buy(other_stranger, 7)["ticket"]
    linked = ask(other_stranger, "link", {"card": card.tap()})
    assert 11.5 * MINUTE < left(linked) <= 12 * MINUTE and linked.json()["detached"] == [stranger.mac]
    assert at_once.open() == {other_stranger.mac} and show(other_stranger, kept).status == 200


# Tickets


def test_a_ticket_attaches_when_the_old_device_is_gone(place, stranger, other_stranger):
    ticket = place.buy(stranger)["ticket"]
    assert stranger.online()
    refused = ask(other_stranger, "attach", {"ticket": ticket})
    assert refusal(refused) == (409, "ticket_in_use") and 1 <= int(refused.headers["retry-after"]) <= 30
    stranger.leave()
    forget_packets(place.daemon.lab)
    moved = ask(other_stranger, "attach", {"ticket": ticket})
    assert 4.5 * MINUTE < left(moved) <= 5 * MINUTE and moved.json()["detached"] == [stranger.mac]
    assert other_stranger.online() and place.open() == {other_stranger.mac}


def test_a_wrong_ticket_attaches_nothing(place, stranger):
    assert refusal(ask(stranger, "attach", {"ticket": WRONG})) == (403, "invalid_ticket")


def test_an_account_stays_for_the_cooldown_where_it_went(place, stranger):
    card = own_card(place.daemon)
    place.buy(stranger)
    ask(stranger, "link", {"card": card.tap()})
    change_mac(place.daemon.lab, stranger)
    assert ask(stranger, "attach", {"card": card.tap()}).status == 200, "payment and link are no moves"
    change_mac(place.daemon.lab, stranger)
    refused = ask(stranger, "attach", {"card": card.tap()})
    assert refusal(refused) == (409, "cooldown") and 50 < int(refused.headers["retry-after"]) <= 60
    assert not stranger.online()


# Who asks for what


def test_nobody_without_a_proof_attaches_anything(place, stranger, other_stranger):
    place.buy(stranger)
    for headers in ({}, {"x-jwt": "a.b.c"}, {"Authorization": "Bearer a.b.c"}):
        assert refusal(ask(other_stranger, "attach", **headers)) == (401, "unauthorized")
    assert refusal(ask(other_stranger, "detach", {"mac": stranger.mac})) == (403, "forbidden")
    assert refusal(ask(other_stranger, "detach")) == (404, "nothing_to_move")
    assert place.open() == {stranger.mac}


@pytest.mark.parametrize(
    "body", ["[]", "null", "{", '{"ticket":5}', '{"card":{}}', '{"ticket":"x","card":"y"}', "\xff"]
)
def test_what_is_no_message_is_refused(place, stranger, body):
    answer = stranger.post(f"{PORTAL}/session/attach", body.encode("latin-1"))
    assert refusal(answer) == (400, "invalid_input")


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_pages_of_others_move_nothing(place, stranger, headers):
    place.buy(stranger)
    for what in ("attach", "detach", "link"):
        assert ask(stranger, what, **headers).status == 403
    assert place.open() == {stranger.mac}


def test_a_detached_device_is_out_and_the_rest_waits(place, stranger):
    ticket = place.buy(stranger)["ticket"]
    assert ask(stranger, "detach").json() == {"mac": stranger.mac, "detached": [stranger.mac]}
    assert not stranger.online() and place.open() == set()
    time.sleep(1)
    back = ask(stranger, "attach", {"ticket": ticket})
    assert 4.5 * MINUTE < left(back) <= 5 * MINUTE - 1000, "time runs on"
    assert stranger.online()


def test_nothing_is_written_for_who_has_nothing_to_detach(place, stranger, other_stranger):
    place.buy(stranger)
    before = place.daemon.status()["data"]["store"]["commits"]
    for _ in range(5):
        assert refusal(ask(other_stranger, "detach")) == (404, "nothing_to_move")
    assert place.daemon.status()["data"]["store"]["commits"] == before


def test_neither_tickets_nor_taps_are_logged(place, stranger):
    ticket, card = place.buy(stranger)["ticket"], own_card(place.daemon)
    taps = [card.tap(), card.tap()]
    ask(stranger, "link", {"card": taps[0]})
    ask(stranger, "attach", {"card": taps[1]})
    ask(stranger, "attach", {"ticket": ticket})
    log = place.daemon.log()
    assert ticket not in log
    assert not [tap for tap in taps if tap.rsplit("p=")[1] in log]


# Logins


def linked(guest: Guest, wallet: LoginWallet) -> LoginBrowser:
    """A browser in which the wallet was tied to what is paid on this device."""
    browser = LoginBrowser(guest)
    k1 = browser.ask("?action=link")["k1"]
    assert wallet.answer(guest, k1).json() == {"status": "OK"}
    browser.token = browser.status(k1)["jwt"]
    return browser


def me(browser: LoginBrowser, token: str) -> dict:
    answer = browser.with_token(token)
    assert answer.status == 200, answer.text
    return answer.json()


def test_a_login_finds_what_was_linked_and_attaches_another_device(at_once, stranger, other_stranger):
    wallet = LoginWallet(501)
    at_once.buy(stranger)
    browser = linked(stranger, wallet)
    own = me(browser, browser.token)
    assert own["macs"] == [stranger.mac] and len(bytes.fromhex(own["account"])) == 16
    assert own["remaining"]["metric"] == "milliseconds" and own["remaining"]["amount"] > 4 * MINUTE
    other = LoginBrowser(other_stranger)
    token = other.log_in(wallet)
    assert me(other, token)["account"] == own["account"]
    socket, _ = browser.websocket()
    moved = ask(other_stranger, "attach", **{"x-jwt": token})
    assert left(moved) > 4 * MINUTE and moved.json()["detached"] == [stranger.mac]
    assert socket.receive_json() == {"msg": "session_moved", "mac": other_stranger.mac}
    assert other_stranger.online() and not stranger.online()
    assert me(other, token)["macs"] == [other_stranger.mac]
    back = ask(stranger, "attach", Authorization=f"Bearer {browser.token}")
    assert left(back) > 4 * MINUTE and at_once.open() == {stranger.mac}
    assert ask(other_stranger, "detach", {"mac": stranger.mac}, **{"x-jwt": token}).status == 200
    assert at_once.open() == set() and me(other, token)["macs"] == []


def test_a_login_that_finds_no_account_makes_none(at_once, stranger):
    browser, wallet = LoginBrowser(stranger), LoginWallet(502)
    token = browser.log_in(wallet)
    assert me(browser, token) == {
        "pubkey": wallet.key,
        "role": "client",
        "account": None,
        "macs": [],
        "remaining": None,
    }
    assert refusal(ask(stranger, "attach", **{"x-jwt": token})) == (404, "nothing_to_move")
    at_once.buy(stranger)
    assert me(browser, token)["account"] is None, "nobody has linked it"


def test_a_token_that_was_logged_out_moves_nothing(at_once, stranger, other_stranger):
    wallet = LoginWallet(503)
    at_once.buy(stranger)
    linked(stranger, wallet)
    other = LoginBrowser(other_stranger)
    token = other.log_in(wallet)
    assert other.with_token(token, "POST", "/logout").status == 204
    assert refusal(ask(other_stranger, "attach", **{"x-jwt": token})) == (401, "unauthorized")
    assert at_once.open() == {stranger.mac}


def test_the_name_that_wallets_are_linked_under_stays_until_it_is_given_up(at_once, stranger):
    daemon, wallet = at_once.daemon, LoginWallet(505)
    other = {"domain": "other.example.net"}
    change = lambda **auth: daemon.sections.update(auth=auth | {"move_cooldown": "0"}) or daemon.write_config()
    domain = lambda: LoginBrowser(stranger).ask()["url"].split("/")[2]
    change(**other)
    assert daemon.ask("reload")["ok"] and domain() == "other.example.net", "there is no account yet"
    change(domain=DOMAIN)
    assert daemon.ask("reload")["ok"] and not os.path.exists(f"{daemon.state_dir}/auth.domain")
    at_once.buy(stranger)
    wait_for(lambda: os.path.exists(f"{daemon.state_dir}/auth.domain"), PATIENCE, "there is an account, linked or not")
    change(**other)
    assert daemon.command("check", check=False).code == 1
    change(domain=DOMAIN)
    linked(stranger, wallet)
    change(**other)
    for command in ("reload", "check"):
        refused = daemon.command(command, check=False)
        assert refused.code == 1 and f"add option former_domain '{DOMAIN}'" in refused.out, command
    assert domain() == DOMAIN
    daemon.kill()
    daemon.start()
    assert domain() == DOMAIN and stranger.online(), "the old one is kept, and the shop goes on"
    assert "former_domain" in str(daemon.status()["data"]["trouble"])
    change(**other, former_domain=DOMAIN)
    assert daemon.command("check").code == 0
    assert daemon.ask("reload")["ok"] and domain() == "other.example.net"
    wait_for(lambda: open(f"{daemon.state_dir}/auth.domain").read().startswith("other.example.net "), PATIENCE)
    change(**other)
    assert daemon.ask("reload")["ok"], "it is noted"
    assert daemon.status()["data"]["trouble"] == []


def test_a_link_does_not_pass_an_account_to_and_fro(make_daemon, mint, stranger, other_stranger):
    place, wallet = Place(make_daemon, mint, move_cooldown="60"), LoginWallet(504)
    place.buy(stranger)
    linked(stranger, wallet)
    linked(other_stranger, wallet)
    assert place.open() == {other_stranger.mac}
    browser = LoginBrowser(stranger)
    k1 = browser.ask("?action=link")["k1"]
    refused = wallet.answer(stranger, k1)
    assert (refused.status, refused.json()["status"]) == (409, "ERROR")
    assert "moved" in refused.json()["reason"] and 50 < int(refused.headers["retry-after"]) <= 60
    assert browser.status(k1) == {"status": "expired"} and place.open() == {other_stranger.mac}
    assert ask(other_stranger, "detach").status == 200
    k1 = browser.ask("?action=link")["k1"]
    assert wallet.answer(stranger, k1).json()["status"] == "ERROR", "nor where it was left for that"
    assert place.open() == set()
    place.daemon.stop()
    with sqlite3.connect(os.path.join(place.daemon.state_dir, "store.db")) as db:
        assert db.execute("SELECT count(*) FROM accounts").fetchone() == (1,), "a refused link leaves none"


# The portal, without script


class Page:
    """A browser that knows no script."""

    def __init__(self, guest: Guest) -> None:
        self.browser = LoginBrowser(guest)

    def get(self, path: str) -> Answer:
        return self.browser.get(path, Accept="text/html")

    def begin(self, way: str) -> tuple[str, str]:
        """Where it is looked at, and the k1."""
        answer = self.get(f"/?way={way}")
        assert answer.status == 303, answer.text
        there = answer.headers["location"]
        return there, there.split("k1=")[1]

    def type(self, way: str, k1: str, code: str) -> Answer:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
        return self.browser.request("POST", "/wallet", f"way={way}&k1={k1}&code={code}".encode(), form)


def test_time_is_kept_with_a_wallet_and_gone_on_with_on_the_next_device(at_once, stranger, other_stranger):
    wallet = LoginWallet(505)
    at_once.buy(stranger)
    old, new = Page(stranger), Page(other_stranger)
    assert "way=keep" in old.get("/").text and "way=mine" in new.get("/").text
    there, k1 = old.begin("keep")
    page = old.get(there).text
    assert re.search(r'href="lightning:LNURL1[0-9A-Z]+"', page)
    assert f'href="keyauth://{DOMAIN}/lnauth_login/{k1}' in page
    assert '<meta http-equiv="refresh"' in page and "data-copies" in page
    assert wallet.answer(stranger, k1).json() == {"status": "OK"}
    assert "Your wallet stands for it now" in old.get(there).text
    there, k1 = new.begin("mine")
    assert "Waiting for your wallet" in new.get(there).text
    assert wallet.answer(other_stranger, k1).json() == {"status": "OK"}
    moved = new.get(there)
    assert (moved.status, moved.headers["location"]) == (303, "/")
    assert "You are online" in new.get("/").text and other_stranger.online() and not stranger.online()
    assert new.get(there).status == 303, "an answer that was lost"


def test_a_wallet_on_another_device_is_asked_for_two_digits(at_once, stranger, other_stranger):
    wallet = LoginWallet(506)
    at_once.buy(stranger)
    page = Page(stranger)
    there, k1 = page.begin("keep")
    code = wallet.answer(other_stranger, k1).json()["message"].removeprefix("Code ")
    shown = page.get(there).text
    assert 'action="/wallet"' in shown and code not in re.findall(r"\b\d\d\b", shown.split("<main")[1])
    wrong = page.type("keep", k1, f"{(int(code) + 1) % 100:02}")
    assert wrong.status == 403 and "not the digits" in wrong.text
    assert page.type("keep", k1, code).headers["location"] == there
    assert "Your wallet stands for it now" in page.get(there).text


def test_a_page_of_another_browser_says_nothing(at_once, stranger, other_stranger):
    at_once.buy(stranger)
    there, k1 = Page(stranger).begin("keep")
    for page in (Page(stranger), Page(other_stranger)):
        shown = page.get(there.replace("keep", "mine"))
        assert "begun on another device" in shown.text and "LNURL1" not in shown.text
        assert page.type("mine", k1, "00").status == 403


def test_nothing_is_kept_before_paying_and_nothing_resumed_that_was_not_kept(at_once, stranger):
    page = Page(stranger)
    assert "How much time?" in page.get("/?way=keep").text
    there, k1 = page.begin("mine")
    assert LoginWallet(507).answer(stranger, k1).json() == {"status": "OK"}
    refused = page.get(there)
    assert refused.status == 404 and "Nothing is left for this wallet" in refused.text


def test_without_logins_the_portal_offers_none(place, stranger):
    place.buy(stranger)
    page = Page(stranger)
    assert "way=keep" not in page.get("/").text and "way=mine" not in page.get("/").text
    assert "You are online" in page.get("/?way=keep").text


# Several devices


def test_two_devices_share_what_was_paid_and_the_longest_attached_goes(make_daemon, mint, stranger, other_stranger):
    place = Place(make_daemon, mint, max_devices="2", move_cooldown="0")
    card = own_card(place.daemon)
    place.buy(stranger)
    ask(stranger, "link", {"card": card.tap()})
    second = ask(other_stranger, "attach", {"card": card.tap()})
    assert second.json()["detached"] == [] and left(second) > 4 * MINUTE
    assert stranger.online() and other_stranger.online()
    place.buy(other_stranger, 5)
    assert 9 * MINUTE < left(ask(stranger, "attach", {"card": card.tap()})) <= 10 * MINUTE, "for both"
    before = other_stranger.mac
    change_mac(place.daemon.lab, other_stranger)
    third = ask(other_stranger, "attach", {"card": card.tap()})
    assert third.json()["detached"] == [stranger.mac]
    assert place.open() == {before, other_stranger.mac} and not stranger.online()
    place.daemon.restart()
    wait_for(lambda: place.open() == {before, other_stranger.mac}, PATIENCE, "both come back")


def test_no_more_bytes_pass_than_were_paid_whichever_device_has_them(make_daemon, mint, stranger, other_stranger):
    venue = {"metric": "bytes", "step_size": MB, "max_steps": 100}
    place = Place(make_daemon, mint, venue, max_devices="2", move_cooldown="0")
    session = lambda: place.daemon.data("sessions")[0]
    card, passed, paid = own_card(place.daemon), 0, 8
    place.buy(stranger, paid)
    ask(stranger, "link", {"card": card.tap()})
    assert ask(other_stranger, "attach", {"card": card.tap()}).json()["detached"] == []
    devices = [other_stranger, stranger]
    assert place.open() == {other_stranger.mac}, "one has them"
    for _ in range(4):
        has, pays = devices
        assert len(has.get(f"http://{HOST4}/bytes/{MB}", timeout=PATIENCE).body) == MB
        passed += MB
        place.buy(pays, 1)
        paid += 1
        assert place.open() == {pays.mac} and session()["mac"] == pays.mac, "who paid last has them"
        assert passed < session()["used_bytes"] < 1.3 * passed, "what the other has used, with its packets' headers"
        devices.reverse()
    place.daemon.restart()
    wait_for(lambda: place.open() == {devices[0].mac}, PATIENCE, "it goes on")
    assert session()["used_bytes"] > passed and session()["allotment_bytes"] == paid * MB


def test_accounts_that_become_one_keep_what_either_has_used(make_daemon, mint, stranger, other_stranger):
    venue = {"metric": "bytes", "step_size": MB, "max_steps": 100}
    place = Place(make_daemon, mint, venue, max_devices="1", move_cooldown="0")
    session = lambda: place.daemon.data("sessions")[0]
    card = own_card(place.daemon)
    place.buy(other_stranger, 8)
    ask(other_stranger, "link", {"card": card.tap()})
    for _ in range(4):
        assert len(other_stranger.get(f"http://{HOST4}/bytes/{MB}", timeout=PATIENCE).body) == MB
    place.buy(stranger, 2)
    ask(stranger, "link", {"card": card.tap()})
    assert place.open() == {stranger.mac}
    assert session()["allotment_bytes"] == 10 * MB and session()["used_bytes"] > 4 * MB
    with contextlib.suppress(OSError):
        stranger.get(f"http://{HOST4}/bytes/{6 * MB}", timeout=5)
    wait_for(lambda: place.open() == set(), PATIENCE, "all that was bought is used")


def test_whom_a_stranger_names_to_be_detached_is_not_kept_from_it(at_once, stranger, other_stranger):
    token = LoginBrowser(other_stranger).log_in(LoginWallet(507))
    at_once.buy(stranger)
    for _ in range(70):
        named = ask(other_stranger, "detach", {"mac": stranger.mac}, **{"x-jwt": token})
        assert named.status in (404, 429)
    assert named.status == 429
    assert ask(stranger, "detach").status == 200


# kill -9


@pytest.mark.parametrize("after", [0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.04])
def test_a_crash_leaves_at_most_one_device_open_and_nothing_is_lost(at_once, stranger, other_stranger, after):
    place, card = at_once, own_card(at_once.daemon)
    place.buy(stranger)
    ask(stranger, "link", {"card": card.tap()})
    both = {stranger.mac, other_stranger.mac}
    # The tap is a commit, and the move is another one.
    dead = at_commit(place.daemon, 2, place.daemon.kill, after, limit=5)
    try:
        ask(other_stranger, "attach", {"card": card.tap()})
    except OSError:
        pass
    assert dead.wait(PATIENCE)
    assert len(place.open() & both) <= 1
    seen, watched = [], threading.Event()

    def watch() -> None:
        while not watched.is_set():
            seen.append(place.open() & both)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        place.daemon.start()
        wait_for(lambda: len(place.open() & both) == 1, PATIENCE, "one of them is open")
    finally:
        watched.set()
        watcher.join()
    assert max(map(len, seen)) <= 1, seen
    assert left(ask(other_stranger, "attach", {"card": card.tap()})) > 4 * MINUTE
    assert other_stranger.online() and place.open() == {other_stranger.mac}

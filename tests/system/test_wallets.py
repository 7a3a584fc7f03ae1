"""What wallets, tills and people with a clipboard send: ecash for a payment request, pages of wallets, tokens and
links as chats make them, tokens in the form that a client reads, what an invoice says that it is for."""

import base64
import json
from urllib.parse import urlencode

import bolt11
import pytest

from lab.counter import FORM
from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4
from lab.internet import MINT4
from lab.payers import Purse, pay, usage
from lab.place import PATIENCE, wait_for
from lab.portal_client import PORTAL, MintProxy, post_request, read_request
from lab.tickets import show as show_ticket
from lab.tollgate_client import TOLLGATE, check_event, sign_event, tag_of
from lab.wallet import Wallet, decode_token

STEP = 60_000
WALLETS = ["https://wallet.cashu.me", "https://wallet.example:8443", "capacitor://localhost"]


@pytest.fixture(scope="module")
def market(lab):
    """The mint, and a daemon that sells a minute for a sat of it."""
    with FaultMint(lab.internet, MINT4) as mint:
        venue = {"name": "Kibanda Wi-Fi", "step_size": STEP, "max_steps": 1000}
        with Daemon(lab, [Mint(mint.url)], venue=venue, name="wallets") as daemon:
            yield mint, daemon
        lab.clean_router()


@pytest.fixture
def mint(market):
    return market[0]


@pytest.fixture
def purse(lab, mint):
    return Purse(lab, mint)


@pytest.fixture(autouse=True)
def survives(market, request):
    before = len(market[1].log())
    yield
    log = market[1].log()[before:]
    if getattr(request.node, "failed", False):
        print(f"--- log\n{log[-6000:]}")
    assert market[1].running
    market[1].must_be_sound()


# Payment requests (NUT-18)


def payload(purse: Purse, amount: int, **change) -> dict:
    """As cashu-ts 4 and Minibits send it: amounts are digits."""
    proofs = decode_token(purse.token(amount)).proofs
    proofs = [proof | {"amount": str(proof["amount"])} for proof in proofs]
    sent = {"id": "b7a90176", "memo": "for the Wi-Fi", "mint": purse.mint.url, "unit": "sat", "proofs": proofs}
    return sent | change


def test_a_wallet_pays_a_payment_request_with_amounts_as_digits(purse, stranger):
    answer = stranger.post(TOLLGATE + "/", payload(purse, 5), timeout=PATIENCE)
    event = check_event(answer.json())
    assert (answer.status, event["kind"], tag_of(event, "allotment")) == (200, 1022, str(5 * STEP))
    assert stranger.online()


def test_a_wallet_that_leaves_out_what_is_optional_is_served(purse, stranger):
    sent = payload(purse, 3)
    del sent["id"], sent["memo"], sent["unit"]
    sent["proofs"] = [proof | {"amount": int(proof["amount"])} for proof in sent["proofs"]]
    assert stranger.post(TOLLGATE + "/", json.dumps(sent).encode(), timeout=PATIENCE).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"mint": "https://other.example"},
        {"mint": 7},
        {"mint": None},
        {"unit": "usd"},
        {"unit": ["sat"]},
        {"proofs": []},
        {"proofs": None},
        {"proofs": "cashuB"},
        {"proofs": {"0": {}}},
        {"proofs": [1, "2", None, [], {}]},
        {"proofs": [{"amount": "2"}]},
        {"proofs": [{"amount": "1" * 5000, "id": "00", "secret": "s", "C": "02"}]},
        {"proofs": [{"amount": [[[["2"]]]], "id": {}, "secret": [], "C": 0}]},
    ],
)
def test_a_refusal_of_a_wallets_payment_carries_the_error(purse, stranger, change):
    answer = stranger.post(TOLLGATE + "/", payload(purse, 2) | change, timeout=PATIENCE)
    told = answer.json()
    assert answer.status in (400, 402) and told["kind"] == 21023 and told["error"] == told["content"] != ""
    assert usage(stranger) == "-1/-1"


def test_a_spent_payment_is_refused_with_the_error_too(lab, mint, purse, stranger, other_stranger):
    sent = payload(purse, 2)
    assert stranger.post(TOLLGATE + "/", sent, timeout=PATIENCE).status == 200
    answer = other_stranger.post(TOLLGATE + "/", sent, timeout=PATIENCE)
    assert answer.status == 402 and answer.json()["error"] == "Token has already been spent"


def test_a_payment_of_many_megabytes_is_refused_with_the_error(stranger):
    sent = json.dumps({"mint": "https://m.example", "unit": "sat", "proofs": [{"amount": "1"}] * 40_000}).encode()
    answer = stranger.post(TOLLGATE + "/", sent, {"Content-Type": "application/json"}, timeout=PATIENCE)
    assert answer.status in (400, 402) and answer.json()["error"]


# Pages of wallets


def preflight(guest, path: str, origin: str, method: str, port: int = 2121):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    return guest.request("OPTIONS", f"http://{ROUTER4}:{port}{path}", headers=asked)


@pytest.mark.parametrize("origin", WALLETS)
def test_a_wallets_page_may_pay_and_read_the_answer_and_nothing_else(purse, stranger, origin):
    asked = preflight(stranger, "/", origin, "POST")
    assert asked.status in (200, 204)
    for answer in (asked, stranger.post(TOLLGATE + "/", payload(purse, 2), {"Origin": origin}, timeout=PATIENCE)):
        told = answer.headers
        assert told["access-control-allow-origin"] == origin and told["vary"] == "Origin"
        assert told["access-control-allow-methods"] == "POST"
        assert told["access-control-allow-headers"].lower() == "content-type"
        assert "access-control-allow-credentials" not in told
    assert answer.status == 200 and "ticket" not in answer.text, "a page of others is shown none"
    for method, path in [("GET", "/"), ("GET", "/usage"), ("POST", "/ln-invoice"), ("POST", "/ticket"), ("PUT", "/")]:
        assert "access-control-allow-origin" not in preflight(stranger, path, origin, method).headers, path
        body = None if method == "GET" else b"x"
        seen = stranger.request(method, TOLLGATE + path, body=body, headers={"Origin": origin})
        assert "access-control-allow-origin" not in seen.headers, path


@pytest.mark.parametrize("origin", ["http://wallet.example", "null", "capacitor://other", "https://"])
def test_other_pages_may_not_even_pay(stranger, origin):
    assert "access-control-allow-origin" not in preflight(stranger, "/", origin, "POST").headers
    refused = stranger.post(TOLLGATE + "/", b"x", {"Origin": origin})
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("path", ["/ln", "/ln/callback"])
def test_a_till_that_is_a_page_may_tap_at_the_guests_port_too(stranger, path):
    answer = preflight(stranger, path, "https://till.example", "GET")
    assert answer.status == 204 and answer.headers["access-control-allow-origin"] == "*"
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    asked = stranger.get(PORTAL + path, {"Origin": "https://till.example"})
    assert asked.headers["access-control-allow-origin"] == "*"


# What is pasted


def behind_an_emoji(text: str) -> str:
    """As cashu.me hides a token: a variation selector for each byte."""
    return "\U0001f95c" + "".join(chr(0xE0100 + byte - 16) for byte in text.encode())


def broken(text: str, end: str = "\r\n", mark: str = "") -> str:
    return end.join(mark + text[at : at + 60] for at in range(0, len(text), 60))


PASTED = {
    "full stop": lambda t: t + ".",
    "comma": lambda t: t + ",",
    "exclamation": lambda t: t + "!",
    "brackets": lambda t: f"({t})",
    "quotes": lambda t: f'"{t}"',
    "typographic quotes": lambda t: f"\u201c{t}\u201d",
    "guillemets": lambda t: f"\u00ab {t} \u00bb",
    "bold": lambda t: f"*{t}*",
    "italic": lambda t: f"_{t}_",
    "code": lambda t: f"`{t}`",
    "angle": lambda t: f"<{t}>",
    "a sentence": lambda t: f"Here is your ecash: {t}. Enjoy!",
    "a link": lambda t: f"cashu:{t}",
    "a link in capitals": lambda t: f"CASHU://{t},",
    "a web link": lambda t: f"https://wallet.example/#token={t}",
    "lines": broken,
    "lines in a sentence": lambda t: f"Take this:\n{broken(t)}\n\nBye",
    "a quoted mail": lambda t: broken(t, "\n", "> "),
    "invisible marks": lambda t: "\ufeff\u2066" + t[:40] + "\u200b" + t[40:90] + "\u00ad" + t[90:] + "\u2069",
    "an emoji": behind_an_emoji,
    "an emoji in a sentence": lambda t: f"have some {behind_an_emoji(t)} nuts",
}


@pytest.mark.parametrize("shape", PASTED)
def test_a_token_is_read_in_every_shape_by_every_form(market, lab, mint, purse, stranger, other_stranger, shape):
    text = PASTED[shape](purse.token(1))
    assert pay(stranger, text)[0].status == 200, "POST /"
    text = PASTED[shape](purse.token(1))
    event = sign_event(21000, [["payment", text]])
    assert stranger.post(TOLLGATE + "/", event, timeout=PATIENCE).status == 200, "within an event"
    text = PASTED[shape](purse.token(1))
    page = other_stranger.post(f"{PORTAL}/ecash", urlencode({"token": text}).encode(), FORM, timeout=PATIENCE)
    assert page.status == 303, page.text
    told = market[1].control({"command": "wallet", "args": ["receive", PASTED[shape](purse.token(1))]}, PATIENCE)
    assert told["ok"] and told["data"]["received"] == 1, told


def test_a_ticket_is_read_as_it_is_copied(purse, stranger, other_stranger):
    ticket = tag_of(pay(stranger, purse.token(3))[0].json(), "ticket")
    shapes = ["({}).", "\u201c{}\u201d", " *{}* ", "\ufeff{}\u200b", "http://192.168.77.1:2121/?ticket={}", "{}"]
    wrong = show_ticket(other_stranger, "my ticket is lost")
    assert wrong.status == 403
    for shape in shapes[-1:] + shapes[:-1]:
        text = shape.format(ticket.upper().replace("-", " "))
        shown = show_ticket(stranger, text)
        assert shown.status == 200, (shape, shown.text)


# Tokens in the form that was asked for


@pytest.mark.parametrize("form", ["cashuA", "cashuB", None])
def test_tokens_come_in_the_form_that_was_asked_for_after_a_restart_too(lab, market, mint, stranger, form):
    daemon = market[1]
    asked = {"format": form} if form else {}
    with MintProxy(stranger) as proxy:
        ready = proxy.request(mint.url, 13, **asked)
        daemon.kill()
        daemon.start()
        mint.pay(ready["invoice"])
    found = wait_for(lambda: tokens(stranger, ready["request_id"]), 20, "the tokens")
    assert found.startswith(form or "cashuB")
    assert Wallet(lab.internet, mint.url).receive(proofs_of(found)) == 13


def proofs_of(token: str) -> list[dict]:
    if token.startswith("cashuB"):
        return decode_token(token).proofs
    text = token.removeprefix("cashuA")
    (part,) = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["token"]
    return part["proofs"]


def tokens(guest, id: str) -> str | None:
    return read_request(guest, id).json().get("tokens")


def test_another_form_is_another_request_and_one_that_there_is_not_is_refused(mint, stranger):
    first, second = (post_request(stranger, mint.url, 17, format=form).json() for form in ("cashuA", "cashuB"))
    again = post_request(stranger, mint.url, 17, format="cashuA").json()
    assert first["request_id"] == again["request_id"] != second["request_id"]
    for form in ("cashuC", "", 3, ["cashuA"], {}):
        refused = post_request(stranger, mint.url, 17, format=form)
        assert (refused.status, refused.json()["code"]) == (400, "invalid_message"), form


# What an invoice is for


def test_an_invoice_says_where_and_what_for(mint, stranger):
    ask = {"amount": 90, "mint_url": mint.url}
    made = [
        stranger.post(TOLLGATE + "/ln-invoice", ask, timeout=PATIENCE).json(),
        post_request(stranger, mint.url, 21).json(),
    ]
    said = [bolt11.decode(one["invoice"]).description for one in made]
    assert said == ["Kibanda Wi-Fi: 1 h 30 min", "Kibanda Wi-Fi: 21 sat"]

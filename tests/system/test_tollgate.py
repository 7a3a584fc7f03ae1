"""TollGate v1 to the letter: what existing clients ask, bodies, headers, codes and sentences, with real ecash of a
real mint.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import bolt11
import pytest

from lab.daemon import Daemon, Mint
from lab.guest import ROUTER4, ROUTER6
from lab.place import answer_when, wait_for
from lab.tollgate_client import (
    PORTAL_ORIGIN, TOLLGATE, PortalSite, check_event, sign_event, tag_of, tags_of, token_v3, token_v4,
)
from lab.wallet import Wallet

STEP = 60_000
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
NOTHING = {"status": 1, "session_active": False, "usage": 0, "allotment": 0, "remaining": 0}
REFUSED_INVOICE = {"status": 0, "quote": "", "mint_url": "", "amount": 0, "state": "", "access_granted": False}


@pytest.fixture(scope="module")
def gate(lab, mint):
    """One daemon for the module: a step costs a sat at the real mint, which takes no fees."""
    with Daemon(
        lab, [Mint(mint.url, price=1, min_steps=0)], venue={"step_size": STEP, "max_steps": 1000}, name="tollgate"
    ) as daemon:
        yield daemon
    lab.clean_router()


@pytest.fixture(autouse=True)
def survives(gate, request):
    before = len(gate.log())
    yield
    log = gate.log()[before:]
    if getattr(request.node, "failed", False):
        print(f"--- log\n{log[-6000:]}")
    assert gate.running
    gate.must_be_sound()


@pytest.fixture(scope="module")
def purse(lab, mint):
    """`purse(amount)`: proofs of exactly this amount, fresh from the mint."""

    return lambda amount: Wallet(lab.internet, mint.url).buy(mint, amount)


@pytest.fixture
def token(mint, purse):
    return lambda amount: token_v4(mint.url, purse(amount))


def pay(guest, body, timeout: float = 60, **headers):
    return guest.post(
        TOLLGATE + "/",
        body.encode() if isinstance(body, str) else body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=timeout,
    )


def assert_session(answer, guest, allotment: int) -> dict:
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert answer.body.endswith(b"}\n")
    event = check_event(answer.json())
    assert (event["kind"], event["content"]) == (1022, "")
    names = [tag[0] for tag in event["tags"]]
    assert names[:5] == ["p", "device-identifier", "allotment", "metric", "start-time"]
    assert event["tags"][0] == ["p", guest.mac] and event["tags"][1] == ["device-identifier", "mac", guest.mac]
    assert (tag_of(event, "allotment"), tag_of(event, "metric")) == (str(allotment), "milliseconds")
    assert abs(int(tag_of(event, "start-time")) - event["created_at"]) < 300
    return event


def assert_notice(answer, status: int, code: str, content: str | None = None) -> dict:
    assert (answer.status, answer.headers["content-type"]) == (status, JSON), answer.text
    event = check_event(answer.json())
    assert event["kind"] == 21023 and tag_of(event, "code") == code, answer.text
    assert tag_of(event, "level") in ("error", "warning") and tag_of(event, "message") == event["content"]
    assert content in (None, event["content"])
    return event


def usage(guest) -> str:
    answer = guest.get(TOLLGATE + "/usage")
    assert (answer.status, answer.headers["content-type"]) == (200, TEXT)
    return answer.text


# GET /


def test_offer_is_an_event_with_every_mint_in_six_strings(gate, stranger, mint):
    answer = stranger.get(TOLLGATE + "/")
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert not answer.body.endswith(b"\n")
    event = check_event(answer.json())
    assert (event["kind"], event["content"]) == (10021, "")
    assert event["tags"] == [
        ["metric", "milliseconds"],
        ["step_size", str(STEP)],
        ["tips", "1", "2"],
        ["price_per_step", "cashu", "1", "sat", mint.url, "1"],
    ]


def test_key_is_kept_over_restarts_and_is_its_owners_alone(gate, stranger):
    def pubkey() -> str:
        return stranger.get(TOLLGATE + "/").json()["pubkey"]

    before = pubkey()
    gate.restart()
    assert pubkey() == before
    assert os.stat(os.path.join(gate.state_dir, "identity.key")).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "path",
    ["/", "/pay", "/pay-here", "/index.php?x=1", "/a/b/c", "/portal", "/balance.html", "//", "/%2e%2e/etc/passwd"],
)
def test_programs_get_the_offer_on_paths_that_are_nobodys(gate, stranger, path):
    for method in ("GET", "PUT", "DELETE"):
        answer = stranger.request(method, TOLLGATE + path, headers={"Accept": "*/*"})
        assert (answer.status, answer.json()["kind"]) == (200, 10021)


def test_head_of_the_offer_has_no_body(gate, stranger):
    answer = stranger.request("HEAD", TOLLGATE + "/")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", ["/portal", "/balance.html", "/index.html", "/splash.html?x=1"])
def test_browsers_are_led_to_the_portal(gate, stranger, path):
    answer = stranger.get(TOLLGATE + path, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_browsers_see_the_portal_at_the_root(gate, stranger):
    answer = stranger.get(TOLLGATE + "/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/mint-requests/x/y", "/admin", "/health/live", "/mint-proxy/x"])
def test_mistakes_in_our_own_paths_are_404_for_everybody(gate, stranger, path):
    assert (
        stranger.get(TOLLGATE + path).status
        == stranger.get(TOLLGATE + path, headers={"Accept": "text/html"}).status
        == 404
    )


# Who am I, what have I got


def test_whoami_is_the_mac_of_the_neighbour_table(gate, stranger):
    for host in (ROUTER4, f"[{ROUTER6}]"):
        answer = stranger.get(f"http://{host}:2121/whoami")
        assert (answer.status, answer.headers["content-type"], answer.text) == (200, TEXT, f"mac={stranger.mac}")


def test_a_stranger_has_no_session_anywhere(gate, stranger):
    assert usage(stranger) == "-1/-1"
    balance = stranger.get(TOLLGATE + "/balance")
    assert (balance.status, balance.headers["content-type"], balance.json()) == (200, JSON, NOTHING)
    assert balance.body.endswith(b"}\n")
    state = stranger.get(TOLLGATE + "/session-state").json()
    assert state == NOTHING | {"state": "none", "mac": stranger.mac}


def test_methods_are_those_of_the_reference(gate, stranger):
    for method in ("POST", "PUT", "DELETE"):
        assert stranger.request(method, TOLLGATE + "/usage", body=b"x").text == "-1/-1"
        assert stranger.request(method, TOLLGATE + "/balance", body=b"x").status == 405
    assert stranger.request("PUT", TOLLGATE + "/ln-invoice", body=b"{}").status == 405


def test_identity_is_derived_from_the_key(gate, stranger):
    answer = stranger.get(TOLLGATE + "/identity")
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    body = answer.json()
    assert body.keys() == {"npub", "ipv4", "macs"} and body["macs"].keys() == {"br-lan", "wlan0", "wlan1"}
    assert body["npub"].startswith("npub1") and len(body["npub"]) == 63
    second = int(body["ipv4"].split(".")[1])
    assert body["ipv4"].startswith("100.") and 64 <= second < 128 and body["ipv4"].endswith(".1")


@pytest.mark.parametrize("path", ["/identity/reveal-seed"])
def test_seed_is_revealed_to_nobody(gate, stranger, path):
    assert stranger.post(TOLLGATE + path, b"abandon " * 12).status == 404


# POST /


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "text/plain;charset=UTF-8", "application/json", "application/x-www-form-urlencoded", "x"],
)
def test_a_raw_token_is_taken_with_any_content_type(gate, stranger, token, content_type):
    headers = {"Content_Type": content_type} if content_type else {}
    assert_session(pay(stranger, token(3), **headers), stranger, 3 * STEP)
    assert stranger.mac in gate.paid_macs() and stranger.online()


def test_tokens_of_both_versions_and_as_links_are_taken(gate, stranger, mint, purse):
    assert_session(pay(stranger, token_v3(mint.url, purse(5)) + "\n"), stranger, 5 * STEP)
    assert_session(pay(stranger, token_v4(mint.url, purse(2))), stranger, 7 * STEP)
    assert_session(
        pay(stranger, "cashu:" + token_v3(mint.url + "/", purse(1), memo="x").rstrip("=")), stranger, 8 * STEP
    )


def test_wallets_of_others_make_tokens_that_are_taken(gate, stranger, mint, purse):
    from cashu.core.base import Proof, TokenV3, TokenV3Token, TokenV4

    def written(amount: int) -> TokenV3:
        return TokenV3(token=[TokenV3Token(mint=mint.url, proofs=[Proof(**proof) for proof in purse(amount)])])

    assert_session(pay(stranger, written(6).serialize()), stranger, 6 * STEP)
    assert_session(pay(stranger, TokenV4.from_tokenv3(written(7)).serialize()), stranger, 13 * STEP)


def test_the_event_of_the_portal_site_is_taken_whatever_its_signature(gate, stranger, token):
    for spoil in ({}, {"sig": "00" * 64}, {"id": "", "sig": "", "pubkey": ""}):
        tags = [["p", "ab" * 32], ["device-identifier", "mac", "02:aa:bb:cc:dd:01"], ["payment", token(1)]]
        answer = stranger.post(TOLLGATE + "/", sign_event(21000, tags) | spoil)
        assert answer.status == 200 and tag_of(answer.json(), "device-identifier") == stranger.mac


def test_a_top_up_adds_and_keeps_what_was_used(gate, stranger, token):
    first = assert_session(pay(stranger, token(1)), stranger, STEP)
    wait_for(lambda: int(usage(stranger).split("/")[0]) > 500, 5)
    used = int(usage(stranger).split("/")[0])
    second = assert_session(pay(stranger, token(2)), stranger, 3 * STEP)
    assert int(usage(stranger).split("/")[0]) >= used
    assert abs(int(tag_of(first, "start-time")) - int(tag_of(second, "start-time"))) <= 1


def test_a_session_shows_everywhere(gate, stranger, token):
    paid, started = token(4), time.monotonic()
    assert_session(pay(stranger, paid), stranger, 4 * STEP)
    used, allotment = usage(stranger).split("/")
    assert allotment == str(4 * STEP) and 0 <= int(used) <= 1000 * (time.monotonic() - started)
    balance = stranger.get(TOLLGATE + "/balance").json()
    assert balance.keys() == NOTHING.keys() | {"metric", "start_time"}
    assert (balance["status"], balance["session_active"], balance["metric"], balance["allotment"]) == (
        1,
        True,
        "milliseconds",
        4 * STEP,
    )
    assert balance["usage"] + balance["remaining"] == balance["allotment"]
    assert abs(balance["start_time"] - time.time()) < 60
    state = stranger.get(TOLLGATE + "/session-state").json()
    assert state.keys() == balance.keys() | {"state", "mac", "venue", "ends_at"}
    assert (state["state"], state["venue"], state["mac"]) == ("active", "guest", stranger.mac)
    assert abs(state["ends_at"] - state["start_time"] - 4 * STEP // 1000) <= 1


def test_a_session_that_is_over_counts_as_none(gate, stranger, token):
    assert_session(pay(stranger, token(1)), stranger, STEP)
    gate.command("revoke", stranger.mac)
    assert usage(stranger) == "-1/-1" and stranger.get(TOLLGATE + "/balance").json() == NOTHING
    assert stranger.get(TOLLGATE + "/session-state").json()["state"] == "ended"


def test_the_same_token_again_is_answered_with_its_session(gate, stranger, token):
    paid = token(3)
    assert_session(pay(stranger, paid), stranger, 3 * STEP)
    for _ in range(3):
        assert_session(pay(stranger, paid), stranger, 3 * STEP)
    gate.restart()
    assert_session(pay(stranger, paid), stranger, 3 * STEP)


def test_the_same_token_of_another_guest_is_spent(gate, stranger, other_stranger, token):
    paid = token(3)
    assert_session(pay(stranger, paid), stranger, 3 * STEP)
    assert_notice(pay(other_stranger, paid), 402, "payment-error-token-spent", "Token has already been spent")
    assert usage(other_stranger) == "-1/-1" and not other_stranger.online()


def test_twenty_posts_of_one_token_at_once_grant_it_once(gate, stranger, token):
    paid = token(5)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: pay(stranger, paid), range(20)))
    for answer in answers:
        if answer.status != 200:
            assert_notice(answer, 503, "payment-duplicate-inflight")
    assert any(answer.status == 200 for answer in answers)
    assert_session(pay(stranger, paid), stranger, 5 * STEP)
    assert usage(stranger).endswith(f"/{5 * STEP}")


def test_one_token_of_two_guests_at_once_lets_one_in(gate, stranger, other_stranger, token):
    paid = token(5)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda guest: pay(guest, paid), [stranger, other_stranger]))
    again = [pay(guest, paid) for guest in (stranger, other_stranger)]
    assert sorted(answer.status for answer in again) == [200, 402], [answer.text for answer in answers]


# What is refused, and is still the guest's


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"hello",
        b"cashuA",
        b"cashuB!!!!",
        b"cashuBoWFt",
        b'{"kind":1}',
        b"[]",
        b"\xff\xfe",
        b"cashuAeyJ0b2tlbiI6W119",
        b"{" * 5000,
    ],
)
def test_what_is_no_token_is_400(gate, stranger, body):
    assert_notice(pay(stranger, body), 400, "payment-error-invalid-token")


@pytest.mark.parametrize("tags", [[], [["p", "x"]], [["payment"]], [["payment", ""]]])
def test_an_event_without_payment_is_400(gate, stranger, tags):
    assert_notice(
        stranger.post(TOLLGATE + "/", sign_event(21000, tags)), 400, "invalid-event", "No payment tag found in event"
    )


def test_a_spent_token_is_402(gate, stranger, lab, mint, purse):
    proofs = purse(4)
    Wallet(lab.internet, mint.url).receive(proofs)
    event = assert_notice(
        pay(stranger, token_v4(mint.url, proofs)), 402, "payment-error-token-spent", "Token has already been spent"
    )
    assert event["tags"][:3] == [["level", "error"], ["code", "payment-error-token-spent"], ["p", stranger.mac]]
    assert usage(stranger) == "-1/-1"


def test_a_token_of_a_foreign_mint_is_402_and_untouched(gate, stranger, purse):
    assert_notice(pay(stranger, token_v4("https://foreign.example", purse(2))), 402, "payment-error-mint-not-accepted")


def test_too_much_at_once_is_402_and_still_spendable(gate, stranger, lab, mint, purse):
    proofs = purse(1001)
    event = assert_notice(pay(stranger, token_v4(mint.url, proofs)), 402, "session-error")
    assert "1000 sat" in event["content"]
    assert Wallet(lab.internet, mint.url).receive(proofs) == 1001


def test_other_units_locks_forgeries_and_doubles_are_402_and_untouched(gate, stranger, lab, mint, purse):
    proofs = purse(3)
    locked = json.dumps(["P2PK", {"nonce": "ab", "data": "02" + "ab" * 32, "tags": []}])
    for text in [
        token_v4(mint.url, proofs, unit="usd"),
        token_v4(mint.url, [proofs[0] | {"secret": locked}]),
        token_v4(mint.url, [proofs[0], proofs[0]]),
        token_v4(mint.url, [proofs[0] | {"amount": 3}]),
        token_v4(mint.url, [proofs[0] | {"id": "00" + "77" * 7}]),
        token_v4(mint.url, [proofs[0] | {"C": proofs[1]["C"]}]),
    ]:
        answer = pay(stranger, text)
        assert answer.status == 402, answer.text
        assert tag_of(check_event(answer.json()), "code") in (
            "payment-processing-failed",
            "payment-error-invalid-token",
        )
    assert Wallet(lab.internet, mint.url).receive(proofs) == 3


def test_a_token_of_two_mints_is_402(gate, stranger, mint, purse):
    text = token_v3(
        mint.url,
        purse(1),
        token=[{"mint": mint.url, "proofs": purse(1)}, {"mint": "https://other.example", "proofs": purse(2)}],
    )
    assert_notice(pay(stranger, text), 402, "payment-processing-failed")


def test_bodies_up_to_a_megabyte_are_read_and_larger_ones_are_400(gate, stranger):
    assert_notice(pay(stranger, b"cashuB" + b"A" * 900_000), 402, "payment-processing-failed")
    assert_notice(pay(stranger, b" " * ((1 << 20) + 1)), 400, "invalid-request")


def test_posts_to_other_paths_take_nothing(gate, stranger, lab, mint, purse):
    proofs = purse(2)
    answer = stranger.post(TOLLGATE + "/pay-here", token_v4(mint.url, proofs).encode())
    assert answer.status == 404
    assert Wallet(lab.internet, mint.url).receive(proofs) == 2


# Limits


def test_a_flood_of_posts_is_429_with_cors_and_leaves_the_rest_alone(gate, stranger, other_stranger, token):
    headers = {"Origin": PORTAL_ORIGIN}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: stranger.post(TOLLGATE + "/", b"x", headers=headers), range(60)))
    limited = [answer for answer in answers if answer.status == 429]
    assert len(limited) >= 20 and {answer.status for answer in answers} == {400, 429}
    for answer in limited:
        assert (answer.text, answer.headers["content-type"]) == ('{"error":"rate limit exceeded"}', TEXT)
        assert 0 < int(answer.headers["retry-after"]) <= 60 and PortalSite.may_read(answer)
    assert stranger.get(TOLLGATE + "/").json()["kind"] == 10021 and usage(stranger) == "-1/-1"
    assert_session(pay(other_stranger, token(1)), other_stranger, STEP)


def test_offer_and_usage_are_never_429(gate, stranger):
    with ThreadPoolExecutor(8) as pool:
        for path in ("/", "/usage"):
            assert {answer.status for answer in pool.map(lambda _: stranger.get(TOLLGATE + path), range(300))} == {200}


def test_refused_tokens_are_limited_sooner(gate, stranger, lab, mint, purse):
    proofs = purse(1)
    Wallet(lab.internet, mint.url).receive(proofs)
    spent = token_v4(mint.url, proofs)
    assert [pay(stranger, spent).status for _ in range(12)] == [402] * 10 + [429] * 2


# CORS


ROUTES = [
    ("GET", "/"),
    ("POST", "/"),
    ("GET", "/whoami"),
    ("GET", "/usage"),
    ("GET", "/balance"),
    ("POST", "/balance"),
    ("GET", "/session-state"),
    ("GET", "/identity"),
    ("GET", "/ln-invoice"),
    ("POST", "/ln-invoice"),
    ("PUT", "/ln-invoice"),
    ("GET", "/nowhere"),
    ("POST", "/nowhere"),
]


@pytest.mark.parametrize("method, path", ROUTES)
def test_pages_of_private_hosts_may_read_every_answer(gate, stranger, method, path):
    for origin in (
        PORTAL_ORIGIN,
        "http://127.0.0.1:5173",
        "https://10.1.2.3",
        f"http://[{ROUTER6}]:2051",
        "http://localhost:3000",
    ):
        answer = stranger.request(
            method, TOLLGATE + path, body=b"x" if method == "POST" else None, headers={"Origin": origin}
        )
        assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (origin, "Origin")
        assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization"
        assert answer.headers["access-control-expose-headers"] == "X-TollGate-Client-MAC, X-TollGate-Mac-Claim-Ignored"


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://8.8.8.8", f"http://{ROUTER4}.evil.example", "file://", "*", None]
)
def test_other_pages_may_read_nothing(gate, stranger, origin):
    for method, path in ROUTES:
        answer = stranger.request(
            method,
            TOLLGATE + path,
            body=b"x" if method == "POST" else None,
            headers={"Origin": origin} if origin else {},
        )
        assert "access-control-allow-origin" not in answer.headers and "vary" not in answer.headers
        assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"


OWN_PATHS = [
    "/mint-requests",
    "/mint-requests/x",
    "/ticket",
    "/health",
    "/stats",
    "/portal.js",
    "/mint-proxy",
    "/admin",
]
"""Not of the protocol: they may hold what is worth money."""


def test_options_are_200_and_empty_everywhere(gate, stranger):
    for path in {path for _, path in ROUTES} | {"/portal", *OWN_PATHS}:
        answer = stranger.request(
            "OPTIONS", TOLLGATE + path, headers={"Origin": PORTAL_ORIGIN, "Access-Control-Request-Method": "POST"}
        )
        assert (answer.status, answer.body) == (200, b"") and PortalSite.may_read(answer)


def test_our_own_paths_are_read_by_pages_of_the_router_only(gate, stranger):
    for path in OWN_PATHS:
        for method in ("GET", "POST", "DELETE"):
            mine = stranger.request(
                method, TOLLGATE + path, body=b"x" if method == "POST" else None, headers={"Origin": PORTAL_ORIGIN}
            )
            assert (
                PortalSite.may_read(mine) and mine.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
            ), (method, path)
            for origin in ("http://192.168.77.66", "http://evil.example", f"http://{ROUTER4}.evil.example", "null"):
                theirs = stranger.request(
                    method, TOLLGATE + path, body=b"x" if method == "POST" else None, headers={"Origin": origin}
                )
                assert "access-control-allow-origin" not in theirs.headers, (method, path, origin)


@pytest.mark.parametrize("origin", ["http://192.168.77.66:8000", "http://evil.example", "null"])
def test_only_who_posts_without_a_page_of_others_gets_the_ticket(gate, stranger, token, origin):
    """Whoever has the ticket of a guest's first payment could take over what the guest pays later."""
    event = assert_session(pay(stranger, token(1), Origin=origin), stranger, STEP)
    assert tags_of(event, "ticket") == []
    assert stranger.post(TOLLGATE + "/ticket", {}, headers={"Origin": PORTAL_ORIGIN}).json()["ticket"], (
        "the guest's own page can still make one"
    )


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example:2121"}, {"Host": "evil.example:2121", "Origin": "http://evil.example:2121"}]
)
def test_a_page_whose_name_was_turned_to_the_router_gets_no_ticket(gate, stranger, token, headers):
    assert tags_of(assert_session(pay(stranger, token(1), **headers), stranger, STEP), "ticket") == []


def test_the_portal_site_may_keep_the_ticket(gate, stranger, token):
    assert len(tags_of(assert_session(pay(stranger, token(1), Origin=PORTAL_ORIGIN), stranger, STEP), "ticket")) == 1


def test_the_portal_page_is_read_by_pages_of_the_router_only(gate, stranger, token):
    pay(stranger, token(1))
    for origin, may in ((PORTAL_ORIGIN, True), ("http://192.168.77.66", False), ("http://evil.example", False)):
        page = stranger.get(TOLLGATE + "/", headers={"Origin": origin, "Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html") and PortalSite.may_read(page) == may


# Whom an answer is about


def test_every_answer_names_its_client_and_the_claim_that_it_ignored(gate, stranger, other_stranger):
    for method, path in ROUTES:
        body = b"x" if method == "POST" else None
        answer = stranger.request(method, f"{TOLLGATE}{path}?mac={other_stranger.mac.upper()}", body=body)
        assert answer.headers["x-tollgate-client-mac"] == stranger.mac
        assert answer.headers["x-tollgate-mac-claim-ignored"] == other_stranger.mac
        answer = stranger.request(method, f"{TOLLGATE}{path}?mac={stranger.mac}", body=body)
        assert (
            answer.headers["x-tollgate-client-mac"] == stranger.mac
            and "x-tollgate-mac-claim-ignored" not in answer.headers
        )


def test_headers_of_a_guest_claim_nothing(gate, stranger, other_stranger, token):
    lies = {"X-TollGate-MAC": other_stranger.mac, "X-Real-Ip": other_stranger.ip, "X-Forwarded-For": other_stranger.ip}
    answer = stranger.post(TOLLGATE + f"/?mac={other_stranger.mac}", token(2).encode(), headers=lies)
    assert_session(answer, stranger, 2 * STEP)
    assert answer.headers["x-tollgate-mac-claim-ignored"] == other_stranger.mac
    assert usage(other_stranger) == "-1/-1"
    assert stranger.get(TOLLGATE + "/whoami", headers=lies).text == f"mac={stranger.mac}"


def from_router(lab, method: str, path: str, headers=None, body=None):
    from lab import http_client

    sock = lab.router.connect("127.0.0.1", 2121)
    return http_client.exchange(sock, method, path, "127.0.0.1:2121", headers, body)


def test_a_program_on_the_router_may_ask_for_a_guest(gate, lab, stranger, token):
    assert stranger.get(TOLLGATE + "/usage").status == 200  # the router knows it now
    for headers in (
        {"X-TollGate-MAC": stranger.mac},
        {"X-Real-Ip": stranger.ip},
        {"X-Forwarded-For": f"{stranger.ip}, 10.0.0.1"},
    ):
        assert from_router(lab, "GET", "/whoami", headers).text == f"mac={stranger.mac}"
    answer = from_router(
        lab, "POST", "/", {"X-TollGate-MAC": stranger.mac, "Content-Type": "text/plain"}, token(2).encode()
    )
    assert_session(answer, stranger, 2 * STEP)
    assert from_router(lab, "GET", "/usage", {"X-TollGate-MAC": stranger.mac}).text.endswith(f"/{2 * STEP}")
    assert stranger.online()


def test_a_program_on_the_router_that_names_nobody_is_nobody(gate, lab, token):
    assert from_router(lab, "GET", "/").json()["kind"] == 10021
    answer = from_router(lab, "GET", "/whoami")
    assert (answer.status, answer.body) == (500, b"")
    assert from_router(lab, "GET", "/usage").text == "-1/-1"
    assert from_router(lab, "GET", "/balance").json() == NOTHING
    assert_notice(from_router(lab, "POST", "/", body=token(1).encode()), 400, "mac-address-lookup-failed")
    refused = from_router(lab, "POST", "/ln-invoice", body={"amount": 1, "mint_url": "https://mint.example"})
    assert (refused.status, refused.json()) == (
        400,
        REFUSED_INVOICE | {"error": "failed to resolve device MAC address"},
    )
    assert from_router(lab, "GET", "/whoami", {"X-TollGate-MAC": "garbage"}).status == 500


# /ln-invoice


def new_invoice(guest, body, **headers):
    return guest.post(TOLLGATE + "/ln-invoice", body, headers=headers)


def invoice_status(guest, quote: str):
    return guest.get(f"{TOLLGATE}/ln-invoice?quote={quote}")


@pytest.mark.parametrize("alias", ["mint_url", "mint"])
def test_lightning_grants_access(gate, stranger, mint, alias):
    made = new_invoice(stranger, {"amount": 21, alias: mint.url + "/"})
    assert (made.status, made.headers["content-type"]) == (200, JSON) and made.body.endswith(b"}\n")
    body = made.json()
    assert body == {
        "status": 1,
        "quote": body["quote"],
        "invoice": body["invoice"],
        "mint_url": mint.url,
        "amount": 21,
        "expiry": body["expiry"],
        "state": "UNPAID",
        "access_granted": False,
    }
    assert bolt11.decode(body["invoice"]).amount_msat == 21_000 and body["expiry"] > time.time()
    status = {
        "status": 1,
        "quote": body["quote"],
        "mint_url": mint.url,
        "amount": 21,
        "state": "UNPAID",
        "access_granted": False,
        "metric": "milliseconds",
    }
    looked = invoice_status(stranger, body["quote"])
    assert (looked.status, looked.headers["content-type"], looked.json()) == (200, JSON, status)
    assert stranger.get(TOLLGATE + "/session-state").json()["invoice"] == {
        "quote": body["quote"],
        "amount": 21,
        "state": "UNPAID",
    }
    mint.pay(body["invoice"])
    granted = answer_when(
        lambda now: now["access_granted"], lambda: invoice_status(stranger, body["quote"]).json(), 10
    )
    assert granted == status | {"state": "ISSUED", "access_granted": True, "allotment": 21 * STEP}
    assert stranger.online() and usage(stranger).endswith(f"/{21 * STEP}")


def test_lightning_grants_without_anybody_polling_and_over_a_restart(gate, stranger, mint):
    body = new_invoice(stranger, {"amount": 2, "mint_url": mint.url}).json()
    gate.kill()
    mint.pay(body["invoice"])
    gate.start()
    wait_for(lambda: stranger.mac in gate.paid_macs(), 15)
    wait_for(lambda: invoice_status(stranger, body["quote"]).json()["access_granted"], 5)


@pytest.mark.parametrize(
    "body, error",
    [
        (b"", "invalid request body"),
        (b"x", "invalid request body"),
        (b"[]", "invalid request body"),
        (b'{"amount":"5","mint_url":"x"}', "invalid request body"),
        (b'{"amount":-5,"mint_url":"x"}', "invalid request body"),
        (b'{"amount":5,"mint_url":7}', "invalid request body"),
        (b" " * 20_000, "invalid request body"),
        (b"{}", "amount and mint_url are required"),
        (b'{"amount":5}', "amount and mint_url are required"),
        (b'{"mint_url":"https://mint.example"}', "amount and mint_url are required"),
        (b'{"amount":0,"mint_url":"https://mint.example"}', "amount and mint_url are required"),
        (b'{"amount":5,"mint_url":" "}', "amount and mint_url are required"),
        (b'{"amount":5,"mint_url":"https://foreign.example"}', "failed to create lightning invoice"),
        (b'{"amount":5,"mint_url":"x"}', "failed to create lightning invoice"),
        (b'{"amount":1001,"mint_url":"MINT"}', "failed to create lightning invoice"),
    ],
)
def test_invoice_that_cannot_be_made_says_why(gate, stranger, mint, body, error):
    answer = new_invoice(stranger, body.replace(b"MINT", mint.url.encode()))
    assert (answer.status, answer.headers["content-type"], answer.json()) == (
        400,
        JSON,
        REFUSED_INVOICE | {"error": error},
    )


def test_status_of_no_quote_and_of_anothers_quote(gate, stranger, other_stranger, mint):
    for path in ("/ln-invoice", "/ln-invoice?quote=", "/ln-invoice?quote=%20"):
        answer = stranger.get(TOLLGATE + path)
        assert (answer.status, answer.json()) == (400, REFUSED_INVOICE | {"error": "quote is required"})
    mine = new_invoice(stranger, {"amount": 2, "mint_url": mint.url}).json()["quote"]
    tokens = stranger.post(TOLLGATE + "/mint-requests", {"amount": 3, "mint_url": mint.url}).json()["request_id"]
    for guest, quote in [(other_stranger, mine), (stranger, "0" * 32), (stranger, "x"), (stranger, tokens)]:
        answer = invoice_status(guest, quote)
        assert (answer.status, answer.json()) == (404, REFUSED_INVOICE | {"error": "failed to fetch invoice status"})


def test_identical_invoices_are_one_and_too_many_are_429(gate, stranger, mint):
    first = new_invoice(stranger, {"amount": 2, "mint_url": mint.url}).json()
    assert new_invoice(stranger, {"amount": 2, "mint_url": mint.url}).json() == first
    for amount in (3, 4):
        assert new_invoice(stranger, {"amount": amount, "mint_url": mint.url}).status == 200
    answer = new_invoice(stranger, {"amount": 5, "mint_url": mint.url}, Origin=PORTAL_ORIGIN)
    assert (answer.status, answer.json()) == (429, REFUSED_INVOICE | {"error": "failed to create lightning invoice"})
    assert int(answer.headers["retry-after"]) > 0 and PortalSite.may_read(answer)


def test_pages_of_others_make_no_invoices(gate, stranger, mint):
    assert new_invoice(stranger, {"amount": 2, "mint_url": mint.url}, Origin="http://evil.example").status == 403
    assert "invoice" not in stranger.get(TOLLGATE + "/session-state").json()


# The ticket


def test_the_first_payment_gives_a_ticket_to_keep(gate, stranger, token):
    event = assert_session(pay(stranger, token(1)), stranger, STEP)
    assert all(type(element) is str for tag in event["tags"] for element in tag)
    assert len(tags_of(event, "ticket")) == 1
    again = assert_session(pay(stranger, token(1)), stranger, 2 * STEP)
    assert tags_of(again, "ticket") == [], "a top-up keeps the ticket"

"""Sphinx Tribes' interface (`sphinx_compat`): its names and wire formats, without the reference's holes."""

import base64
import concurrent.futures
import hashlib
import json
import os
import re
import time
from datetime import datetime, timezone

import coincurve
import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import DOMAIN, LOOPBACK, PUBLIC_PORT, LoginBrowser, LoginWallet
from lab.peers.sphinx import Sphinx
from lab.place import PATIENCE

AUTH = {"domain": DOMAIN, "url": f"https://{DOMAIN}", "sphinx_compat": "1"}
USER = {
    "id", "uuid", "created", "owner_pubkey", "owner_alias", "contact_key", "img", "description", "tags", "unique_name",
    "pubkey", "extras", "last_login", "price_to_meet", "alias", "url",
}


def token(number: int, age: int = 0, dotted: bool = False) -> str:
    """As a node with this private key makes it."""
    stamp = (int(time.time()) - age).to_bytes(4, "big")
    message = base64.urlsafe_b64encode(stamp) if dotted else stamp
    digest = hashlib.sha256(hashlib.sha256(b"Lightning Signed Message:" + message).digest()).digest()
    signature = coincurve.PrivateKey.from_int(number).sign_recoverable(digest, hasher=None)
    made = base64.urlsafe_b64encode(stamp + bytes([31 + signature[64]]) + signature[:64]).decode()
    return "." + made if dotted else made


class App:
    """The Sphinx app on a guest's phone or, without one, elsewhere."""

    def __init__(self, lab, guest=None) -> None:
        self.place, self.at = (guest, (ROUTER4, 2121)) if guest else (lab.router, (LOOPBACK, PUBLIC_PORT))

    def verify(self, challenge: str, token: str | None, body=b"{}", header: bool = False):
        query = "" if header or token is None else f"?token={token}"
        headers = {"x-jwt": token} if header else {}
        socket = self.place.connect(*self.at, PATIENCE)
        return http_client.exchange(socket, "POST", f"/verify/{challenge}{query}", "x", headers, body)


@pytest.fixture(scope="module")
def bot(lab):
    with Sphinx(lab.router, LOOPBACK) as made:
        yield made


@pytest.fixture
def daemon(lab, bot, make_daemon, tmp_path):
    secret = tmp_path / "bot.token"
    secret.write_text(Sphinx.token)
    secret.chmod(0o600)
    node = {"type": "sphinx", "url": bot.url, "token_file": str(secret)}
    return make_daemon(AWAY, sections={"auth": AUTH, "lightning": node})


@pytest.fixture
def browser(daemon, stranger):
    return LoginBrowser(stranger)


def ask(browser) -> str:
    answer = browser.get("/ask")
    assert answer.status == 200, answer
    assert abs(int(answer.json()["ts"]) - time.time()) < 5
    return answer.json()["challenge"]


def office(lab, daemon, method, path, body=None, file="admin.token", header="x-api-token"):
    headers = {}
    if file:
        with open(os.path.join(daemon.state_dir, file)) as opened:
            headers = {header: opened.read().strip()}
    sent = json.dumps(body).encode() if body is not None else None
    return http_client.exchange(lab.router.connect(LOOPBACK, ADMIN_PORT), method, path, "x", headers, sent)


def handed_out(lab, daemon, file="connection.token"):
    return office(lab, daemon, "GET", "/connectioncodes", file=file, header="token")


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("where", ["the same phone", "elsewhere"])
def test_a_token_verifies_a_challenge_and_the_login_is_told_once(lab, daemon, browser, dotted, where):
    app = App(lab, browser.guest if where == "the same phone" else None)
    challenge = ask(browser)
    assert browser.get(f"/poll/{challenge}").status == 401
    answer = app.verify(challenge, token(41, age=290, dotted=dotted), header=dotted)
    assert (answer.status, answer.json()) == (200, {})
    told = browser.get(f"/poll/{challenge}")
    assert told.status == 200
    jwt = told.json()["tribe_jwt"]
    assert (told.json()["pubkey"], told.json()["alias"]) == (LoginWallet(41).key, None)
    assert browser.get(f"/poll/{challenge}").status == 401, "once"
    me = browser.with_token(jwt).json()
    assert (me["pubkey"], me["role"]) == (LoginWallet(41).key, "client")
    user = browser.with_token(jwt, path="/refresh_jwt").json()["user"]
    assert USER <= set(user) and user["owner_pubkey"] == user["pubkey"] and user["img"] is None


def test_only_the_asker_is_told_by_its_cookie_or_its_device(lab, daemon, browser):
    other = LoginBrowser(lab.guests[1])
    challenge = ask(browser)
    assert App(lab).verify(challenge, token(42)).status == 200
    assert other.get(f"/poll/{challenge}").status == 403
    assert LoginBrowser(browser.guest).get(f"/poll/{challenge}").status == 200, "the same device without its cookie"
    challenge = ask(browser)
    assert App(lab).verify(challenge, token(43)).status == 200
    other.cookies = browser.cookies
    assert other.get(f"/poll/{challenge}").status == 200, "the cookie on another device"


def test_a_token_verifies_one_challenge_also_over_a_kill(lab, daemon, browser):
    app, mine = App(lab), token(44, age=10)
    assert app.verify(ask(browser), mine).status == 200
    assert app.verify(ask(browser), mine).status == 401
    # The other s of the same signature leads to the same key.
    raw = bytearray(base64.urlsafe_b64decode(mine))
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    raw[4] ^= 31 ^ 32
    raw[37:] = (order - int.from_bytes(raw[37:], "big")).to_bytes(32, "big")
    assert app.verify(ask(browser), base64.urlsafe_b64encode(raw).decode()).status == 401
    daemon.kill()
    daemon.start()
    assert app.verify(ask(browser), mine).status == 401


def test_of_fifty_at_once_one_verifies(lab, daemon, browser):
    challenges = [ask(browser) for _ in range(25)] * 2
    mine = token(45)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda challenge: App(lab).verify(challenge, mine).status, challenges))
    assert answers.count(200) == 1 and set(answers) <= {200, 401}


def test_what_does_not_count_is_refused_and_leaves_the_challenge(lab, daemon, browser):
    app, challenge = App(lab), ask(browser)
    for bad in (None, "", "x", token(46, age=305), token(46, age=-60), token(46)[:-1], token(46) + "A"):
        assert app.verify(challenge, bad).status == 401, bad
    jwt = browser.log_in(LoginWallet(46))
    assert app.verify(challenge, jwt).status == 401
    for body in (b"", b"[]", b"{", b"null"):
        assert app.verify(challenge, token(46), body).status == 406
    for unknown in ("", "x", "0" * 64, browser.ask()["k1"]):
        assert app.verify(unknown, token(46)).status in (401, 404)
    assert LoginWallet(46).answer(browser.guest, challenge).status == 400, "no wallet signs it"
    assert browser.request("HEAD", f"/poll/{challenge}").status == 405
    assert app.verify(challenge, token(46)).status == 200


def test_each_unused_code_is_handed_out_once_to_who_has_the_token(lab, daemon):
    made = office(lab, daemon, "POST", "/connectioncodes", {"number": 20, "seconds": 600})
    assert made.status == 201
    codes = {one["code"] for one in made.json()["codes"]}
    redeemed = sorted(codes)[0]
    redeem = f"http://{ROUTER4}:2121/connectioncodes/redeem"
    assert lab.guest.post(redeem, {"code": redeemed}).status == 200
    assert [handed_out(lab, daemon, file).status for file in (None, "admin.token")] == [401, 401]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: handed_out(lab, daemon), range(50)))
    given = [answer.json()["connection_string"] for answer in answers if answer.status == 200]
    assert sorted(given) == sorted(codes - {redeemed})
    assert {answer.status for answer in answers} == {200, 404}
    for made in (answer.json()["date_created"] for answer in answers if answer.status == 200):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made)
        age = datetime.now(timezone.utc) - datetime.fromisoformat(made)
        assert abs(age.total_seconds()) < 60, made
    assert lab.guest.post(redeem, {"code": given[0]}).status == 200, "it is a code like any other"
    rows = [row for row in daemon.data("audit") if row["what"] == "connectioncodes"]
    assert len([row for row in rows if row["result"] == "ok"]) == len(given)


def test_the_bots_invites_are_handed_out_beside_our_own(lab, daemon, bot):
    before = len(bot.invites)
    made = office(lab, daemon, "POST", "/connectioncodes", {"sphinx": True, "number": 2})
    assert made.status == 201, made
    assert [one["code"] for one in made.json()["codes"]] == [one["invite"] for one in bot.invites[before:]]
    assert [one["amt_msat"] for one in bot.invites[before:]] == [100, 100]
    order = {"sphinx": True, "sats": 50, "pubkey": "02ab", "route_hint": "02cd_1"}
    assert office(lab, daemon, "POST", "/connectioncodes", order).status == 201
    assert (bot.invites[-1]["amt_msat"], bot.invites[-1]["inviter_route_hint"]) == (50_000, "02cd_1")
    given = {handed_out(lab, daemon).json()["connection_string"] for _ in range(3)}
    assert given == {one["invite"] for one in bot.invites[before:]}
    assert not bot.complaints
    text = daemon.command("lightning", "test").out
    assert "contact_info 02ab_cd, alias bot" in text


def test_without_the_bot_our_own_codes_go_on(lab, make_daemon, tmp_path):
    secret = tmp_path / "bot.token"
    secret.write_text(Sphinx.token)
    secret.chmod(0o600)
    node = {"type": "sphinx", "url": f"http://{LOOPBACK}:9", "token_file": str(secret)}
    daemon = make_daemon(AWAY, sections={"auth": AUTH, "lightning": node})
    refused = office(lab, daemon, "POST", "/connectioncodes", {"sphinx": True})
    assert (refused.status, refused.json()["error"]["code"]) == (502, "bot_unavailable")
    assert office(lab, daemon, "POST", "/connectioncodes", {"seconds": 60}).status == 201


def test_switched_off_its_paths_are_as_any_other(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"auth": AUTH | {"sphinx_compat": "0"}})
    guest = LoginBrowser(lab.guest)
    unknown = guest.get("/nothing-here").status
    assert [guest.get(path).status for path in ("/ask", "/poll/" + "0" * 64)] == [unknown, unknown]
    assert office(lab, daemon, "GET", "/admin/status").status == 401, "x-api-token is no bearer's"
    assert not os.path.exists(os.path.join(daemon.state_dir, "connection.token"))
    bearer = lambda method, body=None: http_client.exchange(
        lab.router.connect(LOOPBACK, ADMIN_PORT), method, "/connectioncodes", "x",
        {"Authorization": "Bearer " + open(os.path.join(daemon.state_dir, "admin.token")).read().strip()}, body,
    )
    assert bearer("GET").status == 404
    assert bearer("POST", b'{"sphinx": true}').status == 400
    browser = LoginBrowser(lab.guest)
    k1 = browser.ask()["k1"]
    LoginWallet(47).answer(lab.guest, k1)
    assert set(browser.status(k1)["user"]) == {"pubkey", "role", "account"}


def test_no_token_and_no_code_is_in_log_or_audit(lab, daemon, browser, bot):
    mine = token(48)
    App(lab).verify(ask(browser), mine)
    code = office(lab, daemon, "POST", "/connectioncodes", {"seconds": 60}).json()["codes"][0]["code"]
    handed_out(lab, daemon)
    told = daemon.log() + json.dumps(daemon.data("audit"))
    assert mine not in told and code not in told and not re.search(r"eyJ", told)

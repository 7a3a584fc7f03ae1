"""Logging in with a Lightning wallet (LNURL-auth): what real wallets do, and what strangers try.

Everything that the reference implementation lets through is tried here: a k1 that nobody was given, again, late, by
another browser; signatures in other forms; tokens that were forged; sockets that say something.
"""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import re
import time

import pytest

from lab import http_client
from lab.card_shop import LOOPBACK
from lab.daemon import ADMIN_PORT
from lab.guest import ROUTER4
from lab.login import (
    DOMAIN, PUBLIC_PORT, LoginBrowser, LoginWallet, PythonLnurl, high, of_javascript, through_tunnel,
)
from lab.place import PATIENCE
from lab.shop import Shop
from lab.tls_proxy import TlsProxy
from lab.websocket import BINARY, PING, PONG, TEXT, Closed, Refused

WEEK = 604_800


@pytest.fixture(scope="module")
def tunnel(lab):
    """What stands before the public listener: TLS, with a name."""
    with TlsProxy(
        lab.router, LOOPBACK, upstream_port=PUBLIC_PORT, dir=lab.path("tunnel"), port=0, names=[DOMAIN]
    ) as made:
        yield made


@pytest.fixture(scope="module")
def open_shop(lab, tunnel):
    auth = {"domain": DOMAIN, "url": f"https://{DOMAIN}:{tunnel.port}"}
    with Shop(lab, sections={"auth": auth}) as made:
        yield made


@pytest.fixture
def browser(shop, stranger):
    return LoginBrowser(stranger)


@pytest.fixture(autouse=True)
def no_secrets_in_the_log(shop):
    """Neither a token nor a signature, whatever the test."""
    before = len(shop.daemon.log())
    yield
    log = shop.daemon.log()[before:]
    assert not re.search(r"eyJ|\b30[0-9a-f]{130}|\b0[23][0-9a-f]{64}\b", log)


def ring(shop) -> list[tuple[str, bytes]]:
    with open(os.path.join(shop.daemon.state_dir, "jwt.key")) as file:
        return [(kid, bytes.fromhex(key)) for kid, key in (line.split() for line in file)]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts_of(token: str) -> tuple[dict, dict]:
    head, body, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (head, body))


# The way in


def test_a_wallet_on_the_same_phone_logs_in_at_once(shop, browser):
    wallet = LoginWallet(101)
    asked = browser.ask()
    assert set(asked) == {"k1", "encode", "url", "keyauth", "expires_in", "confirm"}
    assert (asked["expires_in"], asked["confirm"]) == (120, False)
    assert asked["url"].startswith(f"https://{DOMAIN}:")
    assert f"/lnauth_login/{asked['k1']}?tag=login&k1=" in asked["url"]
    assert asked["keyauth"] == asked["url"].replace("https:", "keyauth:")
    assert browser.status(asked["k1"]) == {"status": "pending"}
    answer = wallet.answer(browser.guest, asked["k1"])
    assert (answer.status, answer.json()) == (200, {"status": "OK"})
    told = browser.status(asked["k1"])
    assert told["user"] == {"pubkey": wallet.key, "role": "client", "account": None}
    assert browser.status(asked["k1"]) == {"status": "ok"}, "the token comes once"
    head, claims = parts_of(told["jwt"])
    assert (head["alg"], head["kid"]) == ("HS256", ring(shop)[-1][0])
    assert set(claims) == {"iss", "aud", "sub", "pubkey", "iat", "exp", "jti", "auth_time", "role"}
    assert (claims["aud"], claims["sub"], claims["exp"] - claims["iat"]) == ("client", wallet.key, WEEK)
    for headers in ({"x-jwt": told["jwt"]}, {"Authorization": f"Bearer {told['jwt']}"}):
        me = browser.request("GET", "/me", headers=headers)
        assert me.json()["pubkey"] == wallet.key
    assert browser.get(f"/me?token={told['jwt']}").status == 401


def test_the_cookie_is_not_for_scripts_and_other_sites(browser):
    browser.ask()
    cookie = browser.get("/lnauth").headers["set-cookie"]
    assert re.fullmatch(r"lnauth=[0-9a-f]{32}; HttpOnly; SameSite=Strict; Path=/", cookie)


@pytest.mark.parametrize("way", ["another phone", "the tunnel"])
def test_a_wallet_elsewhere_shows_two_digits_that_the_browser_must_say(shop, browser, lab, way):
    wallet, k1 = LoginWallet(102), browser.ask()["k1"]
    if way == "the tunnel":
        answer = wallet.answer_through_tunnel(lab.router, k1)
    else:
        answer = wallet.answer(lab.guests[1], k1)
    code = re.fullmatch(r"Code (\d\d)", answer.json()["message"])[1]
    page = {"Accept": "text/html"}
    shown = lab.guests[1].get(f"http://{ROUTER4}:2121/", page).text
    assert (f'id="login-code">{code}<' in shown) == (way == "another phone")
    assert 'id="login-code"' not in browser.get("/", **page).text
    status = browser.get(f"/lnauth_status?k1={k1}")
    assert status.json() == {"status": "confirm"} and code not in status.text.replace(k1, "")
    wrong = browser.confirm(k1, f"{(int(code) + 1) % 100:02}")
    assert (wrong.status, wrong.json()["error"]["code"]) == (403, "wrong_code")
    right = browser.confirm(k1, code)
    assert (right.status, right.json()) == (200, {"status": "ok"})
    assert browser.with_token(browser.status(k1)["jwt"]).json()["pubkey"] == wallet.key


def test_the_third_wrong_digits_end_it(browser, lab):
    k1 = browser.ask()["k1"]
    code = LoginWallet(103).answer_through_tunnel(lab.router, k1).json()["message"][-2:]
    wrong = f"{(int(code) + 1) % 100:02}"
    assert [browser.confirm(k1, wrong).status for _ in range(3)] == [403] * 3
    assert browser.status(k1) == {"status": "expired"}
    assert browser.confirm(k1, code).status == 400
    assert "jwt" not in browser.status(k1)


def test_the_page_is_told_over_its_socket(shop, browser, lab):
    socket, name = browser.websocket("/websocket?uniqueId=chosen-by-me")
    assert re.fullmatch("[0-9a-f]{32}", name)
    wallet = LoginWallet(104)
    k1 = browser.ask(f"?socketKey={name}")["k1"]
    code = wallet.answer_through_tunnel(lab.router, k1).json()["message"][-2:]
    assert socket.receive_json() == {"msg": "lnauth_confirm", "k1": k1}
    assert browser.confirm(k1, code).status == 200
    told = socket.receive_json()
    assert (told["msg"], told["k1"], told["status"]) == ("lnauth_success", k1, True)
    assert told["user"]["pubkey"] == wallet.key and browser.with_token(told["jwt"]).status == 200
    assert browser.status(k1) == {"status": "ok"}, "who has a socket gets it there only"
    socket.close()


# Real wallets


@pytest.mark.parametrize("environment", ["lnurl", "lnurl-httpx28", "lightning/lnbits"])
@pytest.mark.parametrize("form", ["encode", "url", "keyauth"])
def test_a_wallet_of_python_logs_in(lab, browser, tunnel, environment, form):
    python = PythonLnurl.environment(environment)
    if python is None:
        pytest.skip(f"no {environment} here")
    if (environment, form) == ("lightning/lnbits", "keyauth"):
        pytest.skip("lnurl 0.8 does not read it")
    wallet = PythonLnurl(lab.router, python, LOOPBACK, tunnel.ca_file)
    asked = browser.ask()
    done = wallet.log_in(asked[form])
    assert done["ok"], done
    assert browser.status(asked["k1"]) == {"status": "confirm"}


def test_a_wallet_of_javascript_logs_in(lab, browser):
    asked = browser.ask()
    read = of_javascript(lab.router, asked["encode"])
    if read is None:
        pytest.skip("no js-lnurl here")
    assert (read["tag"], read["k1"], read["domain"], read["callback"]) == ("login", asked["k1"], DOMAIN, asked["url"])
    path = "/" + read["callback"].split("/", 3)[3]
    assert browser.get(f"{path}&sig={read['sig']}&key={read['key']}").json() == {"status": "OK"}
    assert browser.status(asked["k1"])["user"]["pubkey"] == read["key"]


# What a wallet's side may not do


def answers(browser, path: str) -> tuple[int, str]:
    """One object of JSON, whatever it says; its status and its reason."""
    answer = browser.get(path)
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert set(told) <= {"status", "reason", "message"}
    return answer.status, told.get("reason", told["status"])


def test_a_k1_that_was_never_given_out_is_worth_nothing(browser):
    wallet = LoginWallet(105)
    never = "ab" * 32
    assert answers(browser, wallet.path(never)) == (400, "k1 unknown, expired or used")
    # Right by itself, and made without any private key.
    with open(os.path.join(os.path.dirname(__file__), "..", "vectors", "lnauth", "signatures.txt")) as file:
        _, _, k1, sig, key = file.read().splitlines()[-1].split()
    assert answers(browser, f"/lnauth_login?tag=login&k1={k1}&sig={sig}&key={key}")[0] == 400


def test_a_k1_counts_once_in_either_case(browser):
    wallet, k1 = LoginWallet(106), browser.ask()["k1"]
    path = wallet.path(k1)
    upper = f"/lnauth_login/{k1.upper()}?k1={k1}&sig={wallet.sign(k1).upper()}&key={wallet.key.upper()}"
    assert answers(browser, upper) == (200, "OK")
    for again in (path, upper, path.replace(f"/{k1}?", "?")):
        assert answers(browser, again) == (400, "k1 unknown, expired or used")


def test_clients_that_drop_the_query_and_those_that_sign_high_get_in(browser):
    wallet, k1 = LoginWallet(107), browser.ask()["k1"]
    assert answers(browser, f"/lnauth_login/{k1}?sig={wallet.sign(k1)}&key={wallet.key}") == (200, "OK")
    k1 = browser.ask()["k1"]
    assert answers(browser, wallet.path(k1, sig=high(wallet.sign(k1)))) == (200, "OK")
    k1 = browser.ask()["k1"]
    assert answers(browser, wallet.path(k1, action="register")) == (200, "OK"), "it is ignored"


def test_bad_parameters_are_refused_and_leave_the_challenge(browser):
    wallet, k1 = LoginWallet(108), browser.ask()["k1"]
    sig, other = wallet.sign(k1), browser.ask()["k1"]
    compact = bytes.fromhex(sig)
    compact = compact[4 : 4 + compact[3]][-32:] + compact[-32:]
    uncompressed = wallet.private.public_key.format(compressed=False).hex()
    for path, why in [
        (wallet.path(k1, sig="zz"), "sig"),
        (wallet.path(k1, sig=None), "sig"),
        (wallet.path(k1, sig=compact.hex()), "sig"),
        (wallet.path(k1, sig=sig + "00"), "sig"),
        (wallet.path(k1, key=uncompressed), "key"),
        (wallet.path(k1, key="04" + wallet.key[2:]), "key"),
        (wallet.path(k1, key=None), "key"),
        (wallet.path(k1, key="02" + "ff" * 32), "key"),
        (wallet.path(k1, tag="payRequest"), "tag"),
        (wallet.path(k1) + f"&sig={sig}", "sig"),
        (wallet.path(k1) + f"&k1={k1}", "k1"),
        (wallet.path(k1, k1=other), "k1"),
        ("/lnauth_login", "k1"),
        ("/lnauth_login?k1=abc", "k1"),
        (f"/lnauth_login/{k1}/more?sig={sig}&key={wallet.key}", "k1"),
    ]:
        assert answers(browser, path) == (400, f"bad parameter: {why}"), path
    assert browser.request("HEAD", wallet.path(k1)).status == 405
    assert answers(browser, wallet.path(k1)) == (200, "OK")


def test_four_wrong_signatures_leave_the_challenge_and_the_fifth_ends_it(browser):
    wallet, k1 = LoginWallet(109), browser.ask()["k1"]
    hashed = wallet.private.sign(bytes.fromhex(k1)).hex()  # over SHA-256 of k1
    for sig in (hashed, wallet.sign("11" * 32), LoginWallet(1).sign(k1), hashed):
        assert answers(browser, wallet.path(k1, sig=sig)) == (401, "invalid signature")
    assert browser.status(k1) == {"status": "pending"}
    assert answers(browser, wallet.path(k1, sig=hashed)) == (401, "invalid signature")
    assert browser.status(k1) == {"status": "expired"}
    assert answers(browser, wallet.path(k1))[0] == 400


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_another_method_is_refused_as_wallets_read_it(browser, method):
    wallet, k1 = LoginWallet(161), browser.ask()["k1"]
    for path in (wallet.path(k1), "/lnauth_login?tag=login"):
        refused = browser.request(method, path)
        assert (refused.status, refused.headers["allow"]) == (405, "GET")
        assert refused.headers["content-type"] == "application/json"
        assert method == "HEAD" or refused.json() == {"status": "ERROR", "reason": "this path takes GET"}
    assert browser.status(k1) == {"status": "pending"}


def test_a_proxy_that_hides_who_answers_lets_nobody_use_up_the_others(browser, lab):
    mine, k1 = LoginWallet(162), browser.ask()["k1"]
    other = LoginBrowser(lab.guests[1])
    answers = []
    for _ in range(90):
        k1_of_other = other.ask()["k1"] if len(answers) % 4 == 0 else k1_of_other
        answers.append(through_tunnel(lab.router, mine.path(k1_of_other, sig="00")).status)
        if answers[-1] == 429:
            break
    assert answers[-1] == 429
    assert mine.answer_through_tunnel(lab.router, k1).status == 200


def test_of_fifty_parallel_callbacks_one_gets_in(browser, lab):
    wallet, k1 = LoginWallet(110), browser.ask()["k1"]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        told = list(pool.map(lambda _: wallet.answer(browser.guest, k1).status, range(50)))
    assert sorted(told) == [200] + [400] * 49
    assert "jwt" in browser.status(k1) and "jwt" not in browser.status(k1)


# What other browsers may not do


def test_nobody_but_the_asker_is_told(browser, lab):
    wallet, k1 = LoginWallet(112), browser.ask()["k1"]
    with_my_cookie = LoginBrowser(lab.guests[1])
    with_my_cookie.cookies = dict(browser.cookies)
    without = LoginBrowser(browser.guest)
    other = LoginBrowser(lab.guests[1])
    other.ask()
    assert wallet.answer(browser.guest, k1).status == 200
    for foreign in (with_my_cookie, without, other):
        assert foreign.get(f"/lnauth_status?k1={k1}").status == 403
        assert foreign.confirm(k1, "42").status == 403
    assert "jwt" in browser.status(k1)


def test_a_socket_of_another_device_or_none_is_refused(browser, lab):
    socket, name = LoginBrowser(lab.guests[1]).websocket()
    for key in (name, "00" * 16, "chosen-by-me", ""):
        refused = browser.get(f"/lnauth?socketKey={key}")
        assert refused.status == 400, key
    socket.close()
    closed, name = browser.websocket()
    closed.close()
    time.sleep(0.3)
    assert browser.get(f"/lnauth?socketKey={name}").status == 400


@pytest.mark.parametrize("says", ["text", "binary", "5 MB", "a fragment", "no frame"])
def test_whatever_a_client_says_on_the_socket_closes_it_and_reaches_nobody(browser, lab, says):
    listening, _ = LoginBrowser(lab.guests[1]).websocket()
    socket, _ = browser.websocket()
    socket.send_frame(PING, b"here")
    socket.sock.settimeout(PATIENCE)
    assert socket.receive_frame()[:2] == (PONG, b"here")
    try:
        match says:
            case "text":
                socket.send({"msg": "user_connect", "body": "x"})
            case "binary":
                socket.send_frame(BINARY, b"x")
            case "5 MB":
                socket.send_frame(TEXT, b"x" * 5_000_000)
            case "a fragment":
                socket.send_frame(TEXT, b"x", final=False)
                socket.send_frame(TEXT, b"x")
            case "no frame":
                socket.send_frame(TEXT, b"x", masked=False)
    except OSError:
        assert says == "5 MB", "it is closed before all is sent"
    with pytest.raises(Closed) as closed:
        socket.receive()
    assert closed.value.code == 1008 or (says == "5 MB" and closed.value.code is None)
    with pytest.raises(TimeoutError):
        listening.receive(0.3)
    listening.close()


def test_pages_of_others_are_refused(browser):
    for path in ("/lnauth", "/lnauth_status?k1=" + "00" * 32, "/me", "/refresh_jwt"):
        refused = browser.get(path, Origin="http://evil.example")
        assert (refused.status, refused.json()["error"]["code"]) == (403, "forbidden"), path
    with pytest.raises(Refused) as refused:
        browser.websocket(origin="http://evil.example")
    assert refused.value.status == 403
    rebound = http_client.exchange(browser.guest.connect(ROUTER4, 2121), "GET", "/lnauth", "evil.example")
    assert rebound.status == 403


def test_a_k1_that_is_there_twice_is_no_question(browser):
    one, other = browser.ask()["k1"], browser.ask()["k1"]
    for path in (f"/lnauth_status?k1={one}&k1={other}", f"/lnauth_status?k1={one}&k1={one}"):
        refused = browser.get(path)
        assert (refused.status, refused.json()["error"]["code"]) == (400, "invalid_input"), path
    assert browser.status(one) == {"status": "pending"}


def test_refusals_of_the_table_itself_have_the_one_body_of_errors(browser):
    """Beside what older clients read."""
    for method, path, body, headers, refused in [
        ("POST", "/me", {}, {}, (405, "method_not_allowed")),
        ("GET", "/logout", None, {}, (405, "method_not_allowed")),
        ("POST", "/lnauth", {}, {}, (405, "method_not_allowed")),
        ("GET", "/session/attach", None, {}, (405, "method_not_allowed")),
        ("GET", "/connectioncodes/redeem", None, {}, (405, "method_not_allowed")),
        ("GET", "/connectioncodes/nothing", None, {}, (404, "not_found")),
        ("POST", "/connectioncodes/redeem", b"x" * 70_000, {}, (413, "invalid_message")),
        ("POST", "/session/attach", {}, {"Origin": "https://evil.example"}, (403, "foreign_origin")),
        ("POST", "/connectioncodes/redeem", {}, {"Origin": "https://evil.example"}, (403, "foreign_origin")),
    ]:
        answer = browser.request(method, path, body, headers)
        told = answer.json()
        assert (answer.status, told["error"]["code"]) == refused, (method, path, answer)
        assert told["error"]["message"] and told["error"]["request_id"] == answer.headers["x-request-id"]
        assert (told["type"], told["code"], told["message"]) == ("error", refused[1], told["error"]["message"])


def test_many_challenges_of_one_device_keep_nobody_else_out(browser, lab):
    other = LoginBrowser(lab.guests[1])
    k1 = other.ask()["k1"]
    answers = [browser.get("/lnauth") for _ in range(300)]
    refused = [answer for answer in answers if answer.status != 200]
    assert 200 < len(refused) < 241
    assert all(
        (one.status, one.json()["error"]["code"], int(one.headers["retry-after"]) >= 1) == (429, "too_many", True)
        for one in refused
    )
    assert LoginWallet(113).answer(other.guest, k1).status == 200
    assert "jwt" in other.status(k1) and other.ask()


# Tokens


def test_forged_tokens_are_refused(shop, browser):
    token = browser.log_in(LoginWallet(114))
    head, claims = parts_of(token)
    key = ring(shop)[-1][1]

    def made(head: dict, claims: dict, key: bytes = key, digest=hashlib.sha256) -> str:
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{signed}.{b64(hmac.new(key, signed.encode(), digest).digest())}"

    assert browser.with_token(made(head, claims)).status == 200, "the ways below differ in one thing"
    without_exp = {name: value for name, value in claims.items() if name != "exp"}
    unsigned = made({**head, "alg": "none"}, claims).rpartition(".")[0] + "."
    for forged in [
        unsigned,
        made({**head, "alg": "none"}, claims),
        made({**head, "alg": "HS512"}, claims, digest=hashlib.sha512),
        made(head, without_exp),
        made({**head, "kid": "0" * 16}, claims),
        made({"alg": "HS256", "typ": "JWT"}, claims),
        made(head, {**claims, "iss": "https://other.example"}),
        made(head, {**claims, "exp": int(time.time()) - 61}),
        made(head, {**claims, "jti": "00" * 16}),
        made(head, {**claims, "sub": LoginWallet(1).key, "pubkey": LoginWallet(1).key}),
        made(head, {**claims, "aud": "admin", "role": "owner"}),
        made(head, claims, key=b"\0" * 32),
        made(head, {"pubkey": claims["pubkey"], "exp": claims["exp"]}),
        token[:-3] + ("A" if token[-3] != "A" else "B") + token[-2:],
        token + ".x",
        "",
    ]:
        refused = browser.with_token(forged)
        assert (refused.status, refused.json()["error"]["code"]) == (401, "unauthorized"), forged
    assert browser.with_token(token).status == 200


def test_a_new_token_takes_the_place_of_the_old_one(browser):
    wallet = LoginWallet(115)
    old = browser.log_in(wallet)
    renewed = browser.with_token(old, path="/refresh_jwt")
    assert set(renewed.json()) == {"k1", "status", "jwt", "user"} and renewed.json()["status"] is True
    new = renewed.json()["jwt"]
    assert browser.with_token(old).status == 401 and browser.with_token(old, path="/refresh_jwt").status == 401
    assert browser.with_token(new).json()["pubkey"] == wallet.key
    # Each is a write: as many as a device gets challenges.
    for number in range(90):
        renewed = browser.with_token(new, path="/refresh_jwt")
        if renewed.status == 429:
            break
        new = renewed.json()["jwt"]
    assert (renewed.status, renewed.headers["retry-after"]) == (429, "1") and number >= 58
    assert browser.with_token(new).status == 200


def test_what_is_logged_out_stays_so_after_a_kill(shop, browser):
    wallet = LoginWallet(116)
    one, two, three, other = (*(browser.log_in(wallet) for _ in range(3)), browser.log_in(LoginWallet(117)))
    socket, _ = browser.websocket(f"/ws?token={two}")
    assert browser.with_token(one, "POST", "/logout").status == 204
    shop.daemon.kill()
    shop.daemon.start()
    assert [browser.with_token(token).status for token in (one, two, three, other)] == [401, 200, 200, 200]
    socket, _ = browser.websocket(f"/ws?token={two}")
    assert browser.with_token(two, "POST", "/logout_all").status == 204
    with pytest.raises(Closed):
        socket.receive()
    assert [browser.with_token(token).status for token in (one, two, three, other)] == [401, 401, 401, 200]
    with pytest.raises(Refused) as refused:
        browser.websocket(f"/ws?token={two}")
    assert refused.value.status == 401


def test_the_signing_key_changes_without_logging_anybody_out(shop, browser):
    old = browser.log_in(LoginWallet(118))
    before = ring(shop)
    rotated = shop.daemon.data("auth", "rotate")
    assert rotated["kid"] == ring(shop)[-1][0] != before[-1][0] and before[-1] in ring(shop)
    assert os.stat(os.path.join(shop.daemon.state_dir, "jwt.key")).st_mode & 0o777 == 0o600
    new = browser.log_in(LoginWallet(119))
    assert parts_of(new)[0]["kid"] == rotated["kid"]
    assert [browser.with_token(token).status for token in (old, new)] == [200, 200]


# Operators


def test_without_operators_nobody_gets_in_as_one(lab, shop, browser):
    admin = LoginBrowser(lab.router, ADMIN_PORT)
    asked = admin.ask("?aud=admin")
    assert asked["confirm"] is True
    refused = LoginWallet(120).answer_through_tunnel(lab.router, asked["k1"])
    assert (refused.status, refused.json()) == (403, {"status": "ERROR", "reason": "key not allowed"})
    assert admin.status(asked["k1"]) == {"status": "expired"}
    assert browser.get("/lnauth?aud=admin").status == 403
    assert admin.get("/lnauth?aud=client").status == 403
    token = browser.log_in(LoginWallet(121))
    assert admin.with_token(token).status == 403
    assert admin.request("GET", "/admin/status", headers={"Authorization": f"Bearer {token}"}).status == 403

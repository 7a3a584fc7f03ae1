"""The wallet API's door: an app logs in by a signature, and what it is given counts where it may be shown."""

import concurrent.futures
import os

import pytest

from lab.authority import NAME, Authority
from lab.daemon import ADMIN_PORT
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import LOOPBACK, PUBLIC_PORT, LoginWallet
from lab.wallet_app import App, data, error

README = os.path.join(os.path.dirname(__file__), "../../src/http/README.md")
AUTH = {"domain": NAME}


@pytest.fixture
def app(lab, make_daemon):
    made = App(lab.guest)
    made.lab, made.daemon = lab, make_daemon(AWAY, sections={"auth": AUTH})
    return made


def log_in(app):
    return app.sign_in(LoginWallet(7))


def test_an_app_logs_in_by_a_signature_renews_its_token_and_logs_out(app):
    asked = data(app.post("/api/auth/login"))
    assert set(asked) == {"k1", "encode", "url", "keyauth", "expires_in"} and asked["encode"].startswith("LNURL1")
    told = data(log_in(app))
    assert set(told) == {"token", "expires_at", "user"} and told["user"]["pubkey"] == LoginWallet(7).key
    token = told["token"]
    me = app.lab.guest.get(f"http://{ROUTER4}:2121/me", {"Authorization": f"Bearer {token}"})
    assert me.status == 200 and me.json()["pubkey"] == LoginWallet(7).key
    new = data(app.post("/api/auth/refresh", token=token))["token"]
    assert error(app.post("/api/auth/refresh", token=token)) == (401, "unauthorized")
    assert data(app.post("/api/auth/logout", token=new)) == {}
    assert error(app.post("/api/auth/logout", token=new)) == (401, "unauthorized")


def test_without_a_token_nothing_else_is_said(app):
    for path in ("/api/auth/refresh", "/api/auth/logout"):
        assert error(app.post(path)) == (401, "unauthorized")
        assert error(app.post(path, token="x.y.z")) == (401, "unauthorized")


def test_what_is_not_signed_lets_nobody_in_and_a_k1_counts_once(app):
    wallet, k1 = LoginWallet(9), data(app.post("/api/auth/login"))["k1"]
    good = {"k1": k1, "key": wallet.key, "sig": wallet.sign(k1)}
    other = data(app.post("/api/auth/login"))["k1"]
    for change in ({"sig": wallet.sign(other)}, {"key": LoginWallet(10).key}, {"sig": "00"}, {"k1": "ab" * 32}):
        assert error(app.post("/api/auth/login", good | change)) == (401, "unauthorized"), change
    for bad in ({"k1": k1}, {"k1": 1, "key": 2, "sig": 3}):
        assert error(app.post("/api/auth/login", bad)) == (400, "invalid_input")
    for raw in (b"[]", b"{", b"\xff"):
        assert error(app.post("/api/auth/login", raw))[0] == 400
    with concurrent.futures.ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda _: app.post("/api/auth/login", good), range(50)))
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.status for answer in answers} <= {200, 401, 429}


def test_a_page_of_another_host_cannot_ask(app):
    assert app.post("/api/auth/login", {}, Origin="https://evil.example").status == 403


LISTED, PREFLIGHT = "https://app.example", {"Access-Control-Request-Method": "POST"}


def reads(answer, origin: str) -> bool:
    """Whether a browser shows the answer to a page from there; never with the browser's cookies."""
    assert "access-control-allow-credentials" not in answer.headers
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed is None or "Origin" in answer.headers["vary"]
    return allowed == origin


def test_an_app_that_is_a_page_asks_from_an_origin_that_is_listed(app):
    app.daemon.sections["auth"] = AUTH | {"origin": [LISTED, "http://localhost:5173"]}
    app.daemon.write_config()
    assert "origin" not in app.daemon.command("check").out
    app.daemon.command("reload")
    paths = (("POST", "/api/auth/login"), ("GET", "/api/wallet/balance"), ("POST", "/api/fiat/mpesa/buy"))
    for method, path in paths:
        for origin in (LISTED, "http://localhost:5173"):
            preflight = app.ask("OPTIONS", path, Origin=origin, **PREFLIGHT)
            assert preflight.status == 204 and reads(preflight, origin), preflight
            headers = preflight.headers["access-control-allow-headers"].lower().split(", ")
            assert {"authorization", "x-jwt", "content-type", "idempotency-key"} <= set(headers)
            assert {"GET", "POST"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
            sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            asked = app.ask(method, path, {} if method == "POST" else None, **sent)
            assert asked.status == (200 if path.endswith("login") else 401) and reads(asked, origin), asked
        for origin in ("https://evil.example", "http://app.example", LISTED + ":8443", "null"):
            for way, more in (("OPTIONS", PREFLIGHT), (method, {})):
                refused = app.ask(way, path, {} if way == "POST" else None, Origin=origin, **more)
                assert refused.status == 403 and not reads(refused, origin), refused
    elsewhere = app.ask("GET", "/me", Origin=LISTED)
    assert elsewhere.status == 403 and not reads(elsewhere, LISTED), elsewhere
    assert not reads(app.ask("OPTIONS", "/me", Origin=LISTED, **PREFLIGHT), LISTED)
    app.place, app.host, app.port = app.lab.router, LOOPBACK, PUBLIC_PORT
    assert reads(app.ask("OPTIONS", "/api/auth/login", Origin=LISTED, **PREFLIGHT), LISTED)


def test_an_app_that_is_a_page_asks_over_https_and_through_a_tunnel(lab, app, authority):
    app.daemon.sections["auth"] = AUTH | {"origin": [LISTED]}
    app.daemon.write_config()
    app.daemon.command("reload")
    for place, more in ((lab.guest, {}), (lab.router, {"port": 2126, "host": LOOPBACK})):
        for method, status in (("OPTIONS", 204), ("POST", 200)):
            for origin in (LISTED, "https://evil.example"):
                sent = {"Origin": origin, **(PREFLIGHT if method == "OPTIONS" else {})}
                body = {} if method == "POST" else None
                answer = authority.request(place, method, "/api/auth/login", body, headers=sent, **more)
                assert answer.status == (status if origin == LISTED else 403), answer
                assert reads(answer, LISTED) == (origin == LISTED), answer


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "app.example",
        "https://app.example/",
        "https://app.example/x",
        "https://App.example",
        "ftp://a.example",
        "https://app.example:443",
        "https://u@app.example",
        "https://*.example",
        "https://app.example:0",
    ],
)
def test_what_is_no_origin_is_an_error_of_the_configuration(app, origin):
    app.daemon.sections["auth"] = AUTH | {"origin": [LISTED, origin]}
    app.daemon.write_config()
    checked = app.daemon.command("check", check=False)
    assert checked.code == 1 and "'origin': " in checked.out and "no origin" in checked.out, checked.out


def test_at_most_sixteen_origins_are_listed(app):
    for many, code in ((16, 0), (17, 1)):
        app.daemon.sections["auth"] = AUTH | {"origin": [f"https://app{number}.example" for number in range(many)]}
        app.daemon.write_config()
        assert app.daemon.command("check", check=False).code == code


def test_it_is_not_at_the_operators_nor_at_the_plain_public_socket(app):
    app.place, app.host, app.port = app.lab.router, LOOPBACK, PUBLIC_PORT
    assert error(app.post("/api/auth/login")) == (404, "not_found")
    app.port = ADMIN_PORT
    assert app.post("/api/auth/login").status in (401, 404)


@pytest.fixture
def authority(lab, app):
    """A daemon that has https."""
    made = Authority(lab.path("wallet-api-https"))
    made.issue()
    app.daemon.sections["tls"] = made.section
    app.daemon.write_config()
    app.daemon.restart()
    return made


def routes() -> list[tuple[str, str]]:
    """Method and path of every row of the wallet API, as the table of paths has them."""
    with open(README) as file:
        of_apps = [line for line in file if line.startswith("| guest, public |")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in of_apps]
    found = [(row[1], row[2].strip("`")) for row in rows if row[2].startswith("`/api/")]
    assert len(found) >= 7 and {method for method, _ in found} == {"OPTIONS", "POST", "any"}, found
    ways = {"OPTIONS": (), "POST": ("POST",), "any": ("GET", "POST", "PUT")}
    asked = [(way, path) for method, path in found for way in ways[method]]
    return [(way, path.replace("**", tail)) for way, path in asked for tail in ("anything", "any/thing")]


def test_no_route_of_it_is_there_over_plain_http_where_there_is_https(app, authority):
    k1 = data(authority.request(app.lab.guest, "POST", "/api/auth/login", {}))["k1"]
    signed = {"k1": k1, "key": LoginWallet(12).key, "sig": LoginWallet(12).sign(k1)}
    token = data(authority.request(app.lab.guest, "POST", "/api/auth/login", signed))["token"]
    for method, path in routes():
        assert error(app.ask(method, path, {}, token)) == (403, "tls_required"), (method, path)
        shown = {} if path.endswith("/login") else {"Authorization": f"Bearer {token}x"}
        assert authority.request(app.lab.guest, method, path, {}, headers=shown).status != 403, (method, path)


def test_where_there_is_https_it_is_there_over_https_only(lab, app, authority):
    assert error(app.post("/api/auth/login")) == (403, "tls_required")
    assert error(app.post("/api/auth/refresh")) == (401, "unauthorized")
    assert error(app.post("/api/auth/refresh", token="x.y.z")) == (403, "tls_required")
    wallet = LoginWallet(11)
    for place, more in ((lab.guest, {}), (lab.router, {"port": 2126, "host": LOOPBACK})):
        k1 = data(authority.request(place, "POST", "/api/auth/login", {}, **more))["k1"]
        signed = {"k1": k1, "key": wallet.key, "sig": wallet.sign(k1)}
        token = data(authority.request(place, "POST", "/api/auth/login", signed, **more))["token"]
        headers = {"Authorization": f"Bearer {token}"}
        data(authority.request(place, "POST", "/api/auth/logout", {}, headers=headers, **more))


def test_what_is_switched_off_or_not_there_is_refused_to_who_is_logged_in_and_401_to_all_others(app):
    token = data(log_in(app))["token"]
    off = ["mpesa/buy", "mpesa/sell", "mpesa/payout", "airtime/buy", "airtime", "bills/pay"]
    paths = [f"/api/fiat/{path}" for path in off]
    payouts = ["/api/wallet/airtime/buy", "/api/bitcoin/purchase-airtime"]
    forbidden = ["/api/payments/1/refund", "/api/bitcoin/credit"]
    missing = ["/api/bitcoin/webhook/mpesa", "/api/payments/1", "/api/wallet/anything", "/api/bitcoin/convert"]
    rates = ["/api/bitcoin/convert/kes-to-sats", "/api/bitcoin/convert/sats-to-kes"]
    others = ["/api/wallet/invoice", "/api/wallet/invoice/new", "/api/wallet/send", "/api/wallet/create"]
    for path in paths + payouts + forbidden + missing + rates + others + ["/api/payments/process"]:
        assert error(app.post(path)) == (401, "unauthorized"), path
        assert error(app.post(path, token="x.y.z")) == (401, "unauthorized"), path
    for path in paths + payouts:
        assert error(app.post(path, {"phoneNumber": "0712345678", "amount": 100}, token)) == (403, "switched_off")
    for path in forbidden:
        assert error(app.post(path, {"amount_sats": 1}, token)) == (403, "forbidden")
    for path in missing:
        assert error(app.post(path, {}, token)) == (404, "not_found"), path
    for path in rates:
        assert error(app.post(path, {"amountKes": 1, "amountSats": 1}, token)) == (503, "rate_stale")
    for method in ("PUT", "DELETE", "GET"):
        for path in ("/api/wallet/send", "/api/fiat/mpesa/sell"):
            assert error(app.ask(method, path, {}, token)) == (404, "not_found"), (method, path)
    get = app.lab.guest.get
    known = ("wallet/balance", "wallet/transactions", "fiat/transaction/1", "fiat/mpesa/limits")
    for path in known + ("bitcoin/status", "bitcoin/exchange-rate", "bitcoin/balance/1", "payments/1/status"):
        assert error(get(f"http://{ROUTER4}:2121/api/{path}")) == (401, "unauthorized")
    bearer = {"Authorization": f"Bearer {token}"}
    assert error(get(f"http://{ROUTER4}:2121/api/fiat/transaction/1", bearer)) == (404, "not_found")
    assert data(get(f"http://{ROUTER4}:2121/api/fiat/mpesa/limits", bearer))["max"] == 250_000

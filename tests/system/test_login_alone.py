"""Logins of a daemon of their own: over the router's own https, with another time, and where there are none."""

import base64
import json
import re
import time

import pytest

from lab.authority import PORT, Authority
from lab.daemon import ADMIN_PORT
from lab.fake_clock import FakeWall, needs_faketime
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import DOMAIN, LoginBrowser, LoginWallet, PythonLnurl, through_tunnel
from lab.place import wait_for


@pytest.mark.parametrize("environment", ["lnurl", "lnurl-httpx28"])
def test_a_wallet_on_the_guests_own_phone_logs_in_over_https(make_daemon, lab, environment):
    python = PythonLnurl.environment(environment)
    if python is None:
        pytest.skip(f"no {environment} here")
    authority = Authority(lab.path(f"login-{environment}"))
    authority.issue()
    make_daemon(AWAY, sections={"tls": authority.section, "auth": {"domain": DOMAIN}})
    asked = authority.get(lab.guest, "/lnauth")
    cookie = re.fullmatch(
        "(__Host-lnauth=[0-9a-f]{32}); HttpOnly; SameSite=Strict; Path=/; Secure", asked.headers["set-cookie"]
    )[1]
    assert asked.json()["url"].startswith(f"https://{DOMAIN}:{PORT}/lnauth_login/")
    wallet = PythonLnurl(lab.guest, python, ROUTER4, authority.ca_file)
    assert wallet.log_in(asked.json()["encode"])["ok"]
    look = f"/lnauth_status?k1={asked.json()['k1']}"
    assert lab.guest.get(f"http://{ROUTER4}:2121{look}", {"Cookie": cookie}).status == 403
    assert authority.get(lab.guest, look, Cookie=cookie.removeprefix("__Host-")).status == 403, "it is set over http"
    told = authority.get(lab.guest, look, Cookie=cookie)
    assert told.json()["status"] == "ok" and told.json()["user"]["role"] == "client"


def test_a_challenge_ends_with_its_time(make_daemon, lab, stranger):
    daemon = make_daemon(AWAY, sections={"auth": {"domain": DOMAIN, "challenge_ttl": 5}})
    assert daemon.running
    browser = LoginBrowser(stranger)
    asked = browser.ask()
    assert asked["expires_in"] == 5
    time.sleep(5.2)
    assert browser.status(asked["k1"]) == {"status": "expired"}
    assert LoginWallet(111).answer(stranger, asked["k1"]).status == 400


def test_without_the_section_its_paths_are_as_any_other(make_daemon, lab, stranger):
    make_daemon(AWAY)
    guest = LoginBrowser(stranger)
    unknown = guest.get("/nothing-here")
    for path in ("/lnauth", "/lnauth_login", "/me", "/websocket", "/ws", "/refresh_jwt"):
        answer = guest.get(path)
        assert (answer.status, answer.body[:20]) == (unknown.status, unknown.body[:20]), path
    assert through_tunnel(lab.router, "/lnauth_login?k1=" + "00" * 32).status == 404
    assert LoginBrowser(lab.router, ADMIN_PORT).get("/lnauth?aud=admin").status == 404


@needs_faketime
def test_who_logged_in_before_the_clock_was_set_stays_logged_in(make_daemon, lab, stranger):
    daemon, wall = make_daemon(AWAY, sections={"auth": {"domain": DOMAIN}}), FakeWall(lab)
    browser = LoginBrowser(stranger)
    daemon.stop()
    daemon.start(env=wall.env)
    token = browser.log_in(LoginWallet(163))
    assert browser.with_token(token).status == 200 and not daemon.status()["data"]["clock"]["plausible"]
    operators = lambda: LoginBrowser(lab.router, ADMIN_PORT).get("/lnauth?aud=admin")
    assert (operators().status, operators().json()["error"]["code"]) == (503, "clock_not_set")
    wall.set("2026-12-01 12:00:00")
    wait_for(lambda: daemon.status()["data"]["clock"]["plausible"])
    assert operators().status == 200
    assert browser.with_token(token).status == 200
    daemon.restart()
    renewed = browser.with_token(token, path="/refresh_jwt").json()["jwt"]
    claims = json.loads(base64.urlsafe_b64decode(renewed.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 604_800, "now its end can be told"
    assert browser.with_token(renewed).status == 200 and browser.with_token(token).status == 401

"""Logins of a daemon of their own: one with another time, one without any."""

import time

from lab.daemon import ADMIN_PORT
from lab.internet import AWAY
from lab.login import DOMAIN, LoginBrowser, LoginWallet, through_tunnel


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

"""A guest keeps its time with a wallet: Chromium over the router's own https, and a wallet of others."""

import pytest
from playwright.sync_api import expect

from lab.authority import NAME, PORT, Authority
from lab.browser import Browser
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import LoginWallet, RustLnurl
from lab.place import wait_for


@pytest.fixture(scope="module")
def authority(lab):
    made = Authority(lab.path("browser-login"))
    made.issue()
    return made


@pytest.fixture
def daemon(lab, make_daemon, authority):
    return make_daemon(AWAY, sections={"tls": authority.section, "auth": {"domain": NAME}})


def test_time_is_kept_by_scanning_the_code_on_the_page(lab, daemon, authority):
    daemon.command("grant", lab.guest.mac, "1h")
    with Browser(lab.guest, authority.flags(ROUTER4)) as browser:
        page = browser.phone()
        page.goto(f"https://{NAME}:{PORT}/")
        page.locator('a[href*="way=keep"]').first.click()
        expect(page.locator("#qr")).to_be_visible()
        (link,) = browser.read_qr(page.locator("#qr"))
        link = link.removeprefix("lightning:").removeprefix("LIGHTNING:")
        if program := RustLnurl.found():
            key, answer = RustLnurl(lab.guest, program, ROUTER4, authority.ca_file).log_in(link)
            assert answer == "ok"
        else:
            k1 = page.url.split("k1=")[1][:64]
            assert LoginWallet(601).answer(lab.guest, k1).json() == {"status": "OK"}
            key = LoginWallet(601).key
        expect(page.get_by_text("Your wallet stands for it now")).to_be_visible()
        assert not browser.problems(page)
    wait_for(lambda: f"client logged in by key {key[:8]}" in daemon.log())


def test_the_crate_lnurl_rs_logs_in_over_https_and_once(lab, daemon, authority):
    program = RustLnurl.found()
    if program is None:
        pytest.skip("no lnurl-rs here: setup.sh peers")
    wallet = RustLnurl(lab.guest, program, ROUTER4, authority.ca_file)
    asked = authority.get(lab.guest, "/lnauth").json()
    key, answer = wallet.log_in(asked["encode"])
    assert answer == "ok" and len(key) == 66
    assert wallet.log_in(asked["encode"])[1] != "ok", "once"

"""The printed page of vouchers in Chromium: cards on A4 and on a strip that a camera reads, and a guest who does.

`TOLLGATED_SCREENSHOTS=1` puts the picture of the README into `tests/screenshots`.
"""

import os
import time

import pytest
from playwright.sync_api import expect

from lab.daemon import Mint
from lab.guest import ROUTER4
from lab.internet import AWAY

pytestmark = pytest.mark.browser

PORTAL = f"http://{ROUTER4}:2121"
KEPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "screenshots")
A4 = {"width": 794, "height": 1123}
MADE = 14


@pytest.fixture
def counter(make_daemon):
    daemon = make_daemon(Mint(AWAY, price=3))
    with open(os.path.join(daemon.dir, "wireless"), "w") as file:
        file.write("config wifi-iface 'one'\n\toption network 'guests'\n\toption ssid 'Kibanda & Co'\n")
    with open(os.path.join(daemon.dir, "network"), "w") as file:
        file.write("config interface 'guests'\n\toption device 'br-guest'\n")
    return daemon


def printed(counter, *words) -> tuple[dict, str]:
    path = os.path.join(counter.dir, "sheet.html")
    made = counter.data("voucher", "create", str(MADE), "--time", "1h", "--note", "Room 12", *words, "--print", path)
    with open(path) as file:
        return made, file.read()


def test_a_sheet_shows_each_code_once_and_a_camera_reads_it(counter, browser):
    made, html = printed(counter)
    page = browser.chromium.new_page(viewport=A4, device_scale_factor=2)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(html)
    cards = page.locator("article")
    expect(cards).to_have_count(MADE)
    for number, one in enumerate(made["vouchers"]):
        year = time.gmtime(one["expires_at"]).tm_year
        card = cards.nth(number)
        for text in (one["code"], "Kibanda Wi-Fi", "Kibanda & Co", "180 sat", "Room 12", "1h", f"until {year}-"):
            expect(card).to_contain_text(text)
        assert browser.read_qr(card) == [f"{PORTAL}/?voucher={one['code']}"]
    assert page.evaluate("document.documentElement.scrollWidth") <= A4["width"]
    inside = """card => [...card.querySelectorAll('*')].every(one =>
        one.getBoundingClientRect().right <= card.getBoundingClientRect().right + 1)"""
    assert all(card.evaluate(inside) for card in cards.all()), "nothing leaves its card"
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") == 2, "fourteen cards are two sheets"
    assert asked == [], "it asks nobody for anything"
    if os.environ.get("TOLLGATED_SCREENSHOTS"):
        os.makedirs(KEPT, exist_ok=True)
        small = browser.chromium.new_page(viewport={"width": 794, "height": 560})
        small.set_content(html)
        small.screenshot(path=f"{KEPT}/voucher-sheet.png")
        small.close()
    page.close()


def test_a_strip_fits_a_receipt_printer(counter, browser):
    made, html = printed(counter, "--strip")
    page = browser.chromium.new_page(viewport={"width": 219, "height": 600}, device_scale_factor=3)
    page.set_content(html)
    expect(page.locator("article")).to_have_count(MADE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 219, "58 mm"
    code = made["vouchers"][0]["code"]
    assert browser.read_qr(page.locator("article").first) == [f"{PORTAL}/?voucher={code}"]
    page.close()


def test_a_guest_scans_a_card_and_is_online(lab, counter, browser, phone):
    made, html = printed(counter)
    sheet = browser.chromium.new_page(viewport=A4, device_scale_factor=2)
    sheet.set_content(html)
    (link,) = browser.read_qr(sheet.locator("article").nth(2))
    sheet.close()
    page = phone()
    page.goto(link)
    form = page.locator("form[action='/voucher']")
    expect(form.locator("[name=code]")).to_have_value(made["vouchers"][2]["code"])
    form.locator("button").click()
    page.wait_for_url(f"{PORTAL}/")
    assert lab.guest.online() and lab.guest.mac in counter.paid_macs()
    again = phone()
    again.goto(link)
    again.locator("form[action='/voucher'] button").click()
    expect(again.locator("body")).to_contain_text("used")

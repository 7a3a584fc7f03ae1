"""How the portal looks and what it costs: every state in light and dark, in both languages, on the narrowest phone,
with text of twice the size, without JavaScript, and while the router is away.

Pictures of all states go to a scratch directory; `TOLLGATED_SCREENSHOTS=1` puts those of the README into
`tests/screenshots`, and makes a sheet of all beside the others.
"""

import contextlib
import gzip
import os
import re
import shutil
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from lab.browser import Browser, audit
from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.fault_proxy import FaultProxy
from lab.guest import Guest
from lab.internet import MINT4
from lab.namespaces import Lab
from lab.nutshell import Nutshell
from lab.place import wait_for
from lab.portal_client import PORTAL
from lab.tollgate_client import token_v4
from lab.wallet import Wallet

pytestmark = pytest.mark.browser

KEPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "screenshots")
KEEP = os.environ.get("TOLLGATED_SCREENSHOTS")


@pytest.fixture(scope="module")
def pictures(browser, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("portal"))
    yield directory
    if KEEP:
        os.makedirs(KEPT, exist_ok=True)
        for state in ("choose", "pay", "online"):
            shutil.copy(f"{directory}/{state}-light-en.png", f"{KEPT}/portal-{state}.png")
        browser.sheet([f"{directory}/{name}" for name in sorted(os.listdir(directory))], f"{directory}/all.jpg")


@dataclass
class Scene:
    """What a state is made of."""

    lab: Lab
    guest: Guest
    mint: Nutshell
    proxy: FaultProxy
    away: FaultMint
    make_daemon: object
    phone: object
    page: Page
    daemon: Daemon | None = None

    def open(self, *mints, **options) -> Daemon:
        self.daemon = self.make_daemon(*(mints or [self.proxy.url]), **options)
        self.page.goto(PORTAL)
        return self.daemon

    def pay(self) -> None:
        self.page.locator("button.pay").click()
        expect(self.page.locator("main.pay")).to_be_visible()

    def be_paid(self) -> None:
        self.pay()
        self.mint.pay(self.page.locator("#invoice").input_value())

    def proofs(self, amount: int) -> list[dict]:
        wallet = Wallet(self.lab.internet, self.mint.url)
        return wallet.buy(self.mint, amount)

    def pay_with_ecash(self, token: str) -> None:
        self.page.goto(f"{PORTAL}/?way=ecash")
        self.page.locator("#token").fill(token)
        self.page.locator("button[type=submit]").click()


# Every function leaves its page in one state; what it yields for is undone at its end.


def choose(scene: Scene) -> None:
    scene.open()


def choose_other(scene: Scene) -> None:
    scene.open(
        Mint(scene.mint.url, price=2),
        venue={"name": "Mgahawa wa Bi. Mwanaisha Juma – Stendi Kuu", "step_size": 90_000},
    )
    scene.page.get_by_text("Other amount").click()


@contextlib.contextmanager
def choose_mints(scene: Scene):
    with FaultMint(scene.lab.internet, MINT4) as dear:
        scene.open(Mint(scene.mint.url, price=1), Mint(dear.url, price=21, min_steps=30), scene.away.url)
        wait_for(
            lambda: scene.page.goto(PORTAL) and scene.page.locator(".notice").count(), 5, "the probe has found it away"
        )
        yield


def choose_again(scene: Scene) -> None:
    scene.open()
    scene.pay()
    scene.page.locator("#again").click()


def no_mint(scene: Scene) -> None:
    scene.open(scene.away.url)
    wait_for(
        lambda: scene.page.goto(PORTAL) and scene.page.locator(".notice").count(), 5, "the probe has found it away"
    )


def pay(scene: Scene) -> None:
    scene.open()
    scene.pay()


def pay_more(scene: Scene) -> None:
    scene.open().command("grant", scene.guest.mac, "30m")
    scene.page.goto(PORTAL)
    scene.page.locator("summary").click()
    scene.pay()


def paid(scene: Scene) -> None:
    scene.open()
    scene.proxy.fault("/v1/mint/bolt11$", method="POST", status=503)
    scene.be_paid()
    expect(scene.page.locator("main.paid")).to_be_visible()


def paid_waiting(scene: Scene) -> None:
    paid(scene)
    expect(scene.page.locator("main.paid .notice")).to_be_visible(timeout=60_000)


def online(scene: Scene) -> None:
    scene.open()
    scene.be_paid()
    expect(scene.page.locator("main.online")).to_be_visible()


def online_days(scene: Scene) -> None:
    scene.open().command("grant", scene.guest.mac, "60h")
    scene.page.goto(PORTAL)
    scene.page.locator("summary").click()


def own_ticket(scene: Scene) -> None:
    online(scene)
    scene.page.locator("#kept").click()
    expect(scene.page.locator("main.kept .qr")).to_be_visible()


def receipt(scene: Scene) -> None:
    online(scene)
    scene.page.locator("#way-receipt").click()
    expect(scene.page.locator("main.receipt")).to_be_visible()


def ending(scene: Scene) -> None:
    scene.open().command("grant", scene.guest.mac, "4m")
    scene.page.goto(PORTAL)
    expect(scene.page.locator(".ending")).to_be_visible()


def how_to_pay(scene: Scene) -> None:
    scene.open()
    scene.page.locator(".how summary").click()


def ticket(scene: Scene) -> None:
    scene.open()
    scene.page.locator("#way-ticket").click()
    scene.page.locator("#ticket").fill("k3m9-0123-4567-89ab-cdef-ghjk-mnpq")


def ticket_refused(scene: Scene) -> None:
    ticket(scene)
    scene.page.locator("button[type=submit]").click()
    expect(scene.page.locator(".notice")).to_be_visible()


def ecash(scene: Scene) -> None:
    scene.open()
    scene.page.locator("#way-ecash").click()


@contextlib.contextmanager
def ecash_mints(scene: Scene):
    with FaultMint(scene.lab.internet, MINT4) as dear:
        scene.open(Mint(scene.mint.url, price=1), Mint(dear.url, price=21, min_steps=30)).command(
            "grant", scene.guest.mac, "90m"
        )
        scene.page.goto(f"{PORTAL}/?way=ecash")
        yield


def ecash_refused(scene: Scene) -> None:
    scene.open()
    scene.pay_with_ecash(token_v4("https://mint.elsewhere.example", scene.proofs(5)))
    expect(scene.page.locator(".notice")).to_be_visible()


def receiving(scene: Scene) -> None:
    scene.open()
    scene.proxy.fault("/v1/swap", hang=60)
    scene.pay_with_ecash(token_v4(scene.proxy.url, scene.proofs(5)))
    expect(scene.page.locator("main.paid")).to_be_visible()


def receiving_unknown(scene: Scene) -> None:
    scene.open()
    scene.proxy.fault("/v1/swap", cut_answer=True, times=1)
    scene.proxy.fault("/v1/(swap|restore|checkstate)", status=503)
    scene.pay_with_ecash(token_v4(scene.proxy.url, scene.proofs(5)))
    expect(scene.page.locator("main.trouble")).to_be_visible(timeout=60_000)


def online_data(scene: Scene) -> None:
    scene.open(venue={"metric": "bytes", "step_size": 10_000_000, "max_steps": 5000})
    scene.pay_with_ecash(token_v4(scene.proxy.url, scene.proofs(300)))
    expect(scene.page.locator("main.online")).to_be_visible()


def online_free(scene: Scene) -> None:
    scene.open(venue={"trusted_mac": [scene.guest.mac]})


def ended(scene: Scene) -> None:
    daemon = scene.open()
    daemon.command("grant", scene.guest.mac, "1h")
    daemon.command("revoke", scene.guest.mac)
    scene.page.goto(PORTAL)
    expect(scene.page.locator("main.ended")).to_be_visible()


@contextlib.contextmanager
def expired(scene: Scene):
    with FaultMint(scene.lab.internet, MINT4, invoice_seconds=10) as short:
        scene.open(short.url)
        scene.pay()
        wait_for(
            lambda: scene.page.reload() and scene.page.locator("main.choose .notice").count(),
            20,
            "it has run out",
            every=0.3,
        )
        yield


def rate_limited(scene: Scene) -> None:
    scene.open()
    for chip in range(4):
        scene.page.goto(f"{PORTAL}/?choose=1")
        scene.page.locator(f"label[for=s{chip}]").click()
        scene.page.locator("button.pay").click()
        scene.page.wait_for_url("**/pay" if chip == 3 else "**/?r=*")


def amount_refused(scene: Scene) -> None:
    scene.open()
    scene.page.evaluate("document.querySelector('#s1').value = 5000")
    scene.page.locator("button.pay").click()
    expect(scene.page.locator(".notice")).to_be_visible()


def mint_unavailable(scene: Scene) -> None:
    scene.open()
    scene.proxy.fault("/v1/mint/quote", method="POST", status=503)
    scene.page.locator("button.pay").click()
    expect(scene.page.locator("main.trouble")).to_be_visible()


def cannot_sell(scene: Scene) -> None:
    daemon = scene.open()
    daemon.stop()
    with open(f"{daemon.state_dir}/store.db", "r+b") as file:
        file.write(b"not a database" * 50)
    daemon.start()
    scene.page.goto(PORTAL)
    expect(scene.page.locator("main.trouble")).to_be_visible()


@contextlib.contextmanager
def unknown_device(scene: Scene):
    scene.daemon = scene.make_daemon(scene.mint.url)
    guest, router = scene.guest, scene.lab.router
    router.ip(f"neigh replace {guest.ip} lladdr {guest.mac} dev br-guest nud noarp")
    try:
        scene.page.goto(PORTAL)
        expect(scene.page.locator("main.trouble")).to_be_visible()
        yield
    finally:
        router.ip(f"neigh del {guest.ip} dev br-guest")


STATES = [
    choose,
    choose_other,
    choose_mints,
    choose_again,
    no_mint,
    pay,
    pay_more,
    paid_waiting,
    online,
    online_data,
    ending,
    receipt,
    how_to_pay,
    own_ticket,
    ticket,
    ticket_refused,
    ecash,
    ecash_mints,
    ecash_refused,
    receiving,
    receiving_unknown,
    online_days,
    online_free,
    ended,
    expired,
    rate_limited,
    amount_refused,
    mint_unavailable,
    cannot_sell,
    unknown_device,
]


@pytest.fixture
def away(lab):
    with FaultMint(lab.internet, MINT4) as made:
        made.misbehave("down")
        yield made


@pytest.fixture
def scene(lab, mint, fault_proxy, away, make_daemon, phone):
    scale = 1.5 if KEEP else 1
    return Scene(lab, lab.guest, mint, fault_proxy, away, make_daemon, phone, phone(scale=scale))


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_state_is_readable_and_usable_in_both_languages_and_themes(scene, pictures, state):
    page = scene.page
    with state(scene) or contextlib.nullcontext():
        for language in ("en", "sw"):
            if language == "sw":
                if page.url.endswith(("/pay", "/ticket", "/ecash")):  # a refusal: the form again, in Swahili
                    break
                speaks_swahili(page)
            for opener in (
                ("label[for=other]",) if state is choose_other else ("summary",) if state is online_days else ()
            ):
                if language == "sw":
                    page.locator(opener).click()
            for width in (320, 360):
                page.set_viewport_size({"width": width, "height": 740})
                for theme in ("light", "dark"):
                    page.emulate_media(color_scheme=theme)
                    assert audit(page) == [], (language, theme, width)
                    if width == 360:
                        page.screenshot(path=f"{pictures}/{state.__name__}-{theme}-{language}.png", full_page=True)
                page.emulate_media(color_scheme="light")
                assert has_room_for_large_text(page) == [], (language, width)
                if width == 360:
                    page.screenshot(path=f"{pictures}/{state.__name__}-large-{language}.png", full_page=True)
                page.evaluate("document.documentElement.style.fontSize = ''")


def has_room_for_large_text(page: Page) -> list[str]:
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    return audit(page)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_state_is_readable_without_script_and_while_the_router_is_away(scene, pictures, browser, state):
    page = scene.page
    with state(scene) or contextlib.nullcontext():
        shown = page.locator("main").get_attribute("class")
        if not page.url.endswith(("/pay", "/ticket", "/ecash")):  # the answer to a form is no page to come to
            plain = scene.phone(script=False)
            plain.goto(page.url)
            assert audit(plain) == []
            plain.screenshot(path=f"{pictures}/{state.__name__}-plain-en.png", full_page=True)
            plain.close()
        scene.daemon.kill()
        for _ in range(20):
            page.evaluate("window.dispatchEvent(new Event('offline'))")
            if page.locator("#away").is_visible():
                break
            page.wait_for_timeout(100)
        expect(page.locator("#away")).to_be_visible()
        assert page.locator("main").get_attribute("class") == shown and audit(page) == []
        page.screenshot(path=f"{pictures}/{state.__name__}-away-en.png", full_page=True)
    browser.problems(page).clear()  # what was asked of a daemon that was killed


@pytest.mark.parametrize("state", [choose_other, pay, online, paid_waiting], ids=lambda state: state.__name__)
def test_a_page_that_is_read_from_the_right_is_mirrored(scene, pictures, state):
    page = scene.page
    with state(scene) or contextlib.nullcontext():
        page.evaluate("document.documentElement.dir = 'rtl'")
        assert audit(page) == []
        venue, language = (page.locator(f"header .{name}").bounding_box()["x"] for name in ("venue", "lang"))
        assert language < venue
        page.screenshot(path=f"{pictures}/{state.__name__}-mirrored-en.png", full_page=True)


def speaks_swahili(page: Page) -> None:
    """The switch keeps the state; one that goes on by itself may have done so just then, but not each time."""
    for _ in range(4):
        shown = page.locator("main").get_attribute("class"), page.locator(".notice").count()
        page.locator("header .lang").click()
        expect(page.locator("html")).to_have_attribute("lang", "sw")
        kept = (page.locator("main").get_attribute("class"), page.locator(".notice").count()) == shown
        if kept:
            return
        page.locator("header .lang").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")
    assert kept, "the switch keeps the state"


@pytest.mark.parametrize("width", [320, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_camera_reads_the_invoice(mint, make_daemon, phone, browser, theme, width):
    make_daemon(mint.url)
    page = phone(dark=theme == "dark", width=width, scale=1)
    page.goto(PORTAL)
    page.locator("button.pay").click()
    shown = page.locator("#invoice").input_value()
    code = page.locator("#qr")
    assert code.bounding_box()["width"] >= 240
    assert browser.read_qr(code) == [f"LIGHTNING:{shown.upper()}"]
    assert code.get_attribute("href") == page.locator("#wallet").get_attribute("href") == f"lightning:{shown}"


def test_copy_puts_the_invoice_on_the_clipboard_and_says_so(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    page.locator("button.pay").click()
    shown = page.locator("#invoice").input_value()
    copy = page.get_by_role("button", name="Copy")
    before = copy.bounding_box()
    page.evaluate("() => { window.later = []; window.setTimeout = (what) => later.push(what); }")
    copy.click()
    expect(page.locator("#copy")).to_have_text("✓ Copied")
    expect(page.locator("[aria-live]")).to_have_text("Copied")
    assert page.locator("#copy").bounding_box() == before, "nothing moves under the finger"
    other = page.context.new_page()
    other.set_content("<textarea></textarea>")
    other.locator("textarea").focus()
    other.keyboard.press("Control+V")
    assert other.locator("textarea").input_value() == shown
    page.evaluate("later.forEach((what) => what())")
    expect(page.locator("#copy")).to_have_text("Copy")


def test_the_page_is_three_requests_of_at_most_60_kb_and_nothing_from_outside(mint, make_daemon, phone, browser):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    page.locator("button.pay").click()
    expect(page.locator("main.pay")).to_be_visible()
    new = phone()
    new.add_init_script("window.setInterval = () => 0")  # looking whether it is paid comes later
    new.goto(page.url)
    expect(new.locator("main.pay")).to_be_visible()
    new.wait_for_load_state("networkidle")
    files = [new.locator("link[rel=stylesheet]").get_attribute("href"), new.locator("script").get_attribute("src")]
    assert sorted(browser.requests(new)) == sorted([page.url, *(PORTAL + file for file in files)])
    assert browser.received(new) <= 60_000


def test_style_and_script_are_sent_small_where_that_is_understood_and_are_kept_by_their_digest(lab, mint, make_daemon):
    make_daemon(mint.url)
    page = lab.guest.get(PORTAL, {"Accept": "text/html"})
    assert page.headers["cache-control"] == "no-store"
    for name, kind in ("portal.css", "text/css"), ("portal.js", "text/javascript"):
        address = re.search(rf'"(/{re.escape(name)}\?[0-9a-f]{{8}})"', page.text).group(1)
        packed = lab.guest.get(PORTAL + address, {"Accept-Encoding": "gzip, deflate"})
        plain = lab.guest.get(PORTAL + address, {"Accept-Encoding": "deflate, gzip;q=0"})
        assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
        assert gzip.decompress(packed.body) == plain.body and 2 * len(packed.body) < len(plain.body)
        for answer in packed, plain:
            assert answer.headers["content-type"].startswith(kind) and answer.headers["vary"] == "accept-encoding"
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        for other in (f"/{name}", f"/{name}?00000000"):
            assert lab.guest.get(PORTAL + other).headers["cache-control"] == "no-store", other


def test_inline_script_and_foreign_content_are_refused(mint, make_daemon, phone, browser):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    page.evaluate("""() => {
        window.refused = [];
        addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
        for (const [tag, name, value] of [['script', 'textContent', 'window.intruder = 1'],
            ['img', 'src', 'http://198.51.100.80/x.png'],
            ['iframe', 'src', 'http://198.51.100.80/'], ['style', 'textContent', 'body { display: none }']]) {
            const element = document.createElement(tag);
            element[name] = value;
            document.body.append(element);
        }
        const button = document.createElement('button');
        button.setAttribute('onclick', 'window.intruder = 1');
        document.body.append(button);
        button.click();
    }""")
    page.wait_for_function("refused.length >= 5")
    assert page.evaluate("window.intruder") is None
    assert set(page.evaluate("refused")) == {
        "script-src-elem",
        "script-src-attr",
        "img-src",
        "frame-src",
        "style-src-elem",
    }
    browser.problems(page).clear()


def test_a_venues_name_is_never_markup(mint, make_daemon, phone):
    name = '<img src=x onerror="alert(1)"><script>alert(1)</script>&amp;'
    make_daemon(mint.url, venue={"name": name})
    page = phone()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(PORTAL)
    assert page.locator(".venue").inner_text() == name and name in page.title()
    assert not dialogs and page.locator(".venue *").count() == 0
    assert audit(page) == []


@pytest.mark.parametrize("metric", [{"step_size": 1000}, {"metric": "bytes", "step_size": 10_000_000}])
def test_long_amounts_fit_their_field_on_the_narrowest_phone(mint, make_daemon, phone, metric):
    make_daemon(mint.url, venue={"max_steps": 604_800, **metric})
    page = phone(width=320)
    page.goto(PORTAL)
    page.locator("label[for=other]").click()
    for amount in ("10000", "604800"):
        page.locator("#steps").fill(amount)
        wanted, there = page.locator("#steps").evaluate("field => [field.scrollWidth, field.clientWidth]")
        assert wanted <= there and audit(page) == [], amount


@pytest.mark.parametrize("asked, spoken", [("sw-KE", "sw"), ("sw", "sw"), ("en-GB", "en"), ("fr-FR", "en")])
def test_the_phones_language_is_spoken(mint, make_daemon, phone, asked, spoken):
    make_daemon(mint.url)
    page = phone(language=asked)
    page.goto(PORTAL)
    assert page.locator("html").get_attribute("lang") == spoken


def test_a_chosen_language_lasts_to_the_end(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    page.get_by_role("link", name="Kiswahili").click()
    page.locator("button.pay").click()
    expect(page.locator("h1")).to_have_text("Lipa 60 sat")
    mint.pay(page.locator("#invoice").input_value())
    expect(page.locator("h1")).to_have_text("Uko mtandaoni")


def test_nothing_moves_for_who_asked_for_less_motion(mint, make_daemon, phone):
    make_daemon(mint.url)
    still, moving = phone(), phone(motion=True)
    still.goto(PORTAL)
    still.locator("button.pay").click()
    moving.goto(PORTAL)
    for page in still, moving:
        expect(page.locator(".pulse")).to_be_visible()
    animations = "document.getAnimations().length"
    assert (still.evaluate(animations), moving.evaluate(animations)) == (0, 1)


def test_the_whole_way_works_from_the_keyboard_alone(mint, make_daemon, phone):
    make_daemon(mint.url)
    page = phone()
    page.goto(PORTAL)
    order = []
    for _ in range(3):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.className || document.activeElement.id"))
    assert order == ["lang", "unseen pick s1", "button pay"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Pay 240 sat")


def test_a_page_without_script_hides_what_needs_it(mint, make_daemon, phone, browser):
    make_daemon(mint.url)
    page = phone(script=False)
    page.goto(PORTAL)
    page.locator("button.pay").click()
    expect(page.locator("main.pay")).to_be_visible()
    assert not page.locator("#copy").is_visible()
    expect(page.locator("noscript p")).to_have_text("To copy the invoice, hold its text and select all.")
    assert page.locator("noscript p").is_visible()
    assert browser.read_qr(page.locator("#qr"))

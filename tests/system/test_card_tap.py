"""Cards that pay for access: of banks elsewhere, of another router, of this one; and links that lead where nobody
should go.

The bank is a stand-in that keeps to LUD-03; its invoices are the mint's, and paid there.
"""

import concurrent.futures
import time
import types
from urllib.parse import parse_qs

import pytest

from lab.card_shop import LOOPBACK, CardShop
from lab.counter import CARD_PORT, history, look, own_card, said, show
from lab.daemon import Mint
from lab.guest import ROUTER4
from lab.internet import HOST4, MINT4
from lab.issuer import BANK, Issuer, Names
from lab.place import answer_when, wait_for
from lab.portal_client import PORTAL
from lab.shop import Shop
from lab.tls_proxy import TlsProxy

OWN, OTHER = "own.example", "cards.example"
UNREACHABLE = (
    "The card’s bank cannot be reached, or does not answer as it should. Nothing was taken: please tap again."
)
NO_LINK = "This is not the link of a card. Nothing was taken."


@pytest.fixture(scope="module")
def names(lab):
    made = Names(
        lab.internet,
        {
            BANK: HOST4,
            OTHER: HOST4,
            "stranger.example": HOST4,
            "inside.example": ROUTER4,
            "loop.example": "127.0.0.1",
            "near.example": MINT4,
            "both.example": [HOST4, ROUTER4],
            "rebind.example": (HOST4, ROUTER4),
            "rebound.example": (ROUTER4, HOST4),
        },
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def open_bank(lab, names):
    with Issuer(lab, pay=None, dir=lab.path("bank"), names=["rebind.example", "both.example", "near.example"]) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere(lab):
    """Another router in the internet, with cards, behind TLS. Its node pays the invoices of `mint`."""
    place = types.SimpleNamespace(
        router=lab.internet, path=lambda name: lab.path("elsewhere-" + name), clean_router=lambda: None
    )
    domain = TlsProxy(
        lab.internet, HOST4, upstream=LOOPBACK, upstream_port=CARD_PORT, dir=lab.path("other"), port=0, names=[OTHER]
    )
    shop = CardShop(place, card={"domain": f"{OTHER}:{domain.port}", "network": "mainnet"})
    shop.daemon.venue["device"] = ["br-none"]
    shop.daemon.write_config()
    shop.daemon.start(ready=False)
    shop.ca_file = domain.ca_file
    wait_for(lambda: lab.internet.connect(LOOPBACK, CARD_PORT, 1), 10, "the other router serves cards").close()
    yield shop
    shop.__exit__()
    domain.__exit__()


@pytest.fixture(scope="module")
def open_shop(lab, open_bank, elsewhere):
    """One shop for the module, which trusts both banks' authorities, and has cards of its own."""
    ca_file = lab.path("authorities.pem")
    with open(ca_file, "w") as file:
        file.write(open(open_bank.ca_file).read() + open(elsewhere.ca_file).read())
    with Shop(lab, main={"ca_file": ca_file}, sections={"card": {"domain": OWN, "network": "mainnet"}}) as made:
        open_bank.pay_invoice = made.pay
        yield made


@pytest.fixture
def bank(open_bank, shop):
    """Well-behaved at first; whatever the test, it was asked as a till asks, and no secret is in the log."""
    open_bank.behave()
    before = len(open_bank.asked), len(open_bank.given), len(open_bank.paid)
    open_bank.since = lambda: tuple(
        len(now) - then for now, then in zip((open_bank.asked, open_bank.given, open_bank.paid), before)
    )
    yield open_bank
    assert not open_bank.complaints
    log = shop.daemon.log()
    secrets = [value for path in open_bank.asked for value in parse_qs(path.partition("?")[2]).get("p", [])] + [
        k1 for k1, _ in open_bank.given
    ]
    assert not [secret for secret in secrets if secret.lower() in log.lower()]


@pytest.fixture
def buy(shop, stranger):
    """`buy(link)`: this guest shows a link for five minutes' worth."""

    def send(link: str, guest=stranger, steps: int = 5):
        return show(guest, link, steps=steps, mint=shop.mint.url)

    return send


def coded(link: str) -> str:
    """As an LNURL."""
    words, bits, buffer = [], 0, 0
    for byte in link.encode():
        buffer, bits = (buffer << 8 | byte) & 0xFFF, bits + 8
        while bits >= 5:
            bits -= 5
            words.append(buffer >> bits & 31)
    if bits:
        words.append(buffer << (5 - bits) & 31)
    checked = [*(ord(c) >> 5 for c in "lnurl"), 0, *(ord(c) & 31 for c in "lnurl"), *words, 0, 0, 0, 0, 0, 0]
    sum = 1
    for word in checked:
        top, sum = sum >> 25, (sum & 0x1FFFFFF) << 5 ^ word
        for at, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            sum ^= generator if top >> at & 1 else 0
    words += [(sum ^ 1) >> 5 * (5 - at) & 31 for at in range(6)]
    return "LNURL1" + "".join("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"[word] for word in words)


def is_online(guest):
    return wait_for(guest.online, 10, "the guest is online", every=0.1)


# Banks elsewhere


@pytest.mark.parametrize("shape", ["lnurlw", "https", "lightning:LNURL1"])
def test_a_card_of_a_bank_elsewhere_pays_and_the_guest_is_online(shop, bank, stranger, buy, shape):
    link = bank.tap(scheme="lnurlw" if shape == "lnurlw" else "https")
    answer = buy(f"lightning:{coded(link)}" if "LNURL" in shape else link)
    assert answer.status == 303 and answer.headers["location"].startswith("/?r="), said(answer)
    is_online(stranger)
    assert bank.since() == (1, 1, 1) and sum(mint.issued for mint in shop.mints) == sum(
        mint.paid for mint in shop.mints
    )
    (session,) = [one for one in shop.daemon.ask("sessions")["data"] if one["mac"] == stranger.mac]
    assert session["allotment_seconds"] == 300


def test_a_real_mints_invoice_is_paid_by_a_card(lab, bank, shop, mint, stranger):
    """The mint is nutshell, of which the shop hears by a reload."""
    shop.daemon.mints.append(Mint(mint.url, price=1, min_steps=2))
    shop.daemon.write_config()
    shop.daemon.command("reload")
    bank.pay_invoice = mint.pay
    try:
        answer = show(stranger, bank.tap(), steps=5, mint=mint.url)
        assert answer.status == 303, said(answer)
        is_online(stranger)
    finally:
        bank.pay_invoice = shop.pay
        shop.daemon.mints.pop()
        shop.daemon.write_config()
        shop.daemon.command("reload")


def test_the_card_pays_the_invoice_that_is_open(shop, bank, stranger):
    form = f"steps=7&mint={shop.mint.url}".encode()
    paid = stranger.post(f"{PORTAL}/pay", form, {"Content-Type": "application/x-www-form-urlencoded"})
    location = paid.headers["location"]
    page = look(stranger, location)
    assert f'href="/?way=card&amp;{location[2:]}"' in page.text
    answer = show(stranger, bank.tap(), r=location.partition("r=")[2])
    assert (answer.status, answer.headers["location"]) == (303, location)
    is_online(stranger)
    ((_, invoice),) = bank.given[-1:]
    assert invoice in page.text and shop.mint.counts["quote"] >= 1


def test_one_link_sent_often_at_once_is_one_payment(bank, stranger, buy):
    link = bank.tap()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: buy(link), range(8)))
    assert {(answer.status, answer.headers.get("location")) for answer in answers} == {
        (303, answers[0].headers["location"])
    }
    is_online(stranger)
    assert buy(link).headers["location"] == answers[0].headers["location"], "and later"
    assert bank.since() == (1, 1, 1)


def test_a_link_that_another_device_has_shown_is_refused(bank, stranger, other_stranger, buy):
    link = bank.tap()
    assert buy(link).status == 303
    answer = buy(link, other_stranger)
    assert (answer.status, said(answer)) == (409, "This tap was used by another device. Please tap the card again.")
    assert bank.since() == (1, 1, 1) and not other_stranger.online()


def test_a_link_that_is_no_tap_pays_again_and_for_another_guest_too(bank, shop, stranger, other_stranger, buy):
    link = bank.voucher()
    first = buy(link)
    assert first.status == 303, said(first)
    assert buy(link).headers["location"] == first.headers["location"], "the same form sent twice"
    assert bank.since() == (1, 1, 1)
    assert buy(link, steps=6).status == 303, "another purchase"
    assert buy(link, other_stranger).status == 303
    is_online(stranger)
    is_online(other_stranger)
    assert bank.since() == (3, 3, 3)
    again = (4, 4, 4)
    answer_when(lambda paid: paid == again, lambda: buy(link) and bank.since(), 20, "the same again, later", every=1)


@pytest.mark.parametrize(
    "shape", ["({}).", "\u201c{}\u201d", "Pay with {}, please", "\ufeff{}\u200b", "lightning:{}"]
)
def test_a_link_is_read_with_what_stands_around_it(bank, stranger, buy, shape):
    for link in (bank.tap(), coded(bank.tap(scheme="https"))):
        answer = buy(shape.format(link))
        assert answer.status == 303, said(answer)
    is_online(stranger)


@pytest.mark.parametrize("fault", ["cut", "html", "garbage", "list", "oversized", "redirect /elsewhere"])
def test_a_lost_answer_of_the_bank_leaves_it_to_the_mint(bank, shop, stranger, buy, fault):
    bank.next(callback=fault, pay="never")
    answer = buy(bank.tap())
    assert answer.status == 303
    page = look(stranger, answer.headers["location"])
    assert "Waiting for the card’s bank" in page.text and not stranger.online()
    bank.pay(bank.given[-1][1])
    is_online(stranger)
    assert bank.since() == (1, 1, 1)


def test_a_bank_that_pays_and_then_says_nothing_has_paid_once(bank, stranger, buy):
    bank.next(callback="cut", pay="before")
    assert buy(bank.tap()).status == 303
    is_online(stranger)
    assert buy(bank.tap()).status == 303, "another purchase"
    assert bank.since() == (2, 2, 2)


def test_a_bank_that_refuses_is_quoted_and_the_next_card_gets_the_same_invoice(bank, stranger, buy):
    bank.next(callback="error <b>No\x07 funds</b>" + "!" * 500, pay="never")
    answer = buy(bank.tap())
    assert answer.status == 502 and "<b>No" not in answer.text
    assert said(answer) == "The card’s bank says: “" + ("<b>No funds</b>" + "!" * 500)[:120] + "”"
    assert buy(bank.tap()).status == 303
    (_, first), (_, second) = bank.given[-2:]
    assert first == second
    is_online(stranger)


def test_a_tap_that_the_bank_refuses_makes_no_invoice(bank, shop, buy):
    before = shop.invoices_asked()
    bank.next(ln="error card not found")
    assert said(buy(bank.tap())) == "The card’s bank says: “card not found”"
    bank.terms = {"maxWithdrawable": 4999}
    assert said(buy(bank.tap())) == "This card pays from 1 sat to 4 sat. Nothing was taken."
    bank.terms = {"minWithdrawable": 5001}
    assert said(buy(bank.tap())) == "This card pays from 6 sat to 100,000 sat. Nothing was taken."
    assert shop.invoices_asked() == before and bank.since() == (3, 0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        {"ln": "cut"},
        {"ln": "html"},
        {"ln": "garbage"},
        {"ln": "list"},
        {"ln": "oversized"},
        {"ln": f"redirect http://{ROUTER4}:2121/"},
        {"tag": "payRequest"},
        {"tag": None},
        {"k1": None},
        {"k1": ""},
        {"callback": f"http://{BANK}/cb"},
        {"callback": None},
        {"maxWithdrawable": "100000"},
        {"minWithdrawable": None},
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_no_payment(bank, shop, buy, spoil):
    before = shop.invoices_asked()
    bank.next(ln=spoil.get("ln"))
    bank.terms = {name: value for name, value in spoil.items() if name != "ln"}
    answer = buy(bank.tap())
    assert (answer.status, said(answer)) == (502, UNREACHABLE)
    assert shop.invoices_asked() == before and bank.since()[1:] == (0, 0)


def test_while_a_bank_is_silent_its_guest_waits_and_others_buy(bank, stranger, other_stranger, buy):
    bank.next(ln="hang")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        silent = pool.submit(buy, bank.tap())
        wait_for(lambda: bank.since()[0] == 1, 5, "the bank is asked")
        answer = buy(bank.tap())
        assert (answer.status, said(answer)[:27]) == (429, "Too many cards at once. Ple")
        assert buy(bank.tap(), other_stranger).status == 303
        is_online(other_stranger)
        assert (silent.result(60).status, said(silent.result())) == (502, UNREACHABLE)


# Where a link must not lead


@pytest.fixture
def inside(lab, bank):
    """Whether anything on the router was reached at the bank's port."""
    doors = [lab.router.listen(host, bank.port) for host in ("0.0.0.0", "::")]
    for door in doors:
        door.setblocking(False)

    def reached() -> bool:
        for door in doors:
            try:
                door.accept()
                return True
            except BlockingIOError:
                pass
        return False

    yield reached
    for door in doors:
        door.close()


def test_no_link_leads_inside_and_none_tells_what_is_there(bank, stranger, buy, inside):
    hosts = [
        ROUTER4,
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.64.0.1",
        "203.0.113.2",
        MINT4,
        "224.0.0.1",
        "[::1]",
        f"[::ffff:{ROUTER4}]",
        "[fd77::1]",
        "[64:ff9b::c0a8:4d01]",
        "[2001:db8::2]",
        "[::ffff:203.0.113.2]",
        f"[::ffff:{MINT4}]",
        "[64:ff9b::cb00:7102]",
        "inside.example",
        "loop.example",
        "near.example",
        "both.example",
        "nobody.example",
        "stranger.example",
    ]
    for number, host in enumerate(hosts):
        if number % 8 == 7:
            stranger.become_stranger()
        answer = buy(bank.tap(host))
        assert (answer.status, said(answer)) == (502, UNREACHABLE), host
    stranger.become_stranger()
    for link in (f"lnurlw://{BANK}:22/ln?p=00&c=00", f"lnurlw://{BANK}:80/ln", f"lnurlw://{BANK}:{bank.port + 1}/ln"):
        assert said(buy(link)) == UNREACHABLE, link
    assert not inside() and bank.since() == (0, 0, 0)


def test_a_name_server_that_refuses_to_speak_of_ipv6_hides_no_bank(bank, names, stranger, buy):
    names.refuses = {28}
    try:
        answer = buy(bank.tap())
        assert answer.status == 303, said(answer)
    finally:
        names.refuses = set()
    is_online(stranger)


def test_a_name_that_changes_its_mind_leads_nowhere(bank, names, buy, inside):
    bank.terms = {"callback": f"https://rebind.example:{bank.port}/ln/callback"}
    answer = buy(bank.tap("rebind.example"))
    assert (answer.status, said(answer)) == (502, UNREACHABLE)
    assert names.asked["rebind.example"] == 2, "once for each question"
    assert said(buy(bank.tap("rebound.example"))) == UNREACHABLE
    assert not inside() and bank.since() == (1, 0, 0)


@pytest.mark.parametrize(
    "callback",
    [
        f"https://{ROUTER4}:PORT/cb",
        "https://127.0.0.1:PORT/cb",
        "https://inside.example:PORT/cb",
        "https://[::ffff:127.0.0.1]:PORT/cb",
    ],
)
def test_a_callback_must_not_lead_inside_either(bank, buy, inside, callback):
    bank.terms = {"callback": callback.replace("PORT", str(bank.port))}
    assert said(buy(bank.tap())) == UNREACHABLE
    assert not inside() and bank.since() == (1, 0, 0)


def test_what_is_no_link_is_said_to_be_none(bank, buy):
    for link in ("", "hello", f"http://{BANK}/ln?p=1", "lnbc1", "LNURL1QQQQ", "https:// a.b/", "x" * 5000):
        answer = buy(link)
        assert (answer.status, said(answer)) == (400, NO_LINK), link
    onion = buy("lnurlw://abcdefgh.onion/ln?p=1&c=2")
    assert (onion.status, said(onion)) == (
        400,
        "This card’s bank is an onion service, which cannot be reached from here. Nothing was taken.",
    )
    assert bank.since() == (0, 0, 0)


# Cards of a router


def test_a_card_of_another_router_pays_here(shop, elsewhere, stranger, buy):
    pays = elsewhere.node.on_pay

    def on_pay(request):
        invoice = parse_qs(request.body.decode())["invoice"][0]
        (quote,) = [quote for mint in shop.mints for quote in list(mint.quotes.values()) if quote.request == invoice]
        elsewhere.node.know(invoice, quote.payment_hash, quote.preimage, quote.amount * 1000)
        pays(request)
        shop.pay(invoice)

    elsewhere.node.on_pay = on_pay
    card = elsewhere.card(tx_max=10)
    assert buy(card.tap()).status == 303
    is_online(stranger)
    elsewhere.wait_for_states(card, "paid")
    assert elsewhere.history(card)[0]["amount_msat"] == 5000
    assert said(buy(card.tap(), steps=11)) == "This card pays from 1 sat to 10 sat. Nothing was taken."
    assert said(buy(card.tap(1))) == "The card’s bank says: “this card could not be read; please tap again”"


def test_a_card_of_this_router_pays_without_lightning(lab, shop, bank, stranger, other_stranger, buy):
    card = own_card(shop.daemon, tx_max=10, day_max=12)
    day, before = time.gmtime().tm_yday, shop.daemon.status()["data"]["sales_today"]
    link, invoices, balance = card.tap(), shop.invoices_asked(), shop.daemon.data("wallet", "balance")
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: buy(link), range(5)))
    assert {(answer.status, answer.headers.get("location")) for answer in answers} == {(303, "/")}
    is_online(stranger)
    assert buy(link, other_stranger).status == 409
    assert (
        said(buy(card.tap(), steps=11))
        == "The card’s bank says: “the amount is above the card's limit for one payment”"
    )
    assert (
        said(buy(card.tap(), steps=8))
        == "The card’s bank says: “the amount is above what the card may still spend today”"
    )
    assert said(buy(card.tap(1))) == "The card’s bank says: “this card could not be read; please tap again”"
    sales = shop.daemon.status()["data"]["sales_today"]
    if time.gmtime().tm_yday == day:
        assert (sales["count"] - before["count"], sales["sat"] - before["sat"]) == (1, 5)
    spent = [line for line in history(shop.daemon, card) if line["state"] == "paid"]
    assert [(line["amount_msat"], line["note"]) for line in spent] == [(5000, "spent here")]
    assert shop.invoices_asked() == invoices and shop.daemon.data("wallet", "balance") == balance, "no money moved"
    shop.daemon.kill()
    shop.daemon.start()
    is_online(stranger)
    assert said(buy(link)) == "The card’s bank says: “this card could not be read; please tap again”"


# At the counter


def test_a_reader_at_the_counter_lets_a_device_in(lab, shop, bank, stranger, other_stranger):
    assert stranger.ping(ROUTER4) and other_stranger.ping(ROUTER4), "the router knows both"

    def tap(link: str, mac: str, *more: str) -> tuple[int, str]:
        argv = [*shop.daemon.program, "card", "tap", "-", "--mac", mac, *more, "-c", shop.daemon.config]
        done = lab.router.run(argv, input=link + "\n", check=False, timeout=40)
        return done.code, done.out

    code, out = tap(bank.tap(), stranger.mac, "--amount", "7")
    assert code == 0 and "state: online" in out and "sat: 7" in out, out
    is_online(stranger)
    card = own_card(shop.daemon)
    code, out = tap(card.tap(), other_stranger.mac, "--json")
    assert code == 0 and '"paid_by":"this router\'s card"' in out and '"sat":2' in out, out
    is_online(other_stranger)
    told = [row["result"] for row in shop.daemon.data("audit") if row["what"] == "card tap"]
    assert told == ["begun", "ok"] * 2, "paid by a bank, and here"
    assert tap(card.tap(), "02:00:00:00:77:77") == (
        1,
        (
            "tollgated: 02:00:00:00:77:77 is not on a guest network now; connect it first ('tollgated clients' lists "
            "who is there)\n"
        ),
    )
    assert tap("hello", stranger.mac) == (
        1,
        "tollgated: this is no card's link; it begins with lnurlw://, https:// or LNURL1\n",
    )
    assert tap(card.tap(), stranger.mac, "--steps", "1")[0] == 1, "less than is sold"
    assert tap(card.tap(), "x")[0] == 2
    assert shop.daemon.command("card", "tap", card.tap(), "--mac", stranger.mac).code == 0, "as an argument, too"

"""Existing TollGate clients, from the offer to the end of what they bought: advertise, choose mint and price, pay,
watch the usage, top up, run out. Each for time and for bytes."""

import contextlib

import pytest

from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4
from lab.internet import HOST4, MINT4
from lab.place import answer_when, wait_for
from lab.portal_client import MintProxy
from lab.tollgate_client import PORTAL_ORIGIN, TOLLGATE, AndroidApp, PortalSite, Reseller, token_v3, token_v4
from lab.wallet import Wallet

MB = 1 << 20
STEP = {"milliseconds": 3000, "bytes": MB}
"""Of time so much that a busy machine gets from one look or payment to the next before what was bought is used up."""
CHEAP, DEAR = 1, 3


class Market:
    """A router that sells one metric for the money of two mints, and the guests' ecash of both."""

    def __init__(self, lab, metric: str) -> None:
        self.lab, self.metric, self.step = lab, metric, STEP[metric]
        self.dear, self.cheap = (FaultMint(lab.internet, MINT4) for _ in range(2))
        mints = [Mint(self.dear.url, price=DEAR, min_steps=0), Mint(self.cheap.url, price=CHEAP, min_steps=0)]
        self.daemon = Daemon(
            lab, mints, venue={"metric": metric, "step_size": self.step, "max_steps": 1000}, name=f"market-{metric}"
        )

    def token(self, url: str, amount: int, old_form: bool = False) -> str:
        mint = next(mint for mint in (self.dear, self.cheap) if mint.url == url)
        proofs = Wallet(self.lab.internet, url).buy(mint, amount)
        return (token_v3 if old_form else token_v4)(url, proofs)

    def consume(self, guest, steps: float) -> None:
        """So much of what was bought is used, or all that there is."""
        target = int(steps * self.step)
        while self.metric == "bytes" and usage(guest) != (-1, -1):
            with contextlib.suppress(OSError):
                guest.get(f"http://{HOST4}/bytes/{target}", timeout=2)
                break
        answer_when(
            lambda used: used[0] >= target or used == (-1, -1), lambda: usage(guest), 20, f"{target} used", every=0.1
        )


def usage(guest) -> tuple[int, int]:
    used, allotment = guest.get(TOLLGATE + "/usage").text.split("/")
    return int(used), int(allotment)


@pytest.fixture(scope="module", params=list(STEP))
def market(lab, request):
    made = Market(lab, request.param)
    with made.daemon:
        yield made
    lab.clean_router()
    made.dear.close()
    made.cheap.close()


@pytest.fixture(autouse=True)
def survives(market, request):
    yield
    if getattr(request.node, "failed", False):
        print(f"--- log\n{market.daemon.log()[-6000:]}")
    assert market.daemon.running
    market.daemon.must_be_sound()


# Whole purchases


def test_the_portal_site_sells_from_the_offer_to_the_end(market, stranger):
    site = PortalSite(stranger)
    offer = site.load()
    assert (site.metric, site.step_size, site.mac) == (market.metric, market.step, stranger.mac)
    best, worst = site.prices
    assert (best.mint, best.price, worst.mint, worst.price) == (market.cheap.url, CHEAP, market.dear.url, DEAR)
    assert best.unit == worst.unit == "sat"
    assert site.poll() is None, "nothing bought yet"
    assert site.shown(site.buy(offer, market.token(best.mint, 4))) == "success"
    assert site.poll()[1] == site.promised(4, best) == 4 * market.step
    market.consume(stranger, 1)
    before = site.poll()
    assert site.shown(site.buy(offer, market.token(worst.mint, 6))) == "success", "a top-up with another mint's money"
    after = site.poll()
    assert after[1] == 4 * market.step + site.promised(6, worst) and after[0] >= before[0] >= market.step
    page = site.balance_page()
    assert (
        page["session_active"]
        and page["metric"] == market.metric
        and page["usage"] + page["remaining"] == page["allotment"] == after[1]
    )
    market.consume(stranger, 7)
    wait_for(lambda: site.poll() is None, 15, "the site says that the session has ended")
    assert not site.balance_page()["session_active"]
    wait_for(lambda: not stranger.online(timeout=0.5), 5, "the way is closed")


def test_the_android_app_buys_tops_up_and_sees_the_end(market, stranger):
    app = AndroidApp(stranger)
    assert app.detect() == {
        "metric": market.metric,
        "step_size": market.step,
        "mints": [market.dear.url, market.cheap.url],
        "price": CHEAP,
        "unit": "sat",
    }
    assert (app.whoami(), app.usage(), app.balance()["session_active"]) == (stranger.mac, (-1, -1), False)
    assert app.pay("nonsense") == "Invalid token: not a Cashu token"
    assert app.pay(market.token(market.cheap.url, 3, old_form=True)) == str(3 * market.step)
    assert app.usage()[1] == 3 * market.step and app.balance()["allotment"] == 3 * market.step
    market.consume(stranger, 1)
    used = app.usage()[0]
    spent = market.token(market.dear.url, 6)
    assert app.pay(spent) == str(5 * market.step)
    assert app.usage()[0] >= used >= market.step
    assert app.balance()["remaining"] + app.balance()["usage"] <= 5 * market.step + 5000
    market.consume(stranger, 6)
    wait_for(lambda: app.usage() == (-1, -1), 15, "the app sees the end")
    assert not app.balance()["session_active"] and app.balance()["usage"] == 0
    assert app.pay(spent) == "Token has already been spent"


def test_another_router_buys_renews_in_time_and_stops_when_its_money_is_gone(market, stranger):
    """Two purchases of 4 steps each: it renews when 2 are left, so that the second adds to what is left of the
    first.
    """
    router = Reseller(
        stranger,
        {market.cheap.url: 8, "https://mint.of.its.own": 100},
        market.token,
        preferred=4 * market.step,
        offset=2 * market.step,
    )
    router.discover()
    assert router.choose()[0].mint == market.cheap.url, "the other mint's price is first, but it has none of its money"
    assert router.tick() == "bought" and router.tick() == "watching"
    assert router.usage()[1] == 4 * market.step
    used = 0
    for quarter in range(1, 13):
        market.consume(stranger, 0.25) if market.metric == "bytes" else market.consume(stranger, quarter / 4)
        wait_for(lambda: market.metric != "bytes" or usage(stranger)[0] >= quarter * MB // 4, 5, every=0.1)
        did = router.tick()
        now = router.usage()
        assert now[0] >= used, "a renewal keeps what was used"
        used = now[0]
        if did == "renewed":
            break
    assert did == "renewed" and 2 * market.step <= used < 4 * market.step and router.usage()[1] == 8 * market.step
    assert stranger.online()
    market.consume(stranger, 9)
    wait_for(lambda: router.tick() == "expired", 15, "it sees the end", every=0.2)
    assert router.funds[market.cheap.url] == 0 and router.log.count("bought") == router.log.count("renewed") == 1


def test_another_router_goes_on_with_the_session_it_finds(market, stranger):
    Reseller(stranger).pay(market.token(market.cheap.url, 5))
    market.daemon.restart()
    router = Reseller(stranger, {market.cheap.url: 8}, market.token, preferred=market.step, offset=0)
    router.discover()
    assert router.tick() == "watching" and router.allotment == 5 * market.step


def test_a_refused_token_can_be_taken_back_by_the_router_that_sent_it(market, lab, stranger):
    """It takes a token back after every answer but 200, and must get it."""
    proofs = Wallet(lab.internet, market.cheap.url).buy(market.cheap, 1001)
    with pytest.raises(AssertionError, match="session-error"):
        Reseller(stranger).pay(token_v4(market.cheap.url, proofs))
    assert Wallet(lab.internet, market.cheap.url).receive(proofs) == 1001


def test_the_lightning_tab_of_the_site_gets_its_guest_online(market, stranger):
    site = PortalSite(stranger)
    site.load()
    invoice = site.fetch("POST", "/ln-invoice", {"amount": 7, "mint_url": site.prices[0].mint}).json()
    assert invoice["status"] == 1 and invoice["invoice"].startswith("ln") and invoice["amount"] == 7

    def granted():
        status = site.fetch("GET", f"/ln-invoice?quote={invoice['quote']}").json()
        assert status["status"] == 1 and status["state"] in ("UNPAID", "PAID", "ISSUED")
        return status["access_granted"]

    assert not granted()
    market.cheap.pay(invoice["invoice"])
    wait_for(granted, 10)
    assert site.poll()[1] == 7 * market.step


def test_the_portal_with_the_mint_proxy_buys_tokens_and_pays_with_them(market, stranger):
    """Its quirks: no subprotocol, an identical request right after the tokens, then the tokens as kind 21000."""
    site = PortalSite(stranger)
    offer = site.load()
    with MintProxy(stranger, f"ws://{ROUTER4}:2122/mint-proxy", origin=PORTAL_ORIGIN) as proxy:
        ready = proxy.request(market.cheap.url, 8)
        market.cheap.pay(ready["invoice"])
        tokens = proxy.wait("tokens_ready")["tokens"]
        proxy.send({"type": "mint_request", "mint_url": market.cheap.url, "amount": 8})
        assert site.shown(site.buy(offer, tokens)) == "success"
    assert site.poll()[1] == 8 * market.step

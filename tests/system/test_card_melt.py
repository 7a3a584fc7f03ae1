"""Cards that the router's own ecash pays for, which is what it does when nothing else is configured. After each test
the sum comes out: what was put into the wallet = what it holds + what the mint paid out + the mint's fees, and no
invoice was paid twice."""

import contextlib
import json
import time

import pytest

from lab.books import Books, rows
from lab.card_shop import CardShop, callback_path
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.invoices import Made, make
from lab.place import wait_for
from lab.wallet import Wallet, encode_token

OK = {"status": "OK"}
FAILED = {"status": "ERROR", "reason": "the payment failed"}
STOCK = 1_000_000


class EcashCards(CardShop):
    """No section says what pays. The wallet holds `STOCK` sat of `mint`; `other` is a second one, with nothing at
    first.
    """

    def __init__(self, lab) -> None:
        super().__init__(lab, name="cards-ecash")
        del self.daemon.sections["lightning"]
        self.mint, self.other = FaultMint(lab.internet, MINT4, fee_ppk=100), FaultMint(lab.internet, MINT4)
        self.daemon.mints = [Mint(self.mint.url), Mint(self.other.url)]
        self.daemon.write_config()
        self.put_in = 0

    def __enter__(self) -> "EcashCards":
        super().__enter__()
        self.fill(self.mint, STOCK)
        return self

    def __exit__(self, *_) -> None:
        super().__exit__()
        self.mint.close()
        self.other.close()

    def fill(self, mint, sats: int) -> None:
        token = encode_token(mint.url, Wallet(self.lab.internet, mint.url).buy(mint, sats))
        answer = self.daemon.control({"command": "wallet", "args": ["receive", token]}, 30)
        assert answer["ok"], answer
        self.put_in += sats

    def invoice(self, sats: int = 600, **how) -> Made:
        made = make(sats, **how)
        for mint in (self.mint, self.other):
            mint.know(made.payment_hash, made.preimage)
        return made

    def held(self) -> int:
        """All proofs in the store that the mints call good; none of them is spent."""
        books = Books(self.daemon)
        tokens = [(mint, books.takings(mint.url)) for mint in (self.mint, self.other)]
        for mint, token in tokens:
            assert mint.value_of(token.proofs) == token.amount
        return sum(token.amount for _, token in tokens)

    def times_paid(self, invoice: Made) -> int:
        return self.mint.melted.get(invoice.payment_hash, 0) + self.other.melted.get(invoice.payment_hash, 0)

    def spent(self, card) -> int:
        return self.show(card)["spent_today_msat"] // 1000

    def settled(self) -> bool:
        return not rows(self.daemon, "SELECT id FROM wallet_ops WHERE state IN ('open', 'cancelling')")

    def check(self) -> None:
        wait_for(self.settled, 90, "the wallet has nothing open", every=0.2)
        paid_out = self.mint.paid_out + self.other.paid_out
        assert self.held() + paid_out + self.mint.fees + self.other.fees == self.put_in
        assert all(times == 1 for mint in (self.mint, self.other) for times in mint.melted.values())

    def ends(self, card, invoice: Made, state: str, limit: float = 40) -> None:
        self.wait_for_states(card, state, limit=limit)
        assert self.times_paid(invoice) == (state == "paid")
        assert self.spent(card) == (600 if state == "paid" else 0)

    def test(self, *words: str):
        return self.daemon.command("lightning", "test", *words, check=False)


@pytest.fixture(scope="module")
def open_shop(lab):
    with EcashCards(lab) as opened:
        yield opened


@pytest.fixture
def shop(open_shop, request):
    shop, log_before = open_shop, len(open_shop.daemon.log())
    for mint in (shop.mint, shop.other):
        mint.behave()
        mint.moments.clear()
        mint.open()
        mint.melts = "paid"
    yield shop
    log = shop.daemon.log()[log_before:]
    if getattr(request.node, "failed", False):
        print(log[-6000:])
    assert shop.daemon.running
    shop.daemon.must_be_sound()
    shop.check()


def card_of(shop):
    return shop.card(tx_max=1000, day_max=1000)


def test_payment_is_made_once_its_change_comes_back_and_the_preimage_is_kept(shop):
    card, invoice, before = card_of(shop), shop.invoice(), shop.held()
    path = callback_path(shop.k1(card), invoice.request)
    assert shop.ask(path) == OK and shop.ask(path) == OK
    (line,) = shop.history(card)
    cost = before - shop.held()
    assert (line["state"], line["fee_msat"]) == ("paid", (cost - 600) * 1000) and 600 < cost <= 610
    (row,) = rows(shop.daemon, "SELECT preimage FROM card_taps ORDER BY id DESC LIMIT 1")
    assert row["preimage"].hex() == invoice.preimage
    assert shop.times_paid(invoice) == 1


def test_millisatoshis_are_rounded_up_and_are_part_of_the_fee(shop):
    card, invoice, before = card_of(shop), shop.invoice(msat=599_001), shop.held()
    assert shop.spend(card, invoice) == OK
    (line,) = shop.history(card)
    assert line["fee_msat"] == (before - shop.held()) * 1000 - 599_001


@pytest.mark.parametrize(
    "fault",
    [
        "drop_before",
        "drop_after_commit",
        "garbage",
        "html",
        "oversized",
        "wrong_preimage",
        "no_preimage",
        "no_change",
        "short_signatures",
        "bad_dleq",
        "extra_signatures",
    ],
)
def test_answer_that_is_lost_or_wrong_changes_nothing(shop, fault):
    card, invoice = card_of(shop), shop.invoice()
    shop.mint.misbehave(
        fault,
        times=1,
        on="melt" if fault in ("drop_before", "drop_after_commit", "garbage", "html", "oversized") else None,
    )
    assert shop.spend(card, invoice) == OK
    shop.ends(card, invoice, "paid")


@pytest.mark.parametrize("lie", ["token_spent", "token_pending", "keyset_inactive", "outputs_signed"])
def test_refusal_of_the_payment_is_proven_before_the_money_is_free(shop, lie):
    card, invoice = card_of(shop), shop.invoice()
    shop.mint.misbehave(lie, times=1, on="melt")
    assert shop.spend(card, invoice) == FAILED
    shop.ends(card, invoice, "failed")


def test_failed_payment_gives_the_ecash_back(shop):
    card, invoice, before = card_of(shop), shop.invoice(), shop.held()
    shop.mint.melts = "failed"
    assert shop.spend(card, invoice) == FAILED
    shop.ends(card, invoice, "failed")
    assert shop.held() == before


@pytest.mark.parametrize(
    "fault, why", [("wrong_melt_amount", "amount"), ("dear_melt", "fee of 1000 sat"), ("down", "503"), ("garbage", "")]
)
def test_quote_that_is_not_as_it_should_be_is_not_paid(shop, fault, why):
    card, invoice, before = card_of(shop), shop.invoice(), shop.held()
    shop.mint.misbehave(fault, times=1, on="melt_quote" if fault in ("down", "garbage") else None)
    assert shop.spend(card, invoice) == FAILED
    shop.ends(card, invoice, "failed")
    (line,) = shop.history(card)
    assert why in line["note"] and shop.held() == before


def test_pending_payment_counts_until_the_mint_knows_its_end(shop):
    shop.mint.melts = "pending"
    paid, failed = [(card_of(shop), shop.invoice()) for _ in range(2)]
    tills = [shop.begin(*paid), shop.begin(*failed)]
    assert [till.answer() for till in tills] == [OK, OK] and max(till.seconds for till in tills) < 20
    for card, _ in (paid, failed):
        assert shop.states(card) == ["pending"] and shop.spent(card) == 600
        assert shop.spend(card, shop.invoice(401))["status"] == "ERROR"
    shop.mint.melts = "failed"
    shop.mint.end_melt(paid[1].payment_hash)
    shop.mint.end_melt(failed[1].payment_hash, paid=False)
    for (card, invoice), state in ((paid, "paid"), (failed, "failed")):
        wait_for(lambda: shop.states(card)[-1] == state, 40, f"it is {state}")
        assert shop.times_paid(invoice) == (state == "paid")
    shop.mint.melts = "paid"


@pytest.mark.parametrize(
    "endpoint, moment, state",
    [
        ("melt_quote", "arrived", "failed"),
        ("melt_quote", "answered", "either"),
        ("melt", "arrived", "paid"),
        ("melt", "done", "paid"),
        ("melt", "answered", "paid"),
    ],
)
def test_kill_at_each_step_ends_as_the_mint_says(shop, endpoint, moment, state):
    """What did not get into the wallet's journal was never sent: its money is free at the next start."""
    card, invoice = card_of(shop), shop.invoice()
    killed = shop.mint.when(endpoint, moment, shop.daemon.kill)
    shop.begin(card, invoice)
    assert killed.wait(60)
    shop.daemon.start()
    if state == "either":
        wait_for(lambda: shop.states(card) in (["paid"], ["failed"]), 40, "it has an end")
        (state,) = shop.states(card)
    shop.ends(card, invoice, state, limit=5 if state == "failed" else 40)


def test_kill_while_the_mint_pays_and_the_mint_away_at_the_start(shop):
    card, invoice = card_of(shop), shop.invoice()
    shop.mint.melts = "pending"
    shop.begin(card, invoice)
    wait_for(
        lambda: any(quote.state == "PENDING" for quote in list(shop.mint.melt_quotes.values())), 10, "the mint pays"
    )
    shop.daemon.kill()
    shop.mint.close()
    shop.daemon.start()
    time.sleep(2)
    assert shop.states(card) == ["pending"] and shop.spent(card) == 600
    shop.mint.open()
    shop.mint.end_melt(invoice.payment_hash)
    shop.ends(card, invoice, "paid")


def test_mint_that_holds_enough_pays_whichever_it_is(shop):
    shop.fill(shop.other, 700)
    card, invoice = card_of(shop), shop.invoice()
    shop.mint.close()
    try:
        assert shop.spend(card, invoice) == OK
    finally:
        shop.mint.open()
    assert shop.other.melted == {invoice.payment_hash: 1}
    card, invoice = card_of(shop), shop.invoice()
    assert shop.spend(card, invoice) == OK, "the other has too little now"
    assert shop.mint.melted[invoice.payment_hash] == 1


def test_more_than_any_mint_holds_is_proven_failed(shop):
    card = shop.card(tx_max=2 * STOCK, day_max=2 * STOCK)
    assert shop.spend(card, shop.invoice(STOCK + 1)) == FAILED
    (line,) = shop.history(card)
    assert line["note"] == f"no mint holds {STOCK + 1} sat of ours" and shop.spent(card) == 0


# tollgated lightning test


def test_command_tells_what_each_mint_holds_and_whether_it_pays(shop):
    done = shop.test()
    lines = done.out.splitlines()
    assert done.code == 0 and lines[:4] == ["melt", "  answers: yes", "  may pay: yes", "  may look up: yes"]
    assert any(shop.mint.url in line and "it pays invoices" in line for line in lines[4:])
    answer = json.loads(shop.test("--json").out)
    told = answer["data"]
    assert (answer["ok"], told["type"], told["url"], told["tested"]["may_pay"]) == (
        True,
        "melt",
        None,
        {"ok": True, "cause": None},
    )


def test_command_says_when_no_mint_answers_and_when_the_daemon_does_not(shop):
    shop.mint.close()
    shop.other.close()
    done = shop.test()
    assert done.code == 1 and "answers: NO: no mint that holds our ecash answers" in done.out
    shop.daemon.stop()
    done = shop.test()
    assert done.code == 1 and "NO: the daemon, which has the wallet, does not answer" in done.out
    answer = json.loads(shop.test("--json").out)
    assert (answer["ok"], answer["code"]) == (False, "node_not_ready")
    assert answer["data"]["tested"]["answers"]["ok"] is False
    for mint in (shop.mint, shop.other):
        mint.open()
    shop.daemon.start()


def test_command_says_that_the_wallet_is_empty(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url)
    done = daemon.command("lightning", "test", check=False)
    assert done.code == 1 and "may pay: NO: the wallet holds nothing to pay with" in done.out


# Last, as it leaves money at a third mint


def test_real_mint_pays_pends_and_gives_change(shop, mint):
    """The other two are away; this one's payments stand still until it is told what became of them."""
    shop.daemon.mints = [Mint(one) for one in (shop.mint.url, shop.other.url, mint.url)]
    shop.daemon.write_config()
    shop.daemon.command("reload")
    token = encode_token(mint.url, Wallet(shop.lab.internet, mint.url).buy(mint, 2048))
    assert shop.daemon.control({"command": "wallet", "args": ["receive", token]}, 30)["ok"]
    shop.mint.close()
    shop.other.close()
    card, invoice = card_of(shop), make(600)
    mint.know(invoice.payment_hash, invoice.preimage)
    assert shop.spend(card, invoice) == OK
    shop.wait_for_states(card, "paid", limit=40)
    (line,) = shop.history(card)
    left = Books(shop.daemon).takings(mint.url)
    # The reserve is a hundredth, what the payee's way costs is one sat.
    assert (line["state"], line["fee_msat"], left.amount) == ("paid", 1000, 2048 - 601)
    assert set(Wallet(shop.lab.internet, mint.url).states(left.proofs)) == {"UNSPENT"}
    mint.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
    card, invoice = card_of(shop), make(600)
    till = shop.begin(card, invoice)
    wait_for(lambda: mint.asked_to_pay(invoice.payment_hash) == 1, 10, "the mint pays")
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.states(card) == ["pending"] and shop.spent(card) == 600
    mint.set(fakewallet_payment_state="SETTLED")
    shop.wait_for_states(card, "paid", limit=40)
    assert mint.asked_to_pay(invoice.payment_hash) == 1
    wait_for(
        lambda: Books(shop.daemon).takings(mint.url).amount == 2048 - 2 * 601, 10, "its change is back", every=0.2
    )
    with contextlib.suppress(OSError):
        assert till.answer() == OK, "if it has waited long enough to have one"

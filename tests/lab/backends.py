"""Every Lightning backend behind one face, so that one battery of tests runs over all of them: lnd, LNbits and a mint
that melts for real (with a proxy in between that spoils answers), stand-ins for the others and for what the real ones
do not do on command.

	with Backend("lnbits", dir, ...) as backend:
	    invoice = backend.invoice(21)
	    backend.next(pay="pending")
	    backend.payer.pay(invoice.request)
"""

import os
from dataclasses import dataclass

from .fault_proxy import FaultProxy
from .invoices import Made, make
from .lnbits import Lnbits
from .lnd import LightningPair
from .nutshell import Nutshell
from .payer import EcashPayer, Payer
from .peers.cln import Cln
from .peers.lnd_rest import LndRest
from .peers.node import Node
from .peers.phoenixd import Phoenixd
from .peers.sphinx import Sphinx
from .place import HOST
from .wallet import Wallet, encode_token

LOOPBACK = "127.0.0.1"
FAULTS = {
    "cut": {"cut_answer": True},
    "truncate": {"truncate": 20},
    "oversized": {"oversized": 3_000_000},
    "hang": {"hang": 60},
    "garbage": {"status": 201, "body": b"\x00\xff" * 300},
    "redirect": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "gateway": {"status": 502, "body": "<html>Bad Gateway</html>", "content_type": "text/html"},
}


@dataclass
class Ways:
    """What a backend can do."""

    shows_preimage: bool = True
    keeps_the_money: bool = False
    """Another's word, without a preimage, is enough."""
    finds_by_hash: bool = True
    fee_msat: int | None = 0
    has_secret: bool = True
    unmade: str = "absent"
    """What a look says of a payment that nobody made."""
    believes_wrong_preimages: bool = False
    goes_on_by_itself: bool = False
    """The outcome is found out without a look, in its own time."""


class StandIn:
    """A node of ours, and the daemon's view of it."""

    def __init__(self, type: str, node: Node, secret: tuple[str, str | bytes], dir: str, ways: Ways) -> None:
        self.type, self.node, self.secret, self.dir, self.ways = type, node, secret, dir, ways
        self.payer = Payer(os.path.join(dir, "payer"), type=type, url=node.url, secret=secret, fee_limit_msat=5000)

    def invoice(self, sats: int = 21) -> Made:
        made = make(sats)
        self.node.know(made.request, made.payment_hash, made.preimage, sats * 1000)
        return made

    def next(self, pay: str = "paid", fault: str | None = None) -> None:
        """What comes of the next payment, and what happens to the answer."""
        self.node.next(pay, fault)

    def spoil_look(self, fault: str) -> None:
        """What happens to the answer to the next look, and to nothing else."""
        self.node.fault, self.node.faulty = fault, "lookup"

    def settle(self, invoice: Made) -> None:
        self.node.settle(invoice.payment_hash)

    def fail(self, invoice: Made) -> None:
        self.node.fail(invoice.payment_hash)

    def times_paid(self, invoice: Made) -> int:
        return self.node.times_paid(invoice.payment_hash)

    def stranger(self) -> Payer:
        """With credentials that are not accepted."""
        wrong = "0201036c6e640203ffffff" if self.type == "lnd" else "not-the-secret"
        return Payer(
            os.path.join(self.dir, "stranger"), type=self.type, url=self.node.url, secret=(self.secret[0], wrong)
        )

    def away(self) -> Payer:
        """Where nobody listens."""
        return Payer(os.path.join(self.dir, "away"), type=self.type, url=f"http://{LOOPBACK}:9", secret=self.secret)

    def close(self) -> None:
        self.node.close()
        assert not self.node.complaints, self.node.complaints


class RealLnbits:
    """LNbits itself behind a proxy that spoils its answers. Invoices are those of a node that it does not know."""

    ways = Ways(keeps_the_money=True, fee_msat=1000)
    type = "lnbits"

    def __init__(self, lnbits: Lnbits, dir: str) -> None:
        self.lnbits, self.dir = lnbits, dir
        self.wallet = lnbits.wallet(1_000_000)
        self.proxy = FaultProxy(HOST, LOOPBACK, upstream=lnbits.url)
        self.node = self.proxy
        self.payer = self._payer("payer", self.wallet.adminkey)

    def _payer(self, name: str, key: str, url: str | None = None) -> Payer:
        return Payer(os.path.join(self.dir, name), type="lnbits", url=url or self.proxy.url, secret=("key_file", key))

    def invoice(self, sats: int = 21) -> Made:
        made = make(sats)
        self.lnbits.know(made.payment_hash, made.preimage)
        self.known = made
        return made

    def next(self, pay: str = "paid", fault: str | None = None) -> None:
        self.lnbits.set(pay={"paid": "ok"}.get(pay, pay), status="pending", fee_msat=1000, delay=0, wait=5)
        if fault == "wrong-preimage":
            self.lnbits.know(self.known.payment_hash, "11" * 32)
        elif fault == "error":
            self.lnbits.set(pay="raise")
        elif fault:
            self.proxy.fault("^/api/v1/payments$", times=1, **FAULTS[fault])

    def spoil_look(self, fault: str) -> None:
        self.proxy.fault("^/api/v1/payments/.+", times=1, **FAULTS[fault])

    def settle(self, invoice: Made) -> None:
        self.lnbits.set(status="paid")

    def fail(self, invoice: Made) -> None:
        self.lnbits.set(status="failed")

    def times_paid(self, invoice: Made) -> int:
        rows = self.wallet.payments()
        return sum(
            1
            for row in rows
            if row["payment_hash"] == invoice.payment_hash and row["amount"] < 0 and row["status"] == "success"
        )

    def stranger(self) -> Payer:
        return self._payer("stranger", "0" * 32)

    def away(self) -> Payer:
        return self._payer("away", self.wallet.adminkey, f"http://{LOOPBACK}:9")

    def close(self) -> None:
        self.proxy.close()
        self.lnbits.set(pay="ok", status="pending", delay=0, wait=5)


class RealMelt:
    """The router's own ecash and a mint that pays with a fake wallet, behind a proxy that spoils the mint's
    answers.
    """

    ways = Ways(
        keeps_the_money=True,
        fee_msat=1000,
        has_secret=False,
        unmade="failed",
        believes_wrong_preimages=True,
        goes_on_by_itself=True,
    )
    type = "melt"

    def __init__(self, mint: Nutshell, dir: str, sats: int = 2000) -> None:
        self.mint, self.dir = mint, dir
        self.proxy = FaultProxy(HOST, LOOPBACK, upstream=mint.url)
        self.node = self.proxy
        self.payer = self._payer("payer", self.proxy.url, sats)
        self.known: Made | None = None

    def _payer(self, name: str, url: str, sats: int = 2000) -> EcashPayer:
        made = EcashPayer(os.path.join(self.dir, name), url, fee_limit_msat=5000)
        made.fill(encode_token(url, Wallet(HOST, self.mint.url).buy(self.mint, sats)))
        return made

    def invoice(self, sats: int = 21) -> Made:
        self.known = make(sats)
        self.mint.know(self.known.payment_hash, self.known.preimage)
        return self.known

    def next(self, pay: str = "paid", fault: str | None = None) -> None:
        state = {"paid": "SETTLED", "failed": "FAILED", "pending": "PENDING"}[pay]
        self.mint.set(
            fakewallet_pay_invoice_state=state,
            fakewallet_payment_state=state,
            fakewallet_delay_outgoing_payment=0,
            fakewallet_pay_invoice_state_exception=fault == "error",
            fakewallet_payment_state_exception=fault == "error",
        )
        if fault == "wrong-preimage":
            self.mint.know(self.known.payment_hash, "11" * 32)
        elif fault == "no-preimage":
            self.mint.know(self.known.payment_hash, "0" * 64)
        elif fault in FAULTS:
            self.proxy.fault("^/v1/melt/bolt11$", method="POST", times=1, **FAULTS[fault])

    def spoil_look(self, fault: str) -> None:
        self.proxy.fault("^/v1/melt/quote/bolt11/", method="GET", times=1, **FAULTS[fault])

    def settle(self, invoice: Made) -> None:
        self.mint.set(fakewallet_payment_state="SETTLED", fakewallet_payment_state_exception=False)

    def fail(self, invoice: Made) -> None:
        # What is found not to have been paid is tried again for a minute.
        self.mint.set(
            fakewallet_pay_invoice_state="FAILED",
            fakewallet_payment_state="FAILED",
            fakewallet_payment_state_exception=False,
        )

    def times_paid(self, invoice: Made) -> int:
        return (
            self.mint.asked_to_pay(invoice.payment_hash) if self.payer.lookup(invoice.request).outcome == "paid" else 0
        )

    def away(self) -> EcashPayer:
        proxy = FaultProxy(HOST, LOOPBACK, upstream=self.mint.url)
        made = self._payer("away", proxy.url)
        proxy.close()
        return made

    def close(self) -> None:
        self.payer.close()
        self.proxy.close()


class RealLnd:
    """Alice pays Bob, who holds what `next(pay="pending")` announces."""

    ways = Ways()
    type = "lnd"

    def __init__(self, pair: LightningPair, dir: str) -> None:
        self.pair, self.dir, self.state = pair, dir, "paid"
        permissions = [f"uri:/routerrpc.Router/{call}" for call in ("SendPaymentV2", "TrackPaymentV2")]
        self.macaroon = pair.alice.bake(*permissions)
        self.payer = self.payer_with(self.macaroon)

    def payer_with(self, macaroon: str | bytes, name: str = "payer", **options) -> Payer:
        options = {"url": self.pair.alice.url, "cert_sha256": self.pair.alice.cert_sha256, **options}
        return Payer(os.path.join(self.dir, name), type="lnd", secret=("macaroon_file", macaroon), **options)

    def stranger(self) -> Payer:
        return self.payer_with(self.pair.bob.bake("offchain:read", "offchain:write"), "stranger")

    def away(self) -> Payer:
        return self.payer_with(self.macaroon, "away", url=f"https://{LOOPBACK}:9")

    def close(self) -> None:
        pass


STAND_INS = {
    "cln": lambda dir: StandIn("cln", Cln(HOST, LOOPBACK), ("rune_file", Cln.rune), dir, Ways(fee_msat=7)),
    "phoenixd": lambda dir: StandIn(
        "phoenixd", Phoenixd(HOST, LOOPBACK), ("password_file", Phoenixd.password), dir, Ways(fee_msat=4000)
    ),
    "sphinx": lambda dir: StandIn(
        "sphinx", Sphinx(HOST, LOOPBACK), ("token_file", Sphinx.token), dir,
        Ways(shows_preimage=False, keeps_the_money=True, finds_by_hash=False, fee_msat=None),
    ),
    "lnd-stand-in": lambda dir: StandIn(
        "lnd", LndRest(HOST, LOOPBACK), ("macaroon_file", LndRest.macaroon), dir, Ways(fee_msat=3)
    ),
}

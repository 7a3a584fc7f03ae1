"""A shop that is open: the daemon on the lab's router, selling one minute for a sat of either of two test mints.

	with Shop(lab) as shop:
		ready = MintProxy(lab.guest).request(shop.mint.url, 5)
		shop.pay(ready["invoice"])
"""

from .daemon import Daemon, Mint
from .fault_mint import FaultMint
from .internet import MINT4

MIN_STEPS, MAX_STEPS, STEP = 2, 100, 60_000


class Shop:
    def __init__(self, lab) -> None:
        self.mint, self.other_mint = FaultMint(lab.internet, MINT4), FaultMint(lab.internet, MINT4)
        mints = [Mint(mint.url, price=1, min_steps=MIN_STEPS) for mint in (self.mint, self.other_mint)]
        self.daemon = Daemon(lab, mints, venue={"step_size": STEP, "max_steps": MAX_STEPS}, name="shop")
        self.lab = lab

    def __enter__(self) -> "Shop":
        self.daemon.start()
        return self

    def __exit__(self, *_) -> None:
        self.daemon.kill()
        self.lab.clean_router()
        self.mint.close()
        self.other_mint.close()

    def behave(self) -> None:
        for mint in (self.mint, self.other_mint):
            mint.behave()
            mint.open()

    def pay(self, invoice: str) -> None:
        """Pays the invoice at whichever mint made it."""
        mine = any(quote.request == invoice for quote in self.mint.quotes.values())
        (self.mint if mine else self.other_mint).pay(invoice)

    def invoices_asked(self) -> int:
        """How often either mint was asked for an invoice."""
        return sum(mint.counts.get("quote", 0) for mint in (self.mint, self.other_mint))

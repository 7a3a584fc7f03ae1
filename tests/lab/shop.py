"""A shop that is open: the daemon on the lab's router, selling one minute for a sat of any of its test mints.

	with Shop(lab) as shop:
		ready = MintProxy(lab.guest).request(shop.mint.url, 5)
		shop.pay(ready["invoice"])
"""

from .daemon import Daemon, Mint
from .fault_mint import FaultMint
from .internet import MINT4

MIN_STEPS, MAX_STEPS, STEP = 2, 100, 60_000
MINTS = 12
"""The daemon subscribes at most 15 times a minute at one mint; a test that came later would wait for its looks."""


class Shop:
    """`options` are more of the daemon's."""

    def __init__(self, lab, **options) -> None:
        self.mints = [FaultMint(lab.internet, MINT4) for _ in range(MINTS)]
        sections = [Mint(mint.url, price=1, min_steps=MIN_STEPS) for mint in self.mints]
        self.daemon = Daemon(lab, sections, venue={"step_size": STEP, "max_steps": MAX_STEPS}, name="shop", **options)
        self.lab = lab

    @property
    def mint(self) -> FaultMint:
        return self.mints[0]

    @property
    def other_mint(self) -> FaultMint:
        return self.mints[1]

    def next_customer(self) -> None:
        """Mints that were not asked lately, all of them well-behaved and there."""
        self.mints = self.mints[1:] + self.mints[:1]
        for mint in self.mints:
            mint.behave()
            mint.open()

    def __enter__(self) -> "Shop":
        self.daemon.start()
        return self

    def __exit__(self, *_) -> None:
        self.daemon.kill()
        self.lab.clean_router()
        for mint in self.mints:
            mint.close()

    def pay(self, invoice: str) -> None:
        """Pays the invoice at whichever mint made it."""
        next(mint for mint in self.mints if any(quote.request == invoice for quote in list(mint.quotes.values()))).pay(
            invoice
        )

    def invoices_asked(self) -> int:
        """How often any mint was asked for an invoice."""
        return sum(mint.counts.get("quote", 0) for mint in self.mints)

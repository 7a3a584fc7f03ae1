"""Somebody's ecash of one mint, and the books of all of it: what guests still hold + takings + the mint's fees =
minted.

	purse = Purse(lab, mint, daemon)
	purse.token(21)
	assert purse.check() == 21          # once it was received
"""

import threading

from .books import Books
from .daemon import Daemon
from .place import PATIENCE, wait_for
from .tollgate_client import TOLLGATE, tag_of
from .wallet import Wallet, encode_token

WITHIN = 150
"""Seconds in which what is open is settled once the mint is there: the pauses between questions have grown with the
time that it was away.
"""
PASSING = (
    "payment-outcome-unknown",
    "payment-duplicate-inflight",
    "payment-received-grant-pending",
    "service-unavailable",
    "mint-rate-limited",
)
"""Codes of notices after which the same token is posted again."""


class Purse:
    def __init__(self, lab, mint, daemon: Daemon, url: str | None = None) -> None:
        self.mint, self.daemon = mint, daemon
        self.wallet = Wallet(lab.internet, mint.url)
        self.url = url or mint.url
        """What the router knows the mint by."""
        self.minted = 0
        self.dying = threading.Lock()
        self.held: list[list[dict]] = []

    # The daemon's life

    def crash(self) -> None:
        with self.dying:
            self.daemon.kill()

    def revive(self) -> None:
        with self.dying:
            if not self.daemon.running:
                self.daemon.kill()
                self.daemon.start()

    # Ecash

    def proofs(self, amount: int) -> list[dict]:
        made = self.wallet.buy(self.mint, amount)
        self.minted += amount
        self.held.append(made)
        return made

    def token(self, amount: int, **form) -> str:
        return encode_token(self.url, self.proofs(amount), **form)

    def unspent(self, proofs: list[dict]) -> int:
        states = self.wallet.states(proofs) if proofs else []
        return sum(proof["amount"] for proof, state in zip(proofs, states) if state == "UNSPENT")

    def check(self, fees: int = 0) -> int:
        """The sum comes out to the sat, and every proof of the takings is money. Answers the takings."""
        return self.close(Books(self.daemon), fees)

    def close(self, books: Books, fees: int) -> int:
        takings = books.takings(self.url)
        assert self.unspent(takings.proofs) == takings.amount
        left = self.unspent([proof for proofs in self.held for proof in proofs])
        assert left + takings.amount + fees == self.minted, (left, takings.amount, fees, self.minted)
        assert len({proof["secret"] for proof in takings.proofs}) == len(takings.proofs)
        return takings.amount


class Customers(Purse):
    """Guests who buy access with that ecash, as their pages do: `POST /`, and again while the answer says so."""

    def __init__(self, lab, mint, daemon: Daemon, step: int, url: str | None = None) -> None:
        super().__init__(lab, mint, daemon, url)
        self.lab, self.step = lab, step

    def post(self, guest, token: str, timeout: float = PATIENCE):
        return guest.post(TOLLGATE + "/", token.encode(), headers={"Content-Type": "text/plain"}, timeout=timeout)

    def buy(self, guest, token: str, limit: float = WITHIN, every: float = 1.5) -> int:
        """Posts the token until it is access; answers the session's steps. A guest may post 40 times a minute."""

        def bought():
            answer = self.post(guest, token)
            if answer.status == 200:
                return int(tag_of(answer.json(), "allotment")) // self.step
            assert answer.status == 429 or (answer.status == 503 and code_of(answer) in PASSING), answer.text
            return None

        return wait_for(bought, limit, "the token is access", every)

    def online(self, guest, steps: int, limit: float = WITHIN) -> None:
        """Waits until the store has a session of this guest over so much, and the kernel lets the guest pass."""

        def is_in():
            sessions = [row for row in Books(self.daemon).tables["sessions"] if row["mac"] == guest.mac]
            return [row["allotment"] for row in sessions] == [
                steps * self.step
            ] and guest.mac in self.daemon.paid_macs()

        wait_for(is_in, limit, f"{steps} steps for {guest.mac}", every=0.1)

    def close(self, books: Books, fees: int) -> int:
        """As ever; and what was taken was granted, once: no token without its access, no access without its token."""
        takings = super().close(books, fees)
        assert not [op for op in books.tables["wallet_ops"] if op["state"] == "open"]
        granted, taken = (
            sum(grant["amount"] for grant in books.grants),
            sum(token.amount for token in books.tokens("house")),
        )
        assert granted == taken, (granted, taken)
        assert all(grant["allotment"] == grant["amount"] * self.step for grant in books.grants)
        for row in books.tables["sessions"]:
            of_account = [grant["allotment"] for grant in books.grants if grant["account"] == row["account"]]
            assert row["allotment"] == sum(of_account), (row["allotment"], of_account)
        return takings


def code_of(answer) -> str:
    """The code of a notice."""
    return tag_of(answer.json(), "code")

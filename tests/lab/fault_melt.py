"""The part of the test mint that pays invoices from ecash (NUT-05, NUT-08), and says what is not so.

	mint.melts = "pending"              # what comes of the next payments: paid, failed, pending
	mint.end_melt(payment_hash)         # what was pending is paid (`paid=False`: is not)
	mint.melted[payment_hash]           # how often it was paid

Misbehaviour besides that on the way (endpoints: melt_quote, melt_state, melt):
	wrong_melt_amount, dear_melt (a fee reserve of 1000 sat)  in the quote
	wrong_preimage, no_preimage, no_change                    in the answer to a payment that was made
"""

import time
import uuid
from dataclasses import dataclass, field

import bolt11

from . import curve

FEE_RESERVE, FEE = 2, 1


@dataclass
class MeltQuote:
    id: str
    request: str
    payment_hash: str
    amount: int
    fee_reserve: int
    state: str = "UNPAID"
    inputs: list[dict] = field(default_factory=list)
    outputs: list[dict] = field(default_factory=list)
    change: list[dict] = field(default_factory=list)


class Melting:
    def __init__(self) -> None:
        self.melts = "paid"
        self.melt_quotes: dict[str, MeltQuote] = {}
        self.pending: set[str] = set()
        """Y of the proofs of payments under way."""
        self.melted: dict[str, int] = {}
        self.preimages: dict[str, str] = {}
        self.paid_out = 0
        """Sats that went out over Lightning, its fees included."""

    def know(self, payment_hash: str, preimage: str) -> None:
        """What the payee of an invoice shows."""
        self.preimages[payment_hash] = preimage

    def end_melt(self, payment_hash: str, paid: bool = True) -> None:
        quote = next(
            quote
            for quote in list(self.melt_quotes.values())
            if (quote.payment_hash, quote.state) == (payment_hash, "PENDING")
        )
        with self.lock:
            self.pending -= {y_of(proof) for proof in quote.inputs}
            if paid:
                self._pay_out(quote)
            else:
                quote.state = "UNPAID"

    def _make_melt_quote(self, _, body) -> dict:
        invoice = bolt11.decode(body["request"])
        amount = -(-invoice.amount_msat // 1000)
        fee_reserve = 1000 if self._faulty("dear_melt") else FEE_RESERVE
        quote = MeltQuote(str(uuid.uuid4()), body["request"], invoice.payment_hash, amount, fee_reserve)
        self.melt_quotes[quote.id] = quote
        shown = self._shown(quote)
        if self._faulty("wrong_melt_amount"):
            shown["amount"] += 1
        return shown

    def _melt_state(self, parts, _) -> dict:
        return self._shown(self._melt_quote(parts[3]))

    def _melt(self, _, body) -> dict:
        quote, inputs, outputs = self._melt_quote(body["quote"]), body["inputs"], body.get("outputs") or []
        if quote.state == "PENDING":
            raise self.refusal(20005, "quote is pending")
        if quote.state == "PAID":
            raise self.refusal(20006, "invoice already paid")
        ys = {y_of(proof) for proof in inputs}
        if len(ys) != len(inputs):
            raise self.refusal(11007, "duplicate inputs")
        if ys & self.pending:
            raise self.refusal(11002, "proofs are pending")
        value = self.value_of(inputs)
        if value - self.fee_of(inputs) < quote.amount + quote.fee_reserve:
            raise self.refusal(11005, "not enough inputs")
        if any(output["B_"] in self.signed for output in outputs):
            raise self.refusal(11003, "outputs already signed")
        if self.melts == "failed":
            raise self.refusal(20004, "Lightning payment failed")
        quote.inputs, quote.outputs = inputs, outputs
        if self.melts == "pending":
            quote.state = "PENDING"
            self.pending |= ys
        else:
            self._pay_out(quote)
        return self._shown(quote)

    def _pay_out(self, quote: MeltQuote) -> None:
        input_fee = self.fee_of(quote.inputs)
        over = self.value_of(quote.inputs) - input_fee - quote.amount - FEE
        powers = [1 << power for power in range(over.bit_length()) if over >> power & 1][: len(quote.outputs)]
        quote.change = self._sign([output | {"amount": amount} for output, amount in zip(quote.outputs, powers)])
        self.spent.update(y_of(proof) for proof in quote.inputs)
        self.fees += input_fee + over - sum(powers)
        self.paid_out += quote.amount + FEE
        self.melted[quote.payment_hash] = self.melted.get(quote.payment_hash, 0) + 1
        quote.state = "PAID"

    def _shown(self, quote: MeltQuote) -> dict:
        paid = quote.state == "PAID"
        preimage = self.preimages.get(quote.payment_hash) if paid else None
        if paid and self._faulty("wrong_preimage"):
            preimage = "11" * 32
        if paid and self._faulty("no_preimage"):
            preimage = None
        change = self._spoiled(quote.change) if quote.change and not self._faulty("no_change") else None
        return {
            "quote": quote.id,
            "amount": quote.amount,
            "unit": "sat",
            "request": quote.request,
            "fee_reserve": quote.fee_reserve,
            "state": quote.state,
            "expiry": int(time.time()) + 3600,
            "payment_preimage": preimage,
            "change": change if paid else None,
        }

    def _melt_quote(self, id: str) -> MeltQuote:
        if id not in self.melt_quotes:
            raise self.refusal(0, "quote not found")
        return self.melt_quotes[id]


def y_of(proof: dict) -> str:
    return curve.hex_of(curve.hash_to_curve(proof["secret"].encode()))

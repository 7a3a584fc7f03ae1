"""A stand-in for phoenixd 0.8: `payinvoice`, `payments/outgoingbyhash` and `getinfo`, as its sources describe them.
Not the real thing.
"""

import base64
from urllib.parse import parse_qsl

from ..http_server import Request
from .node import Node


class Phoenixd(Node):
    password, limited = "f" * 64, "e" * 64

    def __init__(self, *where, **how) -> None:
        self.finds_by_hash = True
        """Older versions cannot."""
        self.reason = "the recipient was unreachable"
        super().__init__(*where, **how)

    def handle(self, request: Request) -> None:
        login = {
            f"Basic {base64.b64encode(f':{word}'.encode()).decode()}": word for word in (self.password, self.limited)
        }
        word = login.get(request.headers.get("authorization", ""))
        if word is None:
            return request.answer(
                401, "Invalid authentication (use basic auth with the http password set in phoenix.conf)", "text/plain"
            )
        if request.method == "GET" and request.path == "/getinfo":
            return request.answer(200, {"nodeId": "02" * 33, "channels": [], "chain": "regtest", "version": "0.8.0"})
        if request.method == "POST" and request.path == "/payinvoice":
            if word == self.limited:
                return request.answer(401, "Invalid authentication", "text/plain")
            return self.on_pay(request)
        if request.method == "GET" and request.path.startswith("/payments/outgoingbyhash/"):
            return self.on_look(request, request.path.rpartition("/")[2])
        return self.complain(request, "no such path")

    def on_pay(self, request: Request) -> None:
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return self.complain(request, "not a form")
        form = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=bool(request.body))
        if not form:
            return request.answer(400, "Request parameter invoice is missing", "text/plain")
        if [name for name, _ in form] != ["invoice"]:
            return self.complain(request, f"fields {form}")
        invoice = form[0][1]
        if invoice not in self.known:
            return request.answer(
                400, "Request parameter invoice couldn't be parsed/converted to bolt11invoice", "text/plain"
            )
        payment_hash = self.known[invoice][0]
        old = self.ledger.get(payment_hash)
        payment = self.pay(invoice)
        if payment is None:
            words = (
                "this invoice has already been paid"
                if old.state == "paid"
                else "another payment is in progress for that invoice, already"
            )
            return self.reply(request, "pay", 200, {"paymentHash": payment_hash, "reason": words})
        if payment.state == "failed":
            return self.reply(
                request,
                "pay",
                200,
                {"paymentHash": payment_hash, "reason": self.reason},
                spoil={"hash": "paymentHash"},
            )
        if payment.state == "pending":
            return self.reply(request, "pay", 500, b"the wallet was stopped")
        answer = {
            "recipientAmountSat": self.msat(payment) // 1000,
            "routingFeeSat": 4,
            "paymentId": "a7a4d9a2-5f1c-4a0c-a5b1-8d9c25b0f0a0",
            "paymentHash": payment_hash,
            "paymentPreimage": self.preimage(payment),
        }
        return self.reply(request, "pay", 200, answer, spoil={"preimage": "paymentPreimage", "hash": "paymentHash"})

    def on_look(self, request: Request, payment_hash: str) -> None:
        if not self.finds_by_hash:
            return request.answer(404, "Unknown endpoint (check api doc)", "text/plain")
        if len(payment_hash) != 64:
            return request.answer(
                400, "Request parameter paymentHash couldn't be parsed/converted to hex32", "text/plain"
            )
        payment = self.ledger.get(payment_hash)
        if payment is None:
            return request.answer(404, "Unknown endpoint (check api doc)", "text/plain")
        # Absent where there is none: its JSON has no nulls.
        done = {} if payment.state == "pending" else {"completedAt": 1_700_000_001_000}
        proof = {"preimage": self.preimage(payment)} if payment.state == "paid" else {}
        answer = {
            "type": "outgoing_payment",
            "paymentId": "a7a4d9a2-5f1c-4a0c-a5b1-8d9c25b0f0a0",
            "paymentHash": payment_hash,
            "isPaid": payment.state == "paid",
            "sent": self.msat(payment) // 1000 + 4,
            "fees": 4000,
            "invoice": payment.invoice,
            "createdAt": 1_700_000_000_000,
            **done,
            **proof,
        }
        return self.reply(request, "lookup", 200, answer, spoil={"preimage": "preimage", "hash": "paymentHash"})

    def broken(self, request: Request) -> None:
        request.answer(500, "the channel is closing", "text/plain")

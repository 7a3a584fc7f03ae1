"""A stand-in for clnrest: `pay` and `listpays`, as the documentation of Core Lightning 25 and 26 describes them. Not
the real thing.
"""

import json

from ..http_server import Request
from .node import Node, exactly


class Cln(Node):
    rune = "zm0x_rune-of-the-lab=="

    def __init__(self, *where, **how) -> None:
        self.may = {"pay", "listpays"}
        self.error_code = 205
        """Of a payment that failed."""
        self.wrapped = False
        """Older versions put errors in a box, and write amounts as text."""
        super().__init__(*where, **how)

    def handle(self, request: Request) -> None:
        method = request.path.removeprefix("/v1/")
        if request.method != "POST" or not request.path.startswith("/v1/"):
            return self.complain(request, "no such path")
        if "rune" not in request.headers:
            return self.error(request, 403, 1501, "Not authorized: Missing rune")
        if request.headers["rune"] != self.rune:
            return self.error(request, 401, 1502, "Not authorized: Not derived from master")
        if method not in self.may:
            return self.error(request, 401, 1502, f"Not authorized: method is not equal to {method}")
        return {"pay": self.on_pay, "listpays": self.on_listpays}[method](request)

    def on_pay(self, request: Request) -> None:
        body = json.loads(request.body)
        if body == {"bolt11": "nothing"}:
            return self.error(request, 500, -32602, "Invalid bolt11: Bad bech32 string")
        wrong = exactly(
            request,
            {
                "bolt11": lambda text: isinstance(text, str),
                "maxfee": lambda msat: type(msat) is int,
                "retry_for": lambda secs: type(secs) is int,
            },
        )
        if wrong:
            return self.complain(request, wrong)
        invoice = body["bolt11"]
        if invoice not in self.known:
            return self.error(request, 500, -32602, "Invalid bolt11")
        payment = self.pay(invoice) or self.ledger[self.known[invoice][0]]
        if payment.state == "failed":
            return self.error(request, 500, self.error_code, "Ran out of routes to try", "pay")
        if payment.state == "pending":
            return self.error(request, 500, 200, "Timed out, but a part is still pending", "pay")
        answer = {**self.row(payment, "payment_preimage"), "destination": "02" * 33, "parts": 1}
        return self.reply(request, "pay", 201, answer, spoil={"preimage": "payment_preimage", "hash": "payment_hash"})

    def on_listpays(self, request: Request) -> None:
        wrong = exactly(request, {"payment_hash": lambda text: len(bytes.fromhex(text)) == 32})
        if wrong:
            return self.complain(request, wrong)
        payment = self.ledger.get(json.loads(request.body)["payment_hash"])
        rows = [self.row(payment, "preimage")] if payment else []
        if payment and payment.times > 1:
            rows.insert(0, {**self.row(payment, "preimage"), "status": "failed"})
        return self.reply(
            request, "lookup", 201, {"pays": rows}, spoil={"preimage": "preimage", "hash": "payment_hash"}
        )

    def row(self, payment, preimage: str) -> dict:
        amount = self.msat(payment)
        shown = (lambda msat: f"{msat}msat") if self.wrapped else (lambda msat: msat)
        status = {"paid": "complete", "failed": "failed", "pending": "pending"}[payment.state]
        row = {
            "payment_hash": payment.payment_hash,
            "status": status,
            "created_at": 1,
            "amount_msat": shown(amount),
            "amount_sent_msat": shown(amount + 7),
        }
        return {**row, preimage: self.preimage(payment)} if payment.state == "paid" else row

    def error(self, request: Request, status: int, code: int, message: str, kind: str = "") -> None:
        body = {"code": code, "message": message, "data": None}
        self.reply(request, kind, status, {"error": body} if self.wrapped else body)

    def broken(self, request: Request) -> None:
        request.answer(500, {"code": -1, "message": "Plugin terminated before replying to RPC call.", "data": None})

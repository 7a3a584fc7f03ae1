"""A stand-in for lnd's REST interface, for what a real node does not do on command: cut lines, wrong preimages, states
that did not come up in the lab. Bodies are those of a real node (`test_lightning_lnd.py` tests that one)."""

import base64
import json
from urllib.parse import unquote

from ..http_server import Request
from .node import Node, exactly

ZEROS = "00" * 32


class LndRest(Node):
    macaroon = "0201036c6e640203010203"

    def __init__(self, *where, **how) -> None:
        self.state, self.reason = "SERVER_ACTIVE", "FAILURE_REASON_TIMEOUT"
        self.updates_first = False
        """States of a payment under way before the last, though they were not wanted."""
        self.last_words: tuple[int, int, str] | None = None
        """An error (status, code, message) instead of the state of the next payment, which goes on; after
        `updates_first`, its last line.
        """
        self.refusal: tuple[int, int, str] | None = None
        """An error instead of anything, payments and looks alike, until it is taken away."""
        super().__init__(*where, **how)

    def handle(self, request: Request) -> None:
        if (request.method, request.path) == ("GET", "/v1/state"):
            return request.answer(200, {"state": self.state})
        if request.headers.get("grpc-metadata-macaroon") != self.macaroon:
            return self.error(request, 500, 2, "verification failed: signature mismatch after caveat verification")
        if self.refusal:
            return self.error(request, *self.refusal)
        if (request.method, request.path) == ("POST", "/v2/router/send"):
            return self.on_send(request)
        if request.method == "GET" and request.path.startswith("/v2/router/track/"):
            return self.on_track(request, unquote(request.path.rpartition("/")[2]))
        return self.complain(request, "no such path")

    def on_send(self, request: Request) -> None:
        body = json.loads(request.body)
        if body.get("payment_request") == "nothing":
            return self.error(request, 500, 2, "invalid bech32 string length 7")
        wrong = exactly(
            request,
            {
                "payment_request": lambda text: isinstance(text, str),
                "fee_limit_msat": lambda msat: isinstance(msat, str) and msat.isdigit(),
                "timeout_seconds": lambda secs: type(secs) is int,
                "no_inflight_updates": lambda none: none is True,
            },
        )
        if wrong:
            return self.complain(request, wrong)
        invoice = body["payment_request"]
        payment = self.pay(invoice)
        if payment is None:
            done = self.ledger[self.known[invoice][0]].state == "paid"
            return self.error(request, 409, 6, "invoice is already paid" if done else "payment is in transition")
        if self.last_words:
            (status, code, message), self.last_words = self.last_words, None
            if self.updates_first:
                line = {"error": {"code": code, "message": message, "details": []}}
                update = {"result": self.payment(payment, "IN_FLIGHT", "pay")}
                return self.reply(
                    request, "pay", 200, b"".join(json.dumps(one).encode() + b"\n" for one in (update, line))
                )
            return self.error(request, status, code, message)
        return self.reply(request, "pay", 200, self.lines(payment, "pay"))

    def on_track(self, request: Request, text: str) -> None:
        payment = self.ledger.get(base64.urlsafe_b64decode(text).hex())
        if payment is None:
            return self.error(request, 404, 5, "payment isn't initiated", "lookup")
        return self.reply(request, "lookup", 200, self.lines(payment, "lookup"))

    def lines(self, payment, kind: str) -> bytes:
        status = {"paid": "SUCCEEDED", "failed": "FAILED", "pending": "IN_FLIGHT"}[payment.state]
        states = ["IN_FLIGHT", status] if self.updates_first and status != "IN_FLIGHT" else [status]
        return b"".join(json.dumps({"result": self.payment(payment, one, kind)}).encode() + b"\n" for one in states)

    def payment(self, payment, status: str, kind: str) -> dict:
        paid = status == "SUCCEEDED"
        preimage, payment_hash = (self.preimage(payment) if paid else ZEROS), payment.payment_hash
        fault = self.fault if kind == self.faulty else None
        if fault in ("wrong-preimage", "no-preimage"):
            preimage = "11" * 32 if fault == "wrong-preimage" else ZEROS
        if fault == "other-hash":
            payment_hash = "22" * 32
        return {
            "payment_hash": payment_hash,
            "value_msat": str(self.msat(payment)),
            "payment_preimage": preimage,
            "status": status,
            "fee_msat": "3" if paid else "0",
            "htlcs": [],
            "payment_index": "1",
            "failure_reason": self.reason if status == "FAILED" else "FAILURE_REASON_NONE",
        }

    def error(self, request: Request, status: int, code: int, message: str, kind: str = "") -> None:
        self.reply(request, kind, status, {"error": {"code": code, "message": message, "details": []}})

    def broken(self, request: Request) -> None:
        self.error(request, 500, 2, "routerrpc server shutting down")

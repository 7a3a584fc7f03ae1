"""A stand-in for the Sphinx V2 bot: `pay_invoice`, `sends/TAG`, `account` and `invite`, as its users' code reads them.
Not the real thing.

`answers_status`: whether the answer to a payment names its state; clients of it disagree on that."""

import json
import secrets

from ..http_server import Request
from .node import Node, exactly


class Sphinx(Node):
    token = "sphinx-admin-token"

    def __init__(self, *where, **how) -> None:
        self.answers_status, self.as_list = True, True
        self.invites: list[dict] = []
        """What was asked for, and the invite that was made for it."""
        super().__init__(*where, **how)

    def handle(self, request: Request) -> None:
        if request.headers.get("x-admin-token") != self.token:
            return request.answer(401, "unauthorized", "text/plain")
        if (request.method, request.path) == ("GET", "/account"):
            return request.answer(200, {"contact_info": "02ab_cd", "alias": "bot", "img": "", "network": "regtest"})
        if (request.method, request.path) == ("POST", "/invite"):
            return self.on_invite(request)
        if (request.method, request.path) == ("POST", "/pay_invoice"):
            return self.on_pay(request)
        if request.method == "GET" and request.path.startswith("/sends/"):
            return self.on_look(request, request.path.rpartition("/")[2])
        return self.complain(request, "no such path")

    def on_pay(self, request: Request) -> None:
        wrong = exactly(request, {"bolt11": lambda text: isinstance(text, str), "wait": lambda wait: wait is True})
        if wrong:
            return self.complain(request, wrong)
        invoice = json.loads(request.body)["bolt11"]
        if invoice not in self.known:
            return request.answer(400, {"error": "bad invoice"})
        payment = self.pay(invoice)
        if payment is None:
            return self.reply(request, "pay", 500, {"error": "this invoice was paid"})
        payment.tag = secrets.token_hex(8)
        answer = {
            "tag": payment.tag,
            "msat": self.msat(payment),
            "timestamp": 1_700_000_000,
            "payment_hash": payment.payment_hash,
        }
        if self.answers_status:
            answer["status"] = self.status(payment)
        return self.reply(request, "pay", 200, answer, spoil={"preimage": "preimage", "hash": "payment_hash"})

    def on_invite(self, request: Request) -> None:
        wanted = {"amt_msat": lambda msat: type(msat) is int and msat > 0, "alias": lambda alias: alias == "new_user"}
        if b"inviter" in request.body:
            is_text = lambda text: isinstance(text, str) and text != ""
            wanted |= {"inviter_pubkey": is_text, "inviter_route_hint": is_text}
        if wrong := exactly(request, wanted):
            return self.complain(request, wrong)
        invite = secrets.token_urlsafe(60)
        self.invites.append({**json.loads(request.body), "invite": invite})
        return request.answer(200, {"invite": invite})

    def on_look(self, request: Request, tag: str) -> None:
        payment = next((payment for payment in list(self.ledger.values()) if payment.tag == tag), None)
        if payment is None:
            return self.reply(request, "lookup", 404, {"error": "no such send"})
        entry = {
            "tag": tag,
            "ts": 1_700_000_000,
            "status": self.status(payment),
            "error": "no route" if payment.state == "failed" else "",
        }
        return self.reply(request, "lookup", 200, [entry] if self.as_list else entry)

    def status(self, payment) -> str:
        return {"paid": "COMPLETE", "failed": "FAILED", "pending": "PENDING"}[payment.state]

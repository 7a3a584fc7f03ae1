"""What the stand-ins for Lightning nodes share: a ledger, scripted faults, and no tolerance for a request that is not
exactly right.

	with Cln(HOST, "127.0.0.1") as node:
	    node.next(pay="failed")                 # the next payment ends so: paid, failed, pending
	    node.next(fault="cut")                  # ... and this happens to its answer
	    node.settle(payment_hash)               # what was pending is paid

Faults of an answer: `cut` (reset, nothing sent), `truncate`, `garbage`, `oversized`, `redirect`, `error` (a 500 of the
node's own kind), `gateway` (a 502 of a proxy's), `wrong-preimage`, `no-preimage`, `other-hash`, `hang` (nothing for 60
s). The ledger is right all the same.
"""

import contextlib
import json
import time
from dataclasses import dataclass

from ..http_server import Cut, Request, Server

REFUSED = {"error": "this is not what the node's interface says"}


@dataclass
class Payment:
    invoice: str
    payment_hash: str
    state: str
    """paid, failed or pending."""
    times: int = 1
    """How often money was sent for it."""
    tag: str = ""


class Node(Server):
    """`known` are the invoices that it can pay, by their text: payment hash, preimage, msat."""

    secret = "0123456789abcdef"

    def __init__(self, place, host: str, port: int = 0) -> None:
        self.known: dict[str, tuple[str, str, int]] = {}
        self.ledger: dict[str, Payment] = {}
        self.pay_state, self.fault, self.faulty = "paid", None, "pay"
        self.complaints: list[str] = []
        """Requests that were not what the interface says."""
        super().__init__(place, host, port)

    def know(self, invoice: str, payment_hash: str, preimage: str, msat: int) -> None:
        self.known[invoice] = (payment_hash, preimage, msat)

    def next(self, pay: str = "paid", fault: str | None = None) -> None:
        self.pay_state, self.fault, self.faulty = pay, fault, "pay"

    def settle(self, payment_hash: str) -> None:
        self.ledger[payment_hash].state = "paid"

    def fail(self, payment_hash: str) -> None:
        self.ledger[payment_hash].state = "failed"

    def has(self, payment_hash: str) -> bool:
        """Whether it was told to pay this, and what became of it is decided."""
        return payment_hash in self.ledger

    def times_paid(self, payment_hash: str) -> int:
        payment = self.ledger.get(payment_hash)
        return payment.times if payment and payment.state == "paid" else 0

    # For the nodes

    def preimage(self, payment: Payment) -> str:
        return self.known[payment.invoice][1]

    def msat(self, payment: Payment) -> int:
        return self.known[payment.invoice][2]

    def complain(self, request: Request, what: str) -> None:
        self.complaints.append(f"{request.method} {request.path}: {what}")
        request.answer(418, REFUSED)

    def pay(self, invoice: str) -> Payment | None:
        """Sends the money, as `next` says; None where this invoice was paid, or is being paid, already."""
        if invoice not in self.known:
            raise Cut
        payment_hash = self.known[invoice][0]
        old = self.ledger.get(payment_hash)
        if old and old.state != "failed":
            return None
        self.ledger[payment_hash] = Payment(invoice, payment_hash, self.pay_state, (old.times if old else 0) + 1)
        return self.ledger[payment_hash]

    def reply(self, request: Request, kind: str, status: int, body, *, spoil: dict | None = None) -> None:
        """The answer to a payment or a look, unless a fault is due. `spoil` names the fields of the preimage and the
        hash.
        """
        fault = self.fault if kind == self.faulty else None
        if fault:
            self.fault = None
        if fault == "hang":
            time.sleep(60)
            raise Cut
        if fault == "cut":
            raise Cut
        if fault == "redirect":
            return request.answer(302, b"", headers={"Location": self.url + "/elsewhere"})
        if fault == "gateway":
            return request.answer(502, b"<html>Bad Gateway</html>", "text/html")
        if fault == "error":
            return self.broken(request)
        if fault == "garbage":
            return request.answer(status, b"\x00\xff" * 300)
        if fault == "oversized":
            with contextlib.suppress(OSError):
                request.answer(status, b'{"x":"' + b"x" * 3_000_000 + b'"}')
            return None
        if fault in ("wrong-preimage", "no-preimage", "other-hash"):
            body = replaced(body, spoil or {}, fault)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if fault == "truncate":
            head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            request.sock.sendall(head.encode() + data[: len(data) // 2])
            raise Cut
        return request.answer(status, data)

    def broken(self, request: Request) -> None:
        request.answer(500, {"error": "something went wrong"})


def replaced(body, fields: dict, fault: str):
    """The body with another preimage, none, or another payment's hash, wherever it stands."""
    name, value = {
        "wrong-preimage": ("preimage", "11" * 32),
        "no-preimage": ("preimage", "00" * 32),
        "other-hash": ("hash", "22" * 32),
    }[fault]
    if isinstance(body, list):
        return [replaced(one, fields, fault) for one in body]
    if isinstance(body, dict):
        return {key: value if key == fields.get(name) else replaced(one, fields, fault) for key, one in body.items()}
    return body


def exactly(request: Request, wanted: dict) -> str | None:
    """What is wrong with the JSON body, if anything: each key must be there with a value that passes, and no other."""
    try:
        body = json.loads(request.body)
    except ValueError:
        return "the body is not JSON"
    if not request.headers.get("content-type", "").startswith("application/json"):
        return f"content type {request.headers.get('content-type')}"
    if set(body) != set(wanted):
        return f"keys {sorted(body)}, not {sorted(wanted)}"
    return next((f"{key} is {body[key]!r}" for key, good in wanted.items() if not good(body[key])), None)

"""Who issued a card, elsewhere in the lab's internet: its names, its TLS, and a bank that keeps to LUD-03 or fails on
command.

	names = Names(lab.internet, {"bank.example": HOST4})
	with Issuer(lab, pay=mint.pay) as issuer:
		link = issuer.tap()                         # lnurlw://bank.example:PORT/ln?p=..&c=..
		issuer.next(ln="oversized")                 # ... happens to its next first answer
		issuer.next(callback="cut", pay="before")
"""

import contextlib
import os
import socket
import struct
import threading
import time
from urllib.parse import parse_qsl, urlsplit

from .http_server import Cut, Request, Server
from .internet import HOST4, UPLINK4
from .place import Place
from .tls_proxy import TlsProxy

BANK = "bank.example"


class Names:
    """The internet's name server. `answers` are IPv4 addresses by name: one, several for one answer, or (a tuple) one
    answer after the other.
    """

    def __init__(self, place: Place, answers: dict[str, object]) -> None:
        self.answers = answers
        self.asked: dict[str, int] = {}
        self.refuses: set[int] = set()
        """Types of records that it does not speak of."""
        self.socket = place.udp(UPLINK4, 53)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            if not peer:
                return
            labels, at = [], 12
            while data[at]:
                labels.append(data[at + 1 : at + 1 + data[at]].decode())
                at += data[at] + 1
            kind = struct.unpack(">H", data[at + 1 : at + 3])[0]
            found = self._found(".".join(labels).lower()) if kind == 1 else []
            records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(one) for one in found)
            code = b"\x85" if kind in self.refuses else b"\x80"
            head = data[:2] + b"\x81" + code + struct.pack(">HHHH", 1, len(found), 0, 0)
            self.socket.sendto(head + data[12 : at + 5] + records, peer)

    def _found(self, name: str) -> list[str]:
        answer = self.answers.get(name, [])
        if isinstance(answer, tuple):
            turn = self.asked.get(name, 0)
            answer = answer[min(turn, len(answer) - 1)]
        self.asked[name] = self.asked.get(name, 0) + 1
        return [answer] if isinstance(answer, str) else answer


class Issuer:
    """`asked` and `given` are what came to it: links, and (k1, invoice); `paid` what it pays for them. All three are
    there before the answer. A tap is good once."""

    def __init__(self, lab, *, pay, dir: str, names: list[str] | None = None) -> None:
        self.pay_invoice = pay
        self.asked: list[str] = []
        self.given: list[tuple[str, str]] = []
        self.paid: list[str] = []
        self.complaints: list[str] = []
        self.fresh: set[str] = set()
        self.k1: set[str] = set()
        self.lock = threading.Lock()
        self.behave()
        self.server = _Desk(lab.internet, HOST4, self)
        self.tls = TlsProxy(
            lab.internet, HOST4, upstream_port=self.server.port, dir=dir, port=0, names=[BANK, *(names or [])]
        )
        self.ca_file, self.port = self.tls.ca_file, self.tls.port

    def __enter__(self) -> "Issuer":
        return self

    def __exit__(self, *_) -> None:
        self.tls.__exit__()
        self.server.close()

    def behave(self) -> None:
        self.faults: dict[str, str] = {}
        self.pay_when = "after"
        self.terms: dict[str, object] = {}
        """Replace fields of the withdraw request; None: leaves one out."""

    def next(self, *, ln: str | None = None, callback: str | None = None, pay: str = "after") -> None:
        """Faults of the next answers; `pay`: `after` the answer (LUD-03), `before` it, `never`."""
        self.faults = {name: fault for name, fault in (("ln", ln), ("callback", callback)) if fault}
        self.pay_when = pay

    def tap(self, host: str = BANK, scheme: str = "lnurlw") -> str:
        p, c = os.urandom(16).hex().upper(), os.urandom(8).hex().upper()
        self.fresh.add(p)
        return f"{scheme}://{host}:{self.port}/ln?p={p}&c={c}"

    def voucher(self, host: str = BANK) -> str:
        """A link that is no tap, as a wallet shows it: good again and again."""
        return f"lnurlw://{host}:{self.port}/withdraw?id=7"

    # What the network does to it

    def on_ln(self, request: Request, fields: dict[str, str]) -> None:
        with self.lock:
            self.asked.append(request.path)
            good = "p" not in fields or fields["p"] in self.fresh
            self.fresh.discard(fields.get("p"))
        if self._spoiled(request, "ln"):
            return None
        if not good:
            return request.answer(200, {"status": "ERROR", "reason": "bad request"})
        k1 = os.urandom(16).hex()
        self.k1.add(k1)
        callback = f"https://{BANK}:{self.port}/ln/callback"
        body = {
            "tag": "withdrawRequest",
            "callback": callback,
            "k1": k1,
            "defaultDescription": "card",
            "minWithdrawable": 1000,
            "maxWithdrawable": 100_000_000,
        }
        return request.answer(200, {key: value for key, value in {**body, **self.terms}.items() if value is not None})

    def on_callback(self, request: Request, fields: dict[str, str]) -> None:
        with self.lock:
            self.given.append((fields["k1"], fields["pr"]))
            good = fields["k1"] in self.k1
            self.k1.discard(fields["k1"])
        if not good:
            return request.answer(200, {"status": "ERROR", "reason": "k1 is used"})
        when, self.pay_when = self.pay_when, "after"
        if when == "before":
            self.pay(fields["pr"])
        if not self._spoiled(request, "callback"):
            if when == "after":
                self.paid.append(fields["pr"])
            request.answer(200, {"status": "OK"})
            if when == "after":
                self.pay_invoice(fields["pr"])
        return None

    def pay(self, invoice: str) -> None:
        self.paid.append(invoice)
        self.pay_invoice(invoice)

    def _spoiled(self, request: Request, where: str) -> bool:
        """Whether a fault was the answer."""
        fault = self.faults.pop(where, None)
        if fault is None:
            return False
        if fault == "cut":
            raise Cut
        if fault == "hang":
            time.sleep(30)
            raise Cut
        kind, _, rest = fault.partition(" ")
        if kind == "redirect":
            request.answer(302, b"", headers={"Location": rest})
        else:
            answers = {
                "html": b"<html>hello</html>",
                "garbage": b'{"tag":"withdraw',
                "oversized": b'{"x":"' + b"x" * 20_000 + b'"}',
                "list": b"[]",
                "error": rest,
            }
            body = answers[kind]
            request.answer(200, {"status": "ERROR", "reason": body} if kind == "error" else body)
        return True


class _Desk(Server):
    """Behind the TLS. Whatever is not exactly a till's request is a complaint."""

    def __init__(self, place: Place, host: str, issuer: Issuer) -> None:
        self.issuer = issuer
        super().__init__(place, host)

    def handle(self, request: Request) -> None:
        parts = urlsplit(request.path)
        fields = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
        names = [name for name, _ in fields]
        wants = {"/ln": ["p", "c"], "/withdraw": ["id"], "/ln/callback": ["k1", "pr"]}.get(parts.path)
        host = request.headers.get("host", "")
        if (
            request.method != "GET"
            or request.body
            or names != wants
            or host.rpartition(":")[2] != str(self.issuer.port)
        ):
            self.issuer.complaints.append(f"{request.method} {request.path} at {host}")
            return request.answer(404, {"status": "ERROR", "reason": "not a till's request"})
        is_callback = parts.path == "/ln/callback"
        return (self.issuer.on_callback if is_callback else self.issuer.on_ln)(request, dict(fields))

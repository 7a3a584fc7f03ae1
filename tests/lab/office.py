"""The operator's side of vouchers: orders at the admin interface, services that sign, and a shop that is told what
became of its tickets.

	office = Office(lab, daemon)
	office.batch(ticket(21)).json()["successful"]
	with Receiver(lab.internet) as shop: shop.wait(lambda told: told["status"] == "failed")
"""

import hashlib
import hmac
import json
import os
import time
import uuid

from . import http_client
from .daemon import ADMIN_PORT
from .http_server import Request, Server
from .internet import MINT4
from .place import wait_for

SECRET = "0123456789abcdef0123456789abcdef"
PRODUCT = "2f6c1f8e-7c0d-4a5b-8b77-5f0f5b1d2e10"


def new_id() -> str:
    return str(uuid.uuid4())


def ticket(amount=10, **more):
    return {"id": new_id(), "amount": amount, **more}


def error(answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


def secret_file(lab) -> str:
    path = lab.path("service-secret")
    with open(path, "w") as file:
        file.write(SECRET + "\n")
    return path


class Office:
    """The operator's interface of a daemon, and a service that signs."""

    def __init__(self, lab, daemon) -> None:
        self.lab, self.daemon = lab, daemon
        with open(os.path.join(daemon.state_dir, "admin.token")) as file:
            self.token = file.read().strip()

    def raw(self, method, path, sent=None, headers=None, port=ADMIN_PORT, timeout=20.0):
        socket = self.lab.router.connect("127.0.0.1", port)
        socket.settimeout(timeout)
        return http_client.exchange(socket, method, path, "127.0.0.1", headers or {}, sent)

    def ask(self, method, path, body=None, key=None, **headers):
        sent = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.raw(method, path, sent, headers)

    def batch(self, *tickets, key=None, **body):
        order = {"venueId": "guest", "funding": "none", "tickets": list(tickets), **body}
        return self.ask("POST", "/admin/batch-mint", order, key or new_id())

    def ticket(self, id) -> dict:
        return self.ask("GET", f"/admin/mints/{id}").json()

    def outbox(self) -> dict:
        return self.ask("GET", "/admin/system/status").json()["outbox"]

    def signed(self, path, body, *, at=None, nonce=None, key=None, secret=SECRET, **changed):
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = str(int(time.time() * 1000) if at is None else at)
        nonce = nonce or new_id()
        digest = hashlib.sha256(sent).hexdigest()
        text = f"payment-service:{at}:{nonce}:POST:{path}:{digest}"
        headers = {
            "x-internal-service": "payment-service",
            "x-internal-key-id": "shop",
            "x-internal-timestamp": at,
            "x-internal-nonce": nonce,
            "x-internal-body-hash": digest,
            "x-internal-signature": hmac.new(secret.encode(), text.encode(), "sha256").hexdigest(),
            "Idempotency-Key": key or new_id(),
            **{name.replace("_", "-"): value for name, value in changed.items()},
        }
        headers = {name: value for name, value in headers.items() if value is not None}
        return self.raw("POST", path, sent, headers)

    def webhook(self, body, at=None, port=ADMIN_PORT, path="/webhook/payment-completed", sign=True):
        """As a shop that was paid."""
        sent, at = json.dumps(body).encode(), int(time.time()) if at is None else at
        v1 = hmac.new(SECRET.encode(), f"{at}.".encode() + sent, "sha256").hexdigest()
        headers = {"x-webhook-signature": f"t={at},v1={v1}"} if sign else {}
        return self.raw("POST", path, sent, headers, port)


class Receiver(Server):
    """Who is told what became of tickets: believes what is signed and not old, and answers with `status`."""

    def __init__(self, place, host=MINT4, status=200, secret=SECRET) -> None:
        self.status, self.secret = status, secret
        self.told: list[dict] = []
        """Every notice, also those that were not taken."""
        self.paths: list[str] = []
        super().__init__(place, host)

    def handle(self, request: Request) -> None:
        fields = dict(part.split("=", 1) for part in request.headers["x-tollgate-signature"].split(","))
        signed = f"{fields['t']}.".encode() + request.body
        expected = hmac.new(self.secret.encode(), signed, "sha256").hexdigest()
        assert hmac.compare_digest(fields["v1"], expected) and abs(int(fields["t"]) - time.time()) < 300
        assert request.method == "POST" and request.headers["content-type"] == "application/json"
        self.paths.append(request.path)
        self.told.append(request.json())
        request.answer(self.status, b"")

    def wait(self, is_it, limit=20.0, what="somebody is told") -> dict:
        wait_for(lambda: any(is_it(told) for told in list(self.told)), limit, what)
        return next(told for told in self.told if is_it(told))

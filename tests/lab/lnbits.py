"""A real LNbits with a wallet that has money, on loopback. Who it pays, and what comes of it, a test says
(`peers/lnbits_ctl.py`).

	with Lnbits(dir) as lnbits:
	    wallet = lnbits.wallet(1_000_000)       # sat
	    wallet.adminkey                         # may pay
	    lnbits.wallet(0).invoice(21)            # an invoice of this instance, settled inside it
"""

import contextlib
import glob
import os
import shutil
import sqlite3
from dataclasses import dataclass

from . import http_client
from .place import HOST, PATIENCE, Process, free_ports, wait_for


@dataclass
class Wallet:
    lnbits: "Lnbits"
    id: str
    adminkey: str
    inkey: str

    def invoice(self, sats: int) -> str:
        made = self.lnbits.api(
            "POST", "/api/v1/payments", {"out": False, "amount": sats, "memo": "lab", "unit": "sat"}, key=self.inkey
        )
        return made["bolt11"]

    def balance_msat(self) -> int:
        return self.lnbits.api("GET", "/api/v1/wallet", key=self.inkey)["balance"]

    def payments(self) -> list[dict]:
        return self.lnbits.api("GET", "/api/v1/payments", key=self.inkey)


class Lnbits:
    def __init__(self, dir: str) -> None:
        self.dir = dir
        self.port, self.ctl_port = free_ports(2)
        self.log = os.path.join(dir, "lnbits.log")
        self.process: Process | None = None
        self.token = ""
        for path in ("lnbits", "data/logs", "extensions"):
            os.makedirs(os.path.join(dir, path))
        os.symlink(os.path.join(_package(), "static"), os.path.join(dir, "lnbits", "static"))
        if os.path.exists(_kept()):
            shutil.copy(_kept(), self.database)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "lnbits_ctl.py")
        env = {
            "HOME": self.dir,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "CTL_PORT": str(self.ctl_port),
            "PYTHONPATH": "",
            "LNBITS_DATA_FOLDER": f"{self.dir}/data",
            "LNBITS_EXTENSIONS_PATH": self.dir,
            "LNBITS_BACKEND_WALLET_CLASS": "FakeWallet",
            "LNBITS_RATE_LIMIT_NO": "100000",
            "LNBITS_ADMIN_UI": "true",
        }
        self.process = HOST.spawn([_python(), script], env=env, cwd=self.dir, log=self.log, pipe_in=True)
        wait_for(self._ready, 200, "LNbits answers", every=0.1)
        if not self.token:
            admin = {"username": "admin", "password": "adminadmin"}
            try:
                self.token = self.api("POST", "/api/v1/auth", admin)["access_token"]
            except OSError:
                self.token = self.api(
                    "PUT", "/api/v1/auth/first_install", admin | {"password_repeat": admin["password"]}
                )["access_token"]
                self._keep()

    def _keep(self) -> None:
        """Its database as it is now is what the next one begins with: making it takes most of the first start."""
        new = f"{_kept()}.{os.getpid()}"
        with (
            contextlib.closing(sqlite3.connect(self.database)) as now,
            contextlib.closing(sqlite3.connect(new)) as copy,
        ):
            now.backup(copy)
        os.replace(new, _kept())

    @property
    def database(self) -> str:
        return os.path.join(self.dir, "data", "database.sqlite3")

    def kill(self) -> None:
        process, self.process = self.process, None
        if process:
            process.kill()
            process.stdin.close()

    def __enter__(self) -> "Lnbits":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def wallet(self, sats: int) -> Wallet:
        """A new wallet with so much in it."""
        made = self.api("POST", "/api/v1/wallet", {"name": "w"})
        if sats:
            self.api("PUT", "/users/api/v1/balance", {"id": made["id"], "amount": sats})
        return Wallet(self, made["id"], made["adminkey"], made["inkey"])

    def set(self, **orders) -> None:
        """How invoices of others are paid from now on: `pay`, `status`, `fee_msat`, `delay`, `wait`."""
        self._control("POST", "/set", orders)

    def know(self, payment_hash: str, preimage: str) -> None:
        self._control("POST", "/know", {payment_hash: preimage})

    def asked_to_pay(self, payment_hash: str) -> int:
        return self._control("GET", "/paid").json().count(payment_hash)

    def api(self, method: str, path: str, body: dict | None = None, *, key: str | None = None) -> dict:
        headers = {"X-Api-Key": key} if key else {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = self._exchange(self.port, method, path, headers, body)
        if not 200 <= answer.status < 300:
            raise OSError(f"LNbits {method} {path}: {answer.status} {answer.text}")
        return answer.json()

    def _control(self, method: str, path: str, body: dict | None = None) -> http_client.Answer:
        return self._exchange(self.ctl_port, method, path, {}, body)

    def _exchange(self, port: int, method: str, path: str, headers: dict, body: dict | None) -> http_client.Answer:
        sock = HOST.connect("127.0.0.1", port)
        sock.settimeout(PATIENCE)
        return http_client.exchange(sock, method, path, f"127.0.0.1:{port}", headers, body)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as log:
                raise RuntimeError(f"LNbits ended:\n{log.read()[-3000:]}")
        answer = self._exchange(self.port, "GET", "/api/v1/health", {}, None)
        return answer.status in (200, 307) and self._control("GET", "/paid").status == 200


def _environment() -> str:
    cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
    return os.path.join(cache, "lightning", "lnbits")


def _kept() -> str:
    return os.path.join(_environment(), "first.sqlite3")


def _python() -> str:
    return os.path.join(_environment(), "bin", "python")


def _package() -> str:
    return glob.glob(os.path.join(_environment(), "lib", "python3*", "site-packages", "lnbits"))[0]

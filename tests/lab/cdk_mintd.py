"""Another real Cashu mint: cdk-mintd with its fake Lightning wallet, built by `setup.sh peers`. It looks like
`Nutshell` to tests.

	TOLLGATED_MINT=cdk-mintd: every test that asks for the real `mint` gets this one (`make test-peers`).

Its invoices are paid by themselves, at once; its keysets are rotated by nobody.
"""

import contextlib
import os
import sqlite3

from . import http_client
from .place import Place, Process, wait_for

WORDS = "half depart obvious quality work element tank gorilla view sugar picture humble"


def binary() -> str:
    cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
    return os.path.join(cache, "peers", "bin", "cdk-mintd")


class CdkMintd:
    """`stop` (or `kill`) and `start` keep its database."""

    def __init__(
        self, place: Place, host: str, *, dir: str, port: int = 3338, fee_ppk: int = 0, keysets: str = "v2"
    ) -> None:
        self.place, self.host, self.port, self.dir = place, host, port, dir
        self.log = os.path.join(dir, "mint.log")
        self.process: Process | None = None
        self.env = {"HOME": dir, "CDK_MINTD_MNEMONIC": WORDS}
        os.makedirs(f"{dir}/work", exist_ok=True)
        with open(f"{dir}/first.toml", "w") as file:
            file.write(f"""
[info]
url = "{self.url}/"
listen_host = "{host}"
listen_port = {port}
mnemonic = "env:CDK_MINTD_MNEMONIC"
input_fee_ppk = {fee_ppk}
use_keyset_v2 = {"true" if keysets == "v2" else "false"}
[database]
engine = "sqlite"
[payment_backend]
backend = "fakewallet"
[fake_wallet]
supported_units = ["sat"]
fee_percent = 0.02
reserve_fee_min = 1
min_delay_time = 0
max_delay_time = 0
""")
        self.place.run([*self.program, "config", "init", "--new-mint", "--file", f"{dir}/first.toml"], env=self.env)
        self.start()

    @property
    def program(self) -> list[str]:
        return [binary(), "--work-dir", f"{self.dir}/work"]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self, limit: float = 30.0) -> None:
        self.process = self.place.spawn(self.program, env=self.env, cwd=self.dir, log=self.log)
        wait_for(self._ready, limit, "cdk-mintd answers", every=0.05)

    def stop(self) -> None:
        process, self.process = self.process, None
        if process:
            process.stop()

    def kill(self) -> None:
        process, self.process = self.process, None
        if process:
            process.kill()

    def __enter__(self) -> "CdkMintd":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def pay(self, invoice: str) -> None:
        """Back when it is paid, which happens by itself."""
        wait_for(lambda: self._paid(invoice), 10, "the invoice is paid")

    def _paid(self, invoice: str) -> bool:
        return self.api("GET", f"/v1/mint/quote/bolt11/{self._quote(invoice)}").json()["state"] == "PAID"

    def _quote(self, invoice: str) -> str:
        with contextlib.closing(sqlite3.connect(f"file:{self.dir}/work/cdk-mintd.sqlite?mode=ro", uri=True)) as db:
            (quote,) = db.execute("SELECT id FROM mint_quote WHERE request = ?", [invoice]).fetchone()
        return quote

    def api(self, method: str, path: str, body=None) -> http_client.Answer:
        """A request to the mint itself, from where it runs."""
        return http_client.exchange(self.place.connect(self.host, self.port), method, path, self.host, body=body)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"cdk-mintd ended:\n{open(self.log).read()[-3000:]}")
        return self.api("GET", "/v1/info").status == 200

"""A real Cashu mint: nutshell with a fake Lightning wallet behind it, started in any place (see
`peers/nutshell_ctl.py`).

	mint = Nutshell(lab.internet, MINT4, dir=lab.path("mint"))
	mint.pay(invoice)
"""

import os
import sys

import bolt11

from . import http_client
from .place import Place, Process, wait_for

MINT_PORT = 3338


class Nutshell:
    """Invoices are never paid by themselves. `fee_ppk`: input fee; `rate_limit`: per minute and path, None: unlimited;
    `keysets`: "v2" or "v1" ids; `env` adds any of nutshell's own variables. `stop` and `start` keep its database."""

    def __init__(
        self, place: Place, host: str = "127.0.0.1", *, dir: str, port: int = MINT_PORT, ctl_port: int | None = None,
        fee_ppk: int = 0, rate_limit: int | None = None, keysets: str = "v2", env: dict[str, str] | None = None,
    ) -> None:
        self.place, self.host, self.port, self.dir = place, host, port, dir
        self.ctl_port = ctl_port or port + 1
        self.log = os.path.join(dir, "mint.log")
        self.process: Process | None = None
        self.env = {
            "HOME": dir, "CASHU_DIR": f"{dir}/cashu", "MINT_DATABASE": f"{dir}/db", "MINT_AUTH_DATABASE": f"{dir}/db",
            "TOR": "FALSE", "MINT_BACKEND_BOLT11_SAT": "CtlWallet", "MINT_PRIVATE_KEY": "lab",
            "MINT_LISTEN_HOST": host, "MINT_LISTEN_PORT": str(port), "MINT_INPUT_FEE_PPK": str(fee_ppk),
            "MINT_RATE_LIMIT": "FALSE" if rate_limit is None else "TRUE",
            "MINT_GLOBAL_RATE_LIMIT_PER_MINUTE": str(rate_limit or 1000000),
            "MINT_TRANSACTION_RATE_LIMIT_PER_MINUTE": str(rate_limit or 1000000),
            "MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT": "0", "FAKEWALLET_DELAY_OUTGOING_PAYMENT": "0",
            "CTL_HOST": host, "CTL_PORT": str(self.ctl_port), "CTL_KEYSETS": keysets, "CTL_STDIN": "1",
            "PYTHONPATH": "", **(env or {}),
        }
        os.makedirs(f"{dir}/db", exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ctl_url(self) -> str:
        return f"http://{self.host}:{self.ctl_port}"

    def start(self, limit: float = 200.0) -> None:
        """Back when `/v1/info` and the control port answer."""
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "nutshell_ctl.py")
        self.process = self.place.spawn(
            [sys.executable, script], env=self.env, cwd=self.dir, log=self.log, pipe_in=True
        )
        wait_for(self._ready, limit, "nutshell answers", every=0.05)

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            self.process.stdin.close()
            self.process = None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.stdin.close()
            self.process = None

    def __enter__(self) -> "Nutshell":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def pay(self, invoice: str) -> None:
        """Somebody pays this invoice now."""
        self.control(f"/pay/{payment_hash(invoice)}")

    def pay_all(self) -> int:
        """Every open invoice is paid now; how many those were."""
        return int(self.control("/pay-all"))

    def rotate(self, fee_ppk: int = 0) -> None:
        self.control("/rotate", {"input_fee_ppk": fee_ppk})

    def set(self, **settings) -> None:
        """nutshell's settings, while it runs: `mint.set(fakewallet_pay_invoice_state="FAILED")`."""
        self.control("/set", settings)

    def know(self, payment_hash: str, preimage: str) -> None:
        """What the payee of an invoice shows when this mint pays it."""
        self.control("/know", {payment_hash: preimage})

    def asked_to_pay(self, payment_hash: str) -> int:
        """How often the mint's own wallet was told to pay this."""
        asked = http_client.exchange(self.place.connect(self.host, self.ctl_port), "GET", "/asked", self.host)
        return asked.json().count(payment_hash)

    def control(self, path: str, body: dict | None = None) -> str:
        sock = self.place.connect(self.host, self.ctl_port)
        answer = http_client.exchange(sock, "POST", path, self.host, body=body or {})
        if answer.status != 200:
            raise OSError(f"mint control {path.split('/')[1]}: {answer.status} {answer.text}")
        return answer.text

    def api(self, method: str, path: str, body=None) -> http_client.Answer:
        """A request to the mint itself, from where it runs."""
        return http_client.exchange(self.place.connect(self.host, self.port), method, path, self.host, body=body)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"nutshell ended:\n{open(self.log).read()[-3000:]}")
        control = http_client.exchange(self.place.connect(self.host, self.ctl_port), "GET", "/", self.host)
        return control.status == 200 and self.api("GET", "/v1/info").status == 200


def payment_hash(invoice: str) -> str:
    return bolt11.decode(invoice).payment_hash

"""The daemon's Lightning backends by themselves: what becomes of a payment, as they see it.

	payer = Payer(dir, type="lnd", url=alice.url, secret=("macaroon_file", macaroon), cert_sha256=alice.cert_sha256)
	payer.pay(invoice).outcome          # paid, failed, unknown
	payer.lookup(invoice).outcome       # ... or absent
"""

import concurrent.futures
import contextlib
import json
import os
import threading
from dataclasses import dataclass

from .daemon import binary, section
from .place import HOST


@dataclass
class Answer:
    outcome: str
    preimage: str | None
    fee_msat: int | None
    why: str | None
    """For the operator, where it is not paid."""
    reference: str | None


class Call:
    """A payment under way in a process of its own."""

    def __init__(self, argv: list[str]) -> None:
        self.process = HOST.spawn(argv, pipe_out=True, env={"RUST_BACKTRACE": "0"})

    def answer(self, limit: float = 70.0) -> Answer:
        return Answer(**self.json(limit))

    def json(self, limit: float = 70.0) -> dict:
        timer = threading.Timer(limit, self.kill)
        timer.start()
        try:
            with self.process.stdout as out:
                text = out.read().decode()
        finally:
            timer.cancel()
        if self.process.wait() != 0:
            raise AssertionError(f"the payer ended badly: {text}")
        return json.loads(text.splitlines()[-1])

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        with contextlib.suppress(TimeoutError):
            self.process.kill()


class Payer:
    def __init__(
        self,
        dir: str,
        *,
        type: str,
        url: str,
        secret: tuple[str, str | bytes],
        mode: int = 0o600,
        main: dict | None = None,
        **options,
    ) -> None:
        os.makedirs(dir, exist_ok=True)
        option, content = secret
        secret_file = os.path.join(dir, option)
        with open(secret_file, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(secret_file, mode)
        self.config = os.path.join(dir, "tollgate")
        with open(self.config, "w") as file:
            file.write(section("tollgate", "main", {"enabled": 0, **(main or {})}))
            file.write(section("lightning", "", {"type": type, "url": url, option: secret_file, **options}))

    def begin(self, *words: str) -> Call:
        return Call([program(), self.config, *words])

    def pay(self, invoice: str, limit: float = 70.0) -> Answer:
        return self.begin("pay", invoice).answer(limit)

    def lookup(self, invoice: str, reference: str | None = None, tries: int = 3) -> Answer:
        """Looks again, as the daemon does, where a busy machine gave no answer in time."""
        found = self.begin("lookup", invoice, *([reference] if reference else [])).answer()
        silent = found.outcome == "unknown" and (found.why or "").startswith("no answer in")
        return self.lookup(invoice, reference, tries - 1) if silent and tries > 1 else found

    def test(self) -> dict:
        return self.begin("test").json(40)

    def command(self) -> tuple[int, str]:
        """`tollgated lightning test`: its status, and what it prints."""
        done = HOST.run([binary(), "lightning", "test", "-c", self.config], check=False)
        return done.code, done.out


class EcashCall:
    """A payment that another thread waits for."""

    def __init__(self, ask) -> None:
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.future = self.pool.submit(ask)

    def answer(self, limit: float = 70.0) -> Answer:
        return Answer(**self.future.result(limit))

    @property
    def running(self) -> bool:
        return not self.future.done()


class EcashPayer(Payer):
    """Pays with ecash of the mint at `url`, as the daemon does: the wallet is open until `close`, and goes on by
    itself with what it has begun. A `kill` is that of the daemon; the next call opens the wallet again."""

    def __init__(self, dir: str, url: str, **options) -> None:
        os.makedirs(dir, exist_ok=True)
        self.config, self.process = os.path.join(dir, "tollgate"), None
        self.lock, self.state_dir = threading.Lock(), os.path.join(dir, "state")
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        with open(self.config, "w") as file:
            file.write(section("tollgate", "main", {"enabled": 0, "state_dir": self.state_dir}))
            file.write(section("mint", "", {"url": url, "price_per_step": 1, "allow_http": 1}))
            file.write(section("lightning", "", {"type": "melt", **options}))

    def ask(self, *words: str) -> dict:
        with self.lock:
            if self.process is None:
                self.process = HOST.spawn(
                    [program(), self.config], pipe_in=True, pipe_out=True, env={"RUST_BACKTRACE": "0"}
                )
            self.process.stdin.write(" ".join(words).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise ConnectionError("the payer is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer

    def fill(self, token: str) -> None:
        self.ask("receive", token)

    def balance(self) -> tuple[int, int]:
        """What may be spent, and what is held by payments under way (sat)."""
        mints = self.ask("balance")["mints"]
        return sum(mint["free"] for mint in mints), sum(mint["held"] for mint in mints)

    def pay(self, invoice: str, limit: float = 70.0) -> Answer:
        return Answer(**self.ask("pay", invoice))

    def lookup(self, invoice: str, reference: str | None = None) -> Answer:
        return Answer(**self.ask("lookup", invoice))

    def test(self) -> dict:
        return self.ask("test")

    def begin(self, *words: str) -> "EcashCall":
        return EcashCall(lambda: self.ask(*words))

    def kill(self) -> None:
        process, self.process = self.process, None
        if process:
            process.kill()
            process.stdin.close()
            process.stdout.close()

    close = kill


def program() -> str:
    return os.path.join(os.path.dirname(binary()), "examples", "lightning")

"""The real daemon on the lab's router: its configuration, its life, and what it says of itself.

	daemon = Daemon(lab, mints=[Mint(mint.url, price=1)])
	daemon.start()
	daemon.status()["..."]
	daemon.kill(); daemon.start()          # state is kept, as on a router
"""

import json
import os
import socket
from dataclasses import dataclass, field

from .place import PATIENCE, Finished, Process, wait_for

PORTAL_PORT, MINT_PROXY_PORT, REDIRECT_PORT, ADMIN_PORT = 2121, 2122, 2123, 2120


@dataclass
class Mint:
    """A `config mint` section; `options` are further UCI options."""

    url: str
    price: int = 1
    min_steps: int = 1
    allow_http: bool = True
    options: dict[str, object] = field(default_factory=dict)


def binary() -> str:
    """The daemon under test: `TOLLGATED_BIN`, else the dev build of this checkout."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.environ.get("TOLLGATED_BIN") or os.path.join(root, "target", "debug", "tollgated")


def faults_in(log: str) -> list[str]:
    """What a log says of panics; the program has a line of its own for them."""
    return [line for line in log.splitlines() if "a fault of the program" in line or "panicked at" in line]


class Daemon:
    """Not started until told. `main` and `venue` are UCI options over the defaults here; a list becomes `list` lines.
    `sections` are further ones, by their type, or by type and name: `{"venue hall": {...}}`.
    `program` starts with an emulator where the binary is for another processor."""

    def __init__(
        self,
        lab,
        mints: list[Mint] | None = None,
        *,
        main: dict | None = None,
        venue: dict | None = None,
        sections: dict[str, dict] | None = None,
        name: str = "daemon",
        program: list[str] | None = None,
    ) -> None:
        self.lab = lab
        self.program = program or [binary()]
        self.process: Process | None = None
        self.dir = lab.path(name)
        self.state_dir = os.path.join(self.dir, "state")
        self.run_dir = os.path.join(self.dir, "run")
        self.config = os.path.join(self.dir, "tollgate")
        self.log_file = os.path.join(self.dir, "log")
        for path in (self.dir, self.state_dir, self.run_dir):
            os.makedirs(path, mode=0o700)
        self.mints = mints or []
        self.main = {
            "state_dir": self.state_dir,
            "run_dir": self.run_dir,
            "log_target": "stderr",
            "log_level": "debug",
            **(main or {}),
        }
        self.venue = {"name": "Kibanda Wi-Fi", "device": ["br-guest"], **(venue or {})}
        self.sections = sections or {}
        self.write_config()

    def __enter__(self) -> "Daemon":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()
        self.must_be_sound()

    # Configuration

    def uci(self) -> str:
        text = section("tollgate", "main", self.main) + section("venue", "guest", self.venue)
        for mint in self.mints:
            options = {"url": mint.url, "price_per_step": mint.price, "min_steps": mint.min_steps}
            text += section("mint", "", options | ({"allow_http": 1} if mint.allow_http else {}) | mint.options)
        return text + "".join(section(*kind.partition(" ")[::2], options) for kind, options in self.sections.items())

    def write_config(self, text: str | None = None) -> None:
        """The file as the attributes say, or this text."""
        with open(self.config, "w") as file:
            file.write(self.uci() if text is None else text)
        os.chmod(self.config, 0o600)

    # Life

    def start(
        self,
        ready: bool = True,
        env: dict[str, str] | None = None,
        limit: float = 10.0,
        *,
        through: list[str] | None = None,
    ) -> "Daemon":
        """Back when the portal answers and the gate stands (`ready=False`: at once).

        `through` is a command that ends by starting the one behind it, like `["unshare", "-m"]`.
        """
        if self.process and self.process.poll() is None:
            raise RuntimeError("the daemon runs already")
        self.process = self.lab.router.spawn(
            [*(through or []), *self.program, "run", "-c", self.config], env=env, log=self.log_file
        )
        if ready:
            wait_for(self._ready, limit, f"the daemon answers\n{self.log()[-2000:]}")
        return self

    def stop(self, limit: float = PATIENCE) -> int | None:
        """SIGTERM, and its exit status."""
        process, self.process = self.process, None
        return process.stop(limit) if process else None

    def kill(self) -> None:
        """`kill -9`."""
        process, self.process = self.process, None
        if process:
            process.kill()

    def must_be_sound(self) -> None:
        """No part of it has panicked, ever. In this build the others go on, so that nothing else may show it."""
        faults = faults_in(self.log())
        assert not faults, f"{self.dir}: {faults}"

    def restart(self) -> "Daemon":
        self.stop()
        return self.start()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    @property
    def running(self) -> bool:
        process = self.process  # another thread may kill it in between
        return process is not None and process.poll() is None

    # What it says

    def log(self) -> str:
        try:
            with open(self.log_file, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def command(self, *argv: str, check: bool = True, timeout: float = PATIENCE) -> Finished:
        """An operator's command on the router: `daemon.command("grant", mac, "1h")`."""
        return self.lab.router.run([*self.program, *argv, "-c", self.config], check=check, timeout=timeout)

    def ask(self, *argv: str):
        """A command with `--json`, parsed."""
        return json.loads(self.command(*argv, "--json").out)

    def data(self, *argv: str):
        """The data of a command that is carried out."""
        answer = self.ask(*argv)
        assert answer["ok"], answer
        return answer["data"]

    def status(self) -> dict:
        return self.ask("status")

    def control(self, request: dict, timeout: float = PATIENCE) -> dict:
        """One line on the control socket, one line back."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(os.path.join(self.run_dir, "control.sock"))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                return json.loads(lines.readline())

    def paid_macs(self, device: str | None = None) -> set[str]:
        """What the kernel lets pass right now: the MACs in the gate's `paid_at` set, at one device or at any."""
        found = self.lab.router.run(["nft", "-j", "list", "set", "inet", "tollgate", "paid_at"], check=False)
        if found.code != 0:
            return set()
        (listed,) = [item["set"] for item in json.loads(found.out)["nftables"] if "set" in item]
        places = [(element.get("elem", {}).get("val") or element)["concat"] for element in listed.get("elem", [])]
        return {mac for at, mac in places if device in (None, at)}

    def answers(self) -> bool:
        """Whether the control socket does."""
        try:
            return self.control({"command": "status"})["ok"]
        except (OSError, ValueError):
            return False

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self.process.poll()}:\n{self.log()[-4000:]}")
        self.lab.router.connect("192.168.77.1", int(self.main.get("port", PORTAL_PORT)), 1).close()
        not_ready = self.control({"command": "status"})["data"]["not_ready"]
        return not any("the gate is not in place" in reason for reason in not_ready)


def section(kind: str, name: str, options: dict) -> str:
    lines = [f"config {kind}" + (f" '{name}'" if name else "")]
    for option, value in options.items():
        values = value if isinstance(value, list) else [value]
        word = "list" if isinstance(value, list) else "option"
        lines += [f"\t{word} {option} '{one}'" for one in values]
    return "\n".join(lines) + "\n\n"

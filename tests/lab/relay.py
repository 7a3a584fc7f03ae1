"""A relay with darajasim as its Daraja: `tollgated relay`, on the machine's loopback or in a place.

	with Relay(dir, sim.url, routers=["r1", "r2"]) as relay:
	    relay.call("r1", "9f2c", {"Body": {}})          # as Daraja does
	    relay.events("r1", after=0, wait=5)             # as its router does
"""

import os
import signal

from . import http_client
from .daemon import binary
from .place import HOST, PATIENCE, Place, free_ports, wait_for


class Relay:
    def __init__(self, dir: str, base_url: str, *, routers: list[str], place: Place = HOST, port: int = 0) -> None:
        self.dir, self.base_url, self.place = dir, base_url, place
        self.port = port or free_ports(1)[0]
        self.routers = routers
        os.makedirs(dir, exist_ok=True)
        self.file = os.path.join(dir, "relay.conf")
        self.log = os.path.join(dir, "relay.log")
        self.process = None
        self.secret("mpesa.key", "test-consumer-key")
        self.secret("mpesa.secret", "test-consumer-secret")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def key(self, router: str) -> str:
        return f"key-of-{router}-0123456789abcdef"

    def key_file(self, router: str) -> str:
        return self.secret(f"{router}.key", self.key(router))

    def secret(self, name: str, content: str, mode: int = 0o600) -> str:
        path = os.path.join(self.dir, name)
        with open(path, "w") as file:
            file.write(content + "\n")
        os.chmod(path, mode)
        return path

    def write(self, more: str = "") -> None:
        lines = [
            "config tollgate 'main'",
            f"\toption state_dir '{self.dir}/state'",
            f"\toption run_dir '{self.dir}/state'",
            "\toption log_target 'stderr'",
            "config mpesa 'mpesa'",
            f"\toption base_url '{self.base_url}'",
            "\toption allow_http '1'",
            f"\toption consumer_key_file '{self.dir}/mpesa.key'",
            f"\toption consumer_secret_file '{self.dir}/mpesa.secret'",
            "config relay 'relay'",
            f"\toption listen '127.0.0.1:{self.port}'",
            *(f"\tlist router '{name} {self.key_file(name)}'" for name in self.routers),
        ]
        with open(self.file, "w") as file:
            file.write("\n".join(lines) + f"\n{more}\n")
        os.chmod(self.file, 0o600)

    def start(self) -> "Relay":
        os.makedirs(os.path.join(self.dir, "state"), exist_ok=True)
        self.write()
        self.process = self.place.spawn([binary(), "relay", "-c", self.file], log=self.log)
        wait_for(self._answers, PATIENCE, "the relay answers", every=0.02)
        return self

    def kill(self) -> None:
        if self.process:
            self.process.kill()
        self.process = None

    def reload(self) -> None:
        self.write()
        self.process.send_signal(signal.SIGHUP)

    def check(self):
        return self.place.run([binary(), "check", "-c", self.file], check=False)

    def ask(self, method: str, path: str, body=None, key: str | None = None) -> http_client.Answer:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        sock = self.place.connect("127.0.0.1", self.port)
        return http_client.exchange(sock, method, path, "relay.example.net", headers, body)

    def call(self, router: str, token: str, body) -> int:
        return self.ask("POST", f"/cb/{router}/{token}", body).status

    def events(self, router: str, after: int = 0, wait: int = 0) -> list[dict]:
        answer = self.ask("GET", f"/v1/events?after={after}&wait={wait}", key=self.key(router))
        assert answer.status == 200, answer.text
        return answer.json()["events"]

    def token(self, router: str, dead: str = "") -> http_client.Answer:
        return self.ask("GET", "/v1/token" + (f"?dead={dead}" if dead else ""), key=self.key(router))

    def __enter__(self) -> "Relay":
        return self.start()

    def __exit__(self, *_) -> None:
        self.kill()

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as log:
                raise RuntimeError(f"the relay ended:\n{log.read()[-3000:]}")
        try:
            return self.ask("GET", "/health").status == 200
        except OSError:
            return False

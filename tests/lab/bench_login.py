"""The logins' part of `make bench`: a wallet's answer, and what a k1 costs that nobody was given.

The store is in memory: a login is one wait for the disk, which is not ours.
"""

import os

from .bench_table import Row, Stopwatch, both, cpu_seconds, p95, say, tried
from .daemon import Daemon, Mint
from .internet import AWAY
from .login import DOMAIN, LoginBrowser, LoginWallet, through_tunnel
from .namespaces import Lab

MEMORY = "/dev/shm"
LOGINS = 100
AT_ONCE = 50
"""Challenges that a device gets at once are 60."""
UNKNOWN = 500


def logins() -> list[Row]:
    with (
        Lab(guests=1, dir=MEMORY) as lab,
        Daemon(lab, [Mint(AWAY)], main={"log_level": "info"}, sections={"auth": {"domain": DOMAIN}}) as daemon,
    ):
        return tried(lambda: measured(lab, daemon))


def measured(lab: Lab, daemon: Daemon) -> list[Row]:
    answers, spent = [], []
    for number in range(LOGINS):
        if number % AT_ONCE == 0:
            browser = LoginBrowser(lab.guest.become_stranger())
        wallet, k1 = LoginWallet(number + 1), browser.ask()["k1"]
        path = wallet.path(k1)
        before = cpu_seconds(daemon)
        with Stopwatch(daemon) as watch:
            assert browser.get(path).json() == {"status": "OK"}
        answers.append(watch)
        spent.append(cpu_seconds(daemon) - before)
        say(f"login {number + 1} of {LOGINS}")
    unknown = LoginWallet(1)
    paths = [unknown.path(os.urandom(32).hex()) for _ in range(UNKNOWN)]
    before = cpu_seconds(daemon)
    for path in paths:
        assert through_tunnel(lab.router, path).status == 400
    each = (cpu_seconds(daemon) - before) / UNKNOWN
    own = [answer.own for answer in answers]
    check = sorted(spent)[len(spent) // 2]
    return [
        Row(f"a wallet's answer, {LOGINS} logins, store in memory, p50 / p95", both([one.took for one in answers])),
        Row("... without waits for a processor", both(own), "5 ms", p95(own) < 0.005),
        Row(
            "processor time of a k1 that nobody was given, against a login",
            f"{1000 * each:.2f} / {1000 * check:.2f} ms",
            "a half",
            each < check / 2,
        ),
    ]

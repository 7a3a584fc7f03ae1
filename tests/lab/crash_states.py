"""`make crash`: what the store holds after a power cut at any moment of a shop's work.

The router's binary sells under strace: tokens, cards' taps, vouchers in batches and one by one, grants. From the trace
come its writes, truncations, renames and syncs in the state directory, and its answers. Then the power is cut on
paper, at every step: what was synced is there; of what was written since, nothing, everything, or any pieces of 512
bytes; the same for names in the directory. The binary must open each such state, and everything that it had answered
by then must be in it.

The tool proves itself: with the syncs left out of the trace, answered work must be missing.

Usage: python -m lab.crash_states BINARY [--states N] [--seed N]
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

from .card_shop import CardShop
from .daemon import Mint
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .place import wait_for
from .run import TourFailed
from .tollgate_client import TOLLGATE, token_v4
from .wallet import Wallet

TORN = 512
"""What a flash writes whole."""
SALES, TAPS, GRANTS, VOUCHERS = 6, 5, 5, 6
CALLS = (
    "openat,open,creat,write,writev,pwrite64,pwritev,sendto,sendmsg,ftruncate,"
    "unlink,unlinkat,rename,renameat,renameat2,fsync,fdatasync"
)
ANSWERS = (b"HTTP/1.1 2", b'{"data":')
"""How answers to guests and tills begin, and those on the control socket."""
LINE = re.compile(r"^(\d+) +(\w+)\((.*?)(\)? += (-?\d+).*| <unfinished \.\.\.>)$", re.S)
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.* = (-?\d+)")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")


@dataclass
class Effect:
    """One thing that was asked for and answered: `rows` of `query` must be there from its answer on, at least."""

    name: str
    query: str
    rows: int


@dataclass
class Step:
    """One entry of the trace: write, truncate, unlink, rename, make, sync, or answer."""

    kind: str
    path: str = ""
    data: bytes = b""
    at: int = 0
    other: str = ""


@dataclass
class Crash:
    """The files at a moment: what a power cut cannot take, and what was done since, in order."""

    durable: dict[str, bytearray] = field(default_factory=dict)
    loose: list[Step] = field(default_factory=list)


class CrashShop(CardShop):
    """Cards and a mint on one router, watched by strace."""

    def trace_to(self, file: str) -> None:
        # -D: strace is the grandchild, so that a signal to what was started reaches the daemon.
        through = ["strace", "-D", "-f", "-y", "-xx", "-s", "2000000", "-e", f"trace={CALLS}", "-o", file]
        self.daemon.start(through=through, limit=60)


def main() -> int:
    given = argparse.ArgumentParser()
    given.add_argument("binary")
    given.add_argument("--states", type=int, default=5000)
    given.add_argument("--seed", type=int, default=1)
    args = given.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        try:
            state, before, steps, effects, config = record(args.binary, scratch)
            answers = sum(step.kind == "answer" for step in steps)
            syncs = sum(step.kind == "sync" for step in steps)
            print(f"  {len(steps)} steps: {syncs} syncs, {answers} answers; {len(effects)} things were done")
            tried = check(Replay(state, before, steps, effects, args.seed), args.states, scratch, args.binary, config)
            print(f"  {tried} states after a power cut: each opens, and holds all that was answered")
            loose = [step for step in steps if step.kind != "sync"]
            lost = proof(Replay(state, before, loose, effects, args.seed), scratch)
            print(f"  without its syncs the same trace loses answered work in {lost} states of {PROOF}, as it must")
        except (TourFailed, OSError, RuntimeError, AssertionError) as error:
            print(f"  failed: {error}")
            return 1
    return 0


# Recording


def record(binary: str, scratch: str):
    """The state directory, what it held before, the trace's steps, what was done, a configuration to open states."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(guests=1))
        mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
        shop = CrashShop(lab)
        stack.callback(shop.node.close)
        shop.daemon.program = [binary]
        shop.daemon.mints = [Mint(mint.url)]
        shop.daemon.main["log_level"] = "info"
        shop.daemon.write_config()
        stack.callback(shop.daemon.kill)
        # The store is made, and a card programmed, before anything is watched.
        shop.daemon.start()
        card = shop.card(tx_max=1000)
        wallet = Wallet(lab.internet, mint.url)
        tokens = [token_v4(mint.url, wallet.buy(mint, 3 + number)) for number in range(SALES)]
        invoices = [shop.invoice(20 + number) for number in range(TAPS)]
        codes = [made["code"] for made in shop.daemon.data("voucher", "create", str(VOUCHERS), *WORTH)["vouchers"]]
        shop.daemon.stop()
        state = shop.daemon.state_dir
        before = {name: read(os.path.join(state, name)) for name in os.listdir(state)}
        trace = os.path.join(scratch, "trace")
        shop.trace_to(trace)
        effects: list[Effect] = []
        work(shop, lab.guest, tokens, card, invoices, codes, effects)
        shop.daemon.stop()
        wait_for(lambda: b"+++ exited" in read(trace)[-4096:], 30, "strace has ended")
        steps = steps_of(trace, state)
        # Whatever asked whether the daemon was up was answered first.
        skipped = sum(step.kind == "answer" for step in steps) - len(effects)
        assert skipped >= 0, f"{len(effects)} things were done, and {-skipped} of them not answered"
        for step in [step for step in steps if step.kind == "answer"][:skipped]:
            steps.remove(step)
        config = os.path.join(scratch, "tollgate")
        with open(config, "w") as file:
            file.write(shop.daemon.uci().replace(state, STATE).replace(shop.daemon.run_dir, RUN))
        return state, before, steps, effects, config


def work(shop: CrashShop, guest, tokens, card, invoices, codes, effects: list[Effect]) -> None:
    """One thing after another, each answered before the next is asked: answers are told apart by their order."""
    sold = taps = paid = granted = redeemed = made = 0

    def done(effect: Effect, ok: bool, said) -> None:
        if not ok:
            raise TourFailed(f"{effect.name} failed: {said}")
        effects.append(effect)

    for number in range(max(SALES, TAPS, GRANTS, VOUCHERS)):
        if number < SALES:
            answer = guest.post(TOLLGATE, tokens[number].encode())
            sold += 1
            done(Effect("a token", TOKENS, sold), answer.status == 200, answer.text)
        if number < TAPS:
            k1 = shop.tap(card)["k1"]
            taps += 1
            done(Effect("a tap", "SELECT COUNT(*) FROM card_taps", taps), True, "")
            said = shop.callback(k1, invoices[number].request)
            paid += 1
            query = "SELECT COUNT(*) FROM card_taps WHERE state IN ('reserved', 'sent', 'paid')"
            done(Effect("a card's payment", query, paid), said.get("status") == "OK", said)
        if number < GRANTS:
            shop.daemon.data("grant", f"02:00:00:00:aa:{number:02x}", "1h")
            granted += 1
            done(Effect("a grant", GRANTED, granted), True, "")
        if number < VOUCHERS:
            made += len(shop.daemon.data("voucher", "create", "3", *WORTH)["vouchers"])
            done(Effect("a batch", "SELECT COUNT(*) FROM vouchers", VOUCHERS + made), True, "")
            answer = guest.post(f"{TOLLGATE}/voucher", {"code": codes[number]})
            redeemed += 1
            done(Effect("a voucher", REDEEMED, redeemed), answer.status == 200, answer.text)


# Reading the trace


def steps_of(trace: str, state: str) -> list[Step]:
    """A write counts from when it was called, a sync from when it returned."""
    steps: list[Step] = []
    waiting: dict[str, Step] = {}
    with open(trace, errors="replace") as file:
        for line in file:
            line = line.rstrip("\n")
            if resumed := RESUMED.match(line):
                step = waiting.pop(resumed[1], None)
                if step and int(resumed[3]) == 0:
                    steps.append(step)
                continue
            called = LINE.match(line)
            if not called:
                continue
            pid, call, arguments, end, result = called.groups()
            unfinished = result is None
            if not unfinished and int(result) < 0:
                continue
            step = step_of(call, arguments, state)
            if step and unfinished and step.kind == "sync":
                waiting[pid] = step
            elif step:
                steps.append(step)
    return steps


def step_of(call: str, arguments: str, state: str) -> Step | None:
    texts = [plain(text) for text in STRING.findall(arguments)]
    held = DESCRIPTOR.match(arguments)
    path = plain(held[1]).decode(errors="replace") if held else ""
    inside = path.startswith(state)
    if call in ("write", "writev", "sendto", "sendmsg", "pwrite64", "pwritev"):
        data = b"".join(texts)
        if not inside:
            return Step("answer") if "socket" in path and data.startswith(ANSWERS) else None
        at = int(arguments.rsplit(",", 1)[1]) if call.startswith("p") else -1
        return Step("write", path, data, at)
    if call in ("fsync", "fdatasync"):
        return Step("sync", path) if inside else None
    if call == "ftruncate":
        return Step("truncate", path, at=int(arguments.rsplit(",", 1)[1])) if inside else None
    names = [text.decode(errors="replace") for text in texts]
    if not names or not names[-1].startswith(state):
        return None
    if call.startswith("rename"):
        return Step("rename", names[0], other=names[1])
    if call.startswith("unlink"):
        return Step("unlink", names[0])
    if "O_TRUNC" in arguments:
        return Step("truncate", names[0])
    return Step("make", names[0]) if "O_CREAT" in arguments else None


def plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


# Cutting the power


class Replay:
    """`states(count)` are (files, what was answered by then, where it was cut): the same for a seed."""

    def __init__(
        self, state: str, before: dict[str, bytes], steps: list[Step], effects: list[Effect], seed: int
    ) -> None:
        self.state, self.before, self.steps, self.effects, self.seed = state, before, steps, effects, seed

    def states(self, count: int):
        chance = random.Random(self.seed)
        # Everywhere: nothing and everything of what was not synced; then any part of it, as often as is asked for.
        rounds = max(1, -(-count // len(self.steps)))
        wanted = set(chance.sample(range(len(self.steps)), count)) if rounds == 1 else None
        given = 0
        for turn in range(rounds):
            crash = Crash({name: bytearray(data) for name, data in self.before.items()})
            answered = 0
            for number, step in enumerate(self.steps):
                answered += step.kind == "answer"
                self.take(crash, step)
                if wanted is not None and number not in wanted:
                    continue
                how = ["some", "nothing", "everything"][(turn + number) % 3]
                yield self.cut(crash, how, chance), self.effects[:answered], f"step {number} ({step.kind}), {how}"
                given += 1
                if given == count:
                    return

    def take(self, crash: Crash, step: Step) -> None:
        if step.kind == "answer":
            return
        if step.kind != "sync":
            crash.loose.append(step)
            return
        name = self.name(step.path)
        kept = []
        for loose in crash.loose:
            # The directory's sync makes its names last; a file's own makes its content last, and that it is there.
            names = loose.kind in ("make", "unlink", "rename")
            if (names and name in ("", self.name(loose.path))) or (not names and self.name(loose.path) == name):
                self.apply(crash.durable, loose)
            else:
                kept.append(loose)
        crash.loose = kept

    def cut(self, crash: Crash, how: str, chance: random.Random) -> dict[str, bytearray]:
        files = {name: bytearray(data) for name, data in crash.durable.items()}
        if how == "nothing":
            return files
        for step in crash.loose:
            if how == "everything":
                self.apply(files, step)
            elif step.kind != "write":
                if chance.random() < 0.5:
                    self.apply(files, step)
            else:
                # Sectors land in any order, each whole; a file grows with what lands.
                at = step.at if step.at >= 0 else len(files.get(self.name(step.path), b""))
                for start in range(0, len(step.data), TORN - at % TORN or TORN):
                    if chance.random() < 0.5:
                        self.apply(files, Step("write", step.path, step.data[start : start + TORN], at + start))
        return files

    def apply(self, files: dict[str, bytearray], step: Step) -> None:
        name = self.name(step.path)
        if step.kind == "unlink":
            files.pop(name, None)
        elif step.kind == "rename":
            if name in files:
                files[self.name(step.other)] = files.pop(name)
        else:
            file = files.setdefault(name, bytearray())
            if step.kind == "truncate":
                del file[step.at :]
                file.extend(bytes(max(0, step.at - len(file))))
            elif step.kind == "write":
                at = step.at if step.at >= 0 else len(file)
                file.extend(bytes(max(0, at - len(file))))
                file[at : at + len(step.data)] = step.data

    def name(self, path: str) -> str:
        return os.path.relpath(path, self.state) if path != self.state else ""


# Looking

WORTH = ["--time", "10m"]
STATE, RUN = "@STATE@", "@RUN@"
PROOF = 400
TOKENS = "SELECT COUNT(*) FROM grants WHERE reference LIKE 'token:%'"
REDEEMED = "SELECT COUNT(*) FROM vouchers WHERE state = 'redeemed' AND sealed IS NULL"
GRANTED = "SELECT COUNT(*) FROM sessions WHERE mac LIKE '02:00:00:00:aa:%'"


def check(replay: Replay, count: int, scratch: str, binary: str, config: str) -> int:
    tried = 0
    for files, answered, where in replay.states(count):
        folder = lay_out(files, scratch)
        said = opens(folder, binary, config, scratch)
        if said:
            raise TourFailed(f"cut at {where}: the program says {said}")
        for missing in missing_in(folder, answered):
            raise TourFailed(f"cut at {where}: {missing}")
        tried += 1
    return tried


def proof(replay: Replay, scratch: str) -> int:
    lost = 0
    for files, answered, _ in replay.states(PROOF):
        try:
            lost += bool(missing_in(lay_out(files, scratch), answered))
        except sqlite3.DatabaseError:
            lost += 1
    if not lost:
        raise TourFailed("a trace without syncs lost nothing: this tool sees nothing")
    return lost


def lay_out(files: dict[str, bytearray], scratch: str) -> str:
    folder = os.path.join(scratch, "state")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    for name, data in files.items():
        with open(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(data)
    return folder


def opens(folder: str, binary: str, config: str, scratch: str) -> str | None:
    """None, or what the program says where it cannot open this store."""
    run = os.path.join(scratch, "run")
    os.makedirs(run, exist_ok=True)
    own = os.path.join(scratch, "tollgate.state")
    with open(own, "w") as file, open(config) as made:
        file.write(made.read().replace(STATE, folder).replace(RUN, run))
    os.chmod(own, 0o600)
    done = subprocess.run(
        [binary, "wallet", "balance", "--json", "-c", own], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with contextlib.suppress(ValueError):
        if json.loads(done.stdout.strip().splitlines()[-1])["ok"]:
            return None
    return f"{done.returncode}: {done.stdout}"


def missing_in(folder: str, answered: list[Effect]) -> list[str]:
    """What was answered and is not there, and what is there by half."""
    store = sqlite3.connect(os.path.join(folder, "store.db"))
    try:
        found = [row[0] for row in store.execute("PRAGMA quick_check")]
        if found != ["ok"]:
            return [f"SQLite says {found[0]}"]
        least: dict[str, Effect] = {}
        for effect in answered:
            least[effect.query] = effect
        missing = []
        for query, effect in least.items():
            (there,) = store.execute(query).fetchone()
            if there < effect.rows:
                missing.append(f"{effect.name}: {effect.rows} were answered, {there} are there")
        return missing
    finally:
        store.close()


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main())

"""Fixtures of the system tests. A module has a lab of its own and, when it asks for one, a mint of its own."""

import itertools
import os
import re
import subprocess

import pytest
from xdist.scheduler import LoadFileScheduling

from lab import daemon as lab_daemon
from lab.browser import Browser
from lab.card_shop import CardShop
from lab.cdk_mintd import CdkMintd
from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.fault_proxy import FaultProxy
from lab.internet import AWAY, MINT4
from lab.lnbits import Lnbits
from lab.lnd import LightningPair
from lab.namespaces import Lab
from lab.nutshell import Nutshell
from lab.office import PRODUCT, Office, secret_file
from lab.openwrt.root import Root
from lab.place import HOST, free_ports
from lab.shop import Shop

NUMBERS = itertools.count(1)
MINT = os.environ.get("TOLLGATED_MINT", "nutshell")


@pytest.fixture(scope="module")
def lab():
    """Router, two guests and the internet; the firewall stands, no daemon runs."""
    with Lab(guests=2) as made:
        yield made


@pytest.fixture(scope="module")
def mint(lab):
    """A real mint in the internet, no fees; invoices are paid by `mint.pay(invoice)`. `TOLLGATED_MINT` says whose."""
    with {"nutshell": Nutshell, "cdk-mintd": CdkMintd}[MINT](lab.internet, MINT4, dir=lab.path("mint")) as made:
        yield made


@pytest.fixture
def fault_mint(lab):
    """The mint that misbehaves on command, new for each test."""
    with FaultMint(lab.internet, MINT4) as made:
        yield made


@pytest.fixture
def fault_proxy(lab, mint):
    """Between the daemon and the real mint: sell with `Mint(fault_proxy.url)`."""
    with FaultProxy(lab.internet, MINT4, upstream=mint.url) as made:
        yield made


@pytest.fixture
def make_daemon(lab, request):
    """`make_daemon(mint.url, venue={"step_size": 1000})`: a running daemon with empty state; stopped, and its gate
    taken away, after the test.

    Mints are URLs (price 1) or `Mint`s. `start=False` leaves it stopped. Its log is shown when the test fails.
    """
    if not os.path.exists(lab_daemon.binary()):
        pytest.skip(f"no daemon at {lab_daemon.binary()}")
    made: list[Daemon] = []

    def make(*mints, start: bool = True, **options) -> Daemon:
        sections = [mint if isinstance(mint, Mint) else Mint(mint) for mint in mints]
        daemon = Daemon(lab, sections, name=f"daemon-{next(NUMBERS)}", **options)
        made.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in made:
        daemon.kill()
        if getattr(request.node, "failed", False):
            print(f"--- log of {daemon.dir}\n{daemon.log()[-6000:]}")
    if made:
        lab.clean_router()
    for daemon in made:
        daemon.must_be_sound()


@pytest.fixture
def daemon(make_daemon):
    """A daemon whose mint is away."""
    return make_daemon(AWAY)


@pytest.fixture
def make_office(lab, make_daemon):
    """`make_office(mint, limit={"tx": 50})`: a daemon with a service that signs, and a product of 10 sat."""

    def make(mint=AWAY, **sections) -> Office:
        secret = secret_file(lab)
        named = {
            "hmac_key": {"id": "shop", "secret_file": secret},
            "webhook": {"secret_file": secret},
            "product hour": {"id": PRODUCT, "venue": "guest", "sat": 10, "funding": "none", "max_supply": 50},
        }
        kinds = {kind.replace("__", " "): options for kind, options in sections.items()}
        return Office(lab, make_daemon(mint, sections={**named, **kinds}))

    return make


@pytest.fixture
def seller(make_daemon, fault_mint):
    """A daemon that sells: one minute a step, 3 sat."""
    return make_daemon(Mint(fault_mint.url, price=3))


@pytest.fixture(scope="module")
def open_shop(lab):
    """One shop for a whole module; tests ask for `shop`."""
    if not os.path.exists(lab_daemon.binary()):
        pytest.skip(f"no daemon at {lab_daemon.binary()}")
    with Shop(lab) as made:
        yield made


@pytest.fixture
def shop(open_shop, request):
    """The module's shop: one daemon, mints that were not asked lately. It must have survived each test, without a
    panic.
    """
    log_before = len(open_shop.daemon.log())
    open_shop.next_customer()
    yield open_shop
    log = open_shop.daemon.log()[log_before:]
    if getattr(request.node, "failed", False):
        print(f"--- log of {open_shop.daemon.dir}\n{log[-6000:]}")
    assert open_shop.daemon.running
    open_shop.daemon.must_be_sound()


@pytest.fixture
def stranger(lab):
    """A guest whom the shop has never seen, so that no limit and no request of another test is in the way."""
    return lab.guests[0].become_stranger()


@pytest.fixture
def other_stranger(lab):
    return lab.guests[1].become_stranger()


@pytest.fixture(scope="module")
def open_card_shop(lab):
    """One daemon with cards for a whole module; tests ask for `cards`."""
    if not os.path.exists(lab_daemon.binary()):
        pytest.skip(f"no daemon at {lab_daemon.binary()}")
    with CardShop(lab) as made:
        yield made


@pytest.fixture
def cards(open_card_shop, request):
    """The module's daemon with cards, its node well-behaved at first. It must have survived each test, without a
    panic.
    """
    shop = open_card_shop
    shop.node.next()
    log_before = len(shop.daemon.log())
    yield shop
    log = shop.daemon.log()[log_before:]
    if getattr(request.node, "failed", False):
        print(f"--- log of {shop.daemon.dir}\n{log[-6000:]}")
    assert shop.daemon.running
    shop.daemon.must_be_sound()
    assert not shop.node.complaints, shop.node.complaints


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> str:
    """The daemon without its debugging symbols, quick to copy and to pack."""
    path = str(tmp_path_factory.mktemp("program") / "tollgated")
    subprocess.run(["strip", "-o", path, lab_daemon.binary()], check=True)
    return path


@pytest.fixture
def router(lab, program, request):
    """A router's root with our files in their places; the service is not started. procd must have had nothing to
    complain of.
    """
    root = Root(lab.router, lab.path(f"root-{next(NUMBERS)}"))
    root.put_service(program)
    yield root
    if getattr(request.node, "failed", False):
        print(root.log()[-3000:], "\n".join(root.service()))
    complaints = root.read("tmp/procd/complaints")
    root.close()
    lab.clean_router()
    assert not complaints


@pytest.fixture(scope="session")
def lightning(tmp_path_factory):
    """Two lnd nodes with a channel, one pair for all tests of this process: a test that ends a node starts it
    again.
    """
    with LightningPair(str(tmp_path_factory.mktemp("lightning") / "pair")) as made:
        yield made


@pytest.fixture(scope="session")
def lnbits(tmp_path_factory):
    """A real LNbits; a test takes wallets of its own."""
    with Lnbits(str(tmp_path_factory.mktemp("lnbits") / "here")) as made:
        yield made


@pytest.fixture(scope="session")
def melting_mint(tmp_path_factory):
    """A real mint on loopback that pays invoices from ecash; a test says what comes of it (`mint.set`)."""
    port, ctl_port = free_ports(2)
    with Nutshell(HOST, dir=str(tmp_path_factory.mktemp("mint") / "here"), port=port, ctl_port=ctl_port) as made:
        yield made


@pytest.fixture(scope="module")
def browser(lab):
    """Chromium on the first guest, which finds names at the router as a phone does."""
    lab.start_dnsmasq()
    with Browser(lab.guest) as made:
        yield made


@pytest.fixture
def phone(browser):
    """`phone(dark=True)`: a page of a phone that remembers nothing (see `Browser.phone`). Whatever the test, nothing
    may be wrong on the phone's console at its end."""
    made = []

    def make(**options):
        made.append(browser.phone(**options))
        return made[-1]

    yield make
    problems = [problem for page in made for problem in browser.problems(page)]
    for page in made:
        page.context.close()
    assert not problems


# How the tests are shared out among workers: in units, of which each has fixtures of its own. A file is a unit, but
# for these. Tests that wait for a minute or so; they begin early, so that everything else is done meanwhile.
WAITING = (
    "test_silence_is_no_failure_and_what_was_never_sent",
    "test_power_cut_costs_at_most_a_minute",
    "test_mint_that_restarts_in_the_middle",
    "test_mints_that_are_silent_for_half_a_minute",
    "test_a_copied_ticket_is_refused",
)
# What shares peers that take long to start: real nodes and mints.
TOGETHER = (
    (r"test_lightning.py::.*\[melt", "melting"), (r"test_lightning.py::.*\[(cln|lnd|phoenixd|sphinx)", "stand-ins"),
    (r"test_lightning(_nodes)?.py::", "lnbits"), (r"test_(card|lightning)_lnd.py::", "lnd"),
)
# Files in so many parts.
PARTS = {
    "test_wallet": 3,
    "test_money": 3,
    "test_bytes": 2,
    "test_portal": 3,
    "test_service": 2,
    "test_portal_looks": 2,
    "test_store": 2,
    "test_crowd": 3,
    "test_mpesa": 3,
    "test_payouts": 4,
}
# The longest begin first: with the last of them begun last, all other workers would wait for one.
LONGEST = (
    "lnbits",
    "lnd",
    "test_before_paying",
    "test_portal_ecash",
    "test_tollgate_clients",
    "test_takings",
    *WAITING,
    "melting",
    "test_money",
    "test_bytes",
    "test_gate",
    "test_takings_mints",
    "test_wallet",
    "test_portal_looks",
    "test_portal",
    "test_store",
    "test_tollgate_mints",
    "test_card_melt",
    "test_service",
    "test_package",
    "test_crowd",
)


def units(nodeids: list[str]) -> dict[str, str]:
    """The unit of each test."""
    found = {}
    for file, tests in itertools.groupby(sorted(nodeids), lambda nodeid: nodeid.partition("::")[0]):
        name, tests = os.path.basename(file).removesuffix(".py"), list(tests)
        for number, nodeid in enumerate(tests):
            waiting = (test for test in WAITING if f"::{test}" in nodeid)
            together = (group for pattern, group in TOGETHER if re.search("/" + pattern, nodeid))
            part = f"{name} {number * PARTS[name] // len(tests)}" if name in PARTS else name
            found[nodeid] = next(itertools.chain(waiting, together), part)
    return found


class ByUnit(LoadFileScheduling):
    unit: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        self.unit = self.unit or units(self.collection)
        return self.unit[nodeid]


def pytest_xdist_make_scheduler(config, log):
    return ByUnit(config, log)


def pytest_collection_modifyitems(config, items):
    """Another mint than usual: only what asks for it."""
    unit = units([item.nodeid for item in items])
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(unit[item.nodeid].split()[0], len(rank)))
    if MINT != "nutshell":
        others = [item for item in items if "mint" not in item.fixturenames]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and report.failed:
        item.failed = True
    return report


def pytest_terminal_summary(terminalreporter, config):
    """For `make test-again`: what failed, a test a line. With workers, only the process that shares the work out
    writes.
    """
    record = os.path.join(str(config.rootpath), "target", "failed", "system")
    if hasattr(config, "workerinput") or not os.path.exists(record):
        return
    failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])}
    with open(record, "w") as file:
        file.writelines(f"{nodeid}\n" for nodeid in sorted(failed))

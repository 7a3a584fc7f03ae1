"""TollGate clients while something goes wrong: payments that are refused, a gate that fails with the money taken, a
store that cannot be used. What is known to lose people's money elsewhere does not happen here:

	a gate that fails, or a mint that stalls, burns the token        here, test_tollgate_mints.py
	a payment below the minimum is kept                              here
	sessions vanish while their mint is away, or with a restart      here, test_gate.py, test_bytes.py
	a bad token makes its mint count as away                         here
	a store on flash that cannot be mapped does not open             here
	a top-up gives back what was used                                test_tollgate_clients.py, test_bytes.py
	one token, posted twice at once, counts twice                    test_tollgate.py, test_wallet.py
	outputs that the mint has seen before brick the wallet           test_wallet.py
	invoices are forgotten with a restart                            test_tollgate.py, test_crash.py
	a new MAC address makes a stranger of who has paid               test_ticket.py
	only the first of two mints works                                test_tollgate_clients.py
	IPv6 leads past the portal; the end of a session goes unnoticed  test_gate.py
	a client must have been seen before it can pay; a top-up after
	a restart does not open the gate                                 here
	a configuration that cannot be read is replaced by defaults      test_operations.py, test_service.py
	the program does not fit into flash                              make size
"""

import json
import os

import pytest

from lab.books import Books
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.place import wait_for
from lab.payers import STEP, Purse, assert_notice, assert_session, offered, pay, sells_minutes, usage
from lab.tollgate_client import TOLLGATE, PortalSite, check_event, tag_of

POST_LIMIT = 20


@pytest.fixture
def purse(lab, fault_mint):
    return Purse(lab, fault_mint)


@pytest.fixture
def shop(make_daemon, fault_mint):
    return sells_minutes(make_daemon, fault_mint)


# Mints


def test_a_session_does_not_need_its_mint(shop, fault_mint, purse, stranger):
    assert_session(pay(stranger, purse.token(5))[0], 5 * STEP)
    fault_mint.close()
    assert_notice(pay(stranger, purse.forged())[0], 503, "service-unavailable")
    assert stranger.get(TOLLGATE + "/").json()["kind"] == 21023
    for restarted in (False, True):
        if restarted:
            shop.restart()
        assert (
            usage(stranger).endswith(f"/{5 * STEP}") and stranger.get(TOLLGATE + "/balance").json()["session_active"]
        )
        assert stranger.online()


def test_a_bad_token_does_not_make_its_mint_count_as_away(shop, fault_mint, purse, stranger):
    spent = purse.token(1)
    purse.wallet.receive(spent)
    assert_notice(pay(stranger, spent)[0], 402, "payment-error-token-spent")
    assert pay(stranger, purse.forged())[0].status == 402
    assert offered(stranger) == [fault_mint.url]
    assert_session(pay(stranger, purse.token(2))[0], 2 * STEP)


# What a status says of the money


@pytest.mark.parametrize(
    "fault, on, status, code",
    [
        ("token_spent", "swap", 402, "payment-error-token-spent"),
        ("token_pending", "swap", 503, "payment-processing-failed"),
        ("rate_limited", "swap", 503, "payment-outcome-unknown"),
        ("unprocessable", "swap", 402, "payment-processing-failed"),
        ("drop_before", "swap", 200, None),
        ("drop_after_commit", "swap", 200, None),
        ("keyset_inactive", "swap", 200, None),
    ],
)
def test_a_refusal_says_whether_the_same_token_is_worth_another_try(
    shop, fault_mint, purse, stranger, fault, on, status, code
):
    token = purse.token(4)
    fault_mint.misbehave(fault, times=1, on=on)
    answer, waited = pay(stranger, token)
    assert waited < POST_LIMIT
    if status == 200:
        assert_session(answer, 4 * STEP)
    else:
        assert_notice(answer, status, code)
        assert not purse.is_spent(token) and usage(stranger) == "-1/-1"
        wait_for(lambda: pay(stranger, token)[0].status == 200, 15, "the same token, later", every=1)
    assert usage(stranger).endswith(f"/{4 * STEP}") and Books(shop).takings(fault_mint.url).amount == 4


@pytest.mark.parametrize("fee_ppk, amount", [(0, 5), (1000, 7)])
def test_a_payment_below_the_minimum_is_refused_after_fees_and_stays_with_the_guest(
    lab, make_daemon, stranger, fee_ppk, amount
):
    """Three steps of 2 sat; what counts is what arrives after the mint's fee of a sat for each proof."""
    with FaultMint(lab.internet, MINT4, fee_ppk=fee_ppk) as mint:
        purse = Purse(lab, mint)
        make_daemon(Mint(mint.url, price=2, min_steps=3), venue={"step_size": STEP, "max_steps": 1000})
        token = purse.token(amount)
        event = assert_notice(pay(stranger, token)[0], 402, "session-error")
        assert "not taken" in event["content"] and ("fee" in event["content"]) == (fee_ppk > 0)
        assert not purse.is_spent(token) and usage(stranger) == "-1/-1"
        assert pay(stranger, purse.token(9 if fee_ppk else 6))[0].status == 200


# A gate, a machine and a store that fail


def test_a_gate_that_fails_after_the_token_was_taken_opens_by_itself(lab, make_daemon, fault_mint, purse, stranger):
    daemon = make_daemon(Mint(fault_mint.url), venue={"step_size": STEP}, start=False)
    tools = os.path.join(daemon.dir, "bin")
    os.mkdir(tools)
    nft, real = os.path.join(tools, "nft"), lab.router.run(["sh", "-c", "command -v nft"]).out.strip()
    os.symlink(real, nft)
    daemon.start(env={"PATH": tools})
    token = purse.token(3)

    def fail():
        os.remove(nft)
        lab.router.nft("delete table inet tollgate")

    fault_mint.when("swap", "done", fail)
    answer, waited = pay(stranger, token)
    event = assert_notice(answer, 503, "payment-received-grant-pending")
    assert waited < POST_LIMIT and "do NOT need to pay again" in event["content"]
    assert purse.is_spent(token) and not stranger.online(timeout=0.5)
    assert_notice(pay(stranger, token)[0], 503, "payment-received-grant-pending")
    os.symlink(real, nft)
    wait_for(lambda: stranger.online(timeout=0.5), 15, "the way opens by itself")
    assert_session(pay(stranger, token)[0], 3 * STEP)
    assert Books(daemon).takings(fault_mint.url).amount == 3


def test_a_client_that_was_never_seen_pays_with_its_first_packet_and_tops_up_after_a_restart(
    shop, lab, purse, stranger
):
    assert_session(pay(stranger, purse.token(1))[0], STEP)
    assert stranger.online()
    shop.stop()
    lab.clean_router()
    shop.start()
    assert_session(pay(stranger, purse.token(2))[0], 3 * STEP)
    assert stranger.online()


def test_bytes_are_not_sold_where_they_cannot_be_counted(lab, make_daemon, fault_mint, purse, stranger):
    """Flow offloading lets packets pass that nobody counts."""
    daemon = make_daemon(Mint(fault_mint.url), venue={"metric": "bytes", "step_size": 1 << 20})
    token = purse.token(2)
    lab.router.nft("add table inet faster")
    if lab.router.nft(
        'add flowtable inet faster way { hook ingress priority 0; devices = { "br-guest", "wan" }; }', check=False
    ):
        lab.router.nft("delete table inet faster")
        pytest.skip("this kernel has no flow tables")
    try:
        wait_for(lambda: "flow offloading" in str(daemon.status()["data"]["not_ready"]), 5)
        event = check_event(stranger.get(TOLLGATE + "/").json())
        assert (event["kind"], tag_of(event, "code")) == (21023, "service-unavailable")
        assert_notice(pay(stranger, token)[0], 503, "service-unavailable")
        assert not purse.is_spent(token)
    finally:
        lab.router.nft("delete table inet faster")
    wait_for(lambda: offered(stranger) == [fault_mint.url], 65)
    assert_session(pay(stranger, token)[0], 2 << 20)


def test_a_store_that_cannot_be_used_sells_nothing_and_says_so_on_every_path(shop, fault_mint, purse, stranger):
    token = purse.token(1)
    shop.stop()
    with open(os.path.join(shop.state_dir, "store.db"), "r+b") as file:
        file.write(b"x" * 100)
    shop.start()
    site = PortalSite(stranger)
    assert site.fetch("GET", "/usage").text == "-1/-1" and site.fetch("GET", "/whoami").text == f"mac={stranger.mac}"
    balance = site.fetch("GET", "/balance")
    assert (balance.status, balance.json()) == (
        500,
        {
            "status": 0,
            "session_active": False,
            "usage": 0,
            "allotment": 0,
            "remaining": 0,
            "error": "failed to retrieve usage data",
        },
    )
    for method, path, body in [
        ("GET", "/", None),
        ("POST", "/", token.encode()),
        ("GET", "/identity", None),
        ("GET", "/session-state", None),
    ]:
        answer = site.fetch(method, path, body)
        assert (answer.status, answer.json()["code"]) == (503, "STORE_CORRUPT")
    invoice = site.fetch("POST", "/ln-invoice", {"amount": 1, "mint_url": fault_mint.url})
    assert (invoice.status, invoice.json()["error"]) == (400, "failed to create lightning invoice")
    status = site.fetch("GET", "/ln-invoice?quote=x")
    assert (status.status, status.json()["error"]) == (500, "failed to fetch invoice status")
    assert not purse.is_spent(token)


def test_no_file_of_the_store_is_mapped_so_that_any_flash_filesystem_will_do(shop, purse, stranger):
    assert_session(pay(stranger, purse.token(1))[0], STEP)
    with open(f"/proc/{shop.process.host_pid}/maps") as maps:
        assert [line for line in maps if shop.state_dir in line] == []
    assert not os.path.exists(os.path.join(shop.state_dir, "store.db-shm"))


# Configuration


MEGA = 1 << 20


def test_what_existing_portals_cannot_show_is_warned_of_with_what_they_show_instead(lab, make_daemon):
    daemon = make_daemon(start=False)
    for option, value, shown in [
        ("step_size", 1024, "show 2048 sat for 1.04 MB"),
        ("step_size", 500_000, "show 6 sat for 1.5 MB"),
        ("step_size", MEGA - 1, "show 4 sat for 2.09 MB"),
        ("step_size", MEGA, None),
        ("min_steps", 5, "show 10 sat for 5.24 MB"),
        ("min_steps", 1, None),
        ("min_steps", 0, None),
    ]:
        options = {"min_steps": 1, "step_size": MEGA} | {option: value}
        daemon.mints = [Mint("https://mint.example", 2, options["min_steps"])]
        daemon.venue |= {"metric": "bytes", "step_size": options["step_size"], "max_steps": 2000}
        daemon.write_config()
        checked = daemon.command("check", "--json")
        warned = [one for one in problems(checked) if one["severity"] == "warning" and one["option"] == option]
        assert len(warned) == bool(shown), checked.out
        assert not shown or shown in warned[0]["message"], checked.out


def problems(checked) -> list[dict]:
    """What `check --json` found."""
    return json.loads(checked.out)["data"]["problems"]


def test_prices_and_steps_of_nothing_are_refused_with_the_reason(lab, make_daemon):
    daemon = make_daemon(start=False)
    for option, value, reason in [
        ("step_size", 1023, None),
        ("step_size", 0, "from 1 to"),
        ("price_per_step", 0, "from 1 to"),
        ("price_per_step", "0.5", "from 1 to"),
        ("min_steps", 0, None),
    ]:
        options = {"price_per_step": 1, "min_steps": 1, "step_size": MEGA} | {option: value}
        daemon.mints = [Mint("https://mint.example", options["price_per_step"], options["min_steps"])]
        daemon.venue |= {"metric": "bytes", "step_size": options["step_size"]}
        daemon.write_config()
        checked = daemon.command("check", "--json", check=False)
        errors = [one for one in problems(checked) if one["severity"] == "error"]
        assert checked.code == bool(reason) and [one["option"] for one in errors] == ([option] if reason else []), (
            checked.out
        )
        assert not reason or reason in errors[0]["message"]


def test_existing_portals_show_the_true_price_of_what_is_sold_in_several_steps(
    make_daemon, fault_mint, purse, stranger
):
    sold = {"metric": "bytes", "step_size": 400_000, "max_steps": 1000}
    make_daemon(Mint(fault_mint.url, price=2, min_steps=5), venue=sold)
    site = PortalSite(stranger)
    offer = site.load()
    (option,) = site.prices
    promised = site.promised(20, option)
    answer = site.buy(offer, purse.token(20))
    assert site.shown(answer) == "success" and int(tag_of(answer.json(), "allotment")) == promised == 4_000_000
    assert site.promised(option.price, option) == 5 * 400_000, "the least that there is"

"""M-Pesa in mode `relay`: what Daraja tells the relay makes the router ask, the relay holds the token, and where it
is away guests buy all the same.
"""

import shutil

import pytest

from lab.darajasim import DarajaSim
from lab.guest import ROUTER4
from lab.place import PATIENCE, wait_for
from lab.relay import Relay
from lab.shillings import sections

PUBLIC_NAME = "https://relay.example.net"
PORTAL = f"http://{ROUTER4}:2121"
PHONE = "254712345678"
# Slow: by itself the router would not ask before a test is over.
PACE = 1


@pytest.fixture
def sim(lab):
    with DarajaSim(lab.router, "127.0.0.1", speed=10) as made:
        made.settings.spike = 100
        yield made


@pytest.fixture
def relay(lab, sim):
    with Relay(lab.path(f"relay-{sim.port}"), sim.url, routers=["r1", "r2"], place=lab.router) as made:
        sim.routes[PUBLIC_NAME] = ("127.0.0.1", made.port)
        yield made


def make_router(make_daemon, lab, sim, relay, name="r1", pace=PACE):
    options = {"mode": "relay", "pace": pace, "relay_url": relay.url, "relay_key_file": relay.key_file(name)}
    made = sections(lab, sim.url, **options)
    made["mpesa"]["callback_url"] = f"{PUBLIC_NAME}/cb/{name}"
    return make_daemon(sections=made)


def order(guest):
    answer = guest.post(f"{PORTAL}/mpesa", {"price": "1h", "phone": PHONE})
    assert answer.status == 201, answer
    return answer.json()["order"]


def state(guest, number):
    return guest.get(f"{PORTAL}/mpesa/{number}").json()["state"]


def utility(daemon):
    rows = daemon.data("fiat", "ledger")["balances"]
    return sum(row["balance"] for row in rows if row["account"] == "mpesa_utility")


def test_a_call_at_the_relay_makes_the_router_ask_and_tells_the_receipt(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay)
    sim.script(None, {"scenario": "ok", "delay": 10})
    number = order(lab.guest)
    # A second of this time: long before the first look of its own, after 8 s.
    wait_for(lambda: state(lab.guest, number) == "granted", 7, "the guest is online")
    assert sim.count("stkpushquery") == 1 and sim.count("processrequest") == 1
    assert daemon.data("fiat", "order", number)["receipt"] == sim.rows[0]["receipt"]
    assert utility(daemon) == sim.paid_in == 20
    (event,) = relay.events("r1")
    wait_for(lambda: relay.events("r1", event["seq"]) == [], PATIENCE, "nothing is left")


def test_a_forged_call_at_the_relay_pays_for_nothing(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay)
    sim.script(None, "never")
    number = order(lab.guest)
    wait_for(lambda: sim.payments, PATIENCE, "the prompt")
    (payment,) = sim.payments.values()
    token = payment.callback_url.rsplit("/", 1)[1]
    items = [{"Name": "Amount", "Value": 20}, {"Name": "MpesaReceiptNumber", "Value": "SFORGED234"}]
    forged = {"CheckoutRequestID": payment.checkout, "MerchantRequestID": "x", "ResultCode": 0, "ResultDesc": "ok"}
    forged["CallbackMetadata"] = {"Item": items}
    for body in ({"Body": {"stkCallback": forged}}, b"<html>", b"[" * 60_000):
        assert relay.ask("POST", f"/cb/r1/{token}", body).status == 200
    assert relay.call("r1", "0" * 32, {"Body": {"stkCallback": forged}}) == 200
    wait_for(lambda: sim.count("stkpushquery") >= 1, PATIENCE, "the router asks")
    assert state(lab.guest, number) == "pending" and lab.guest.get(f"{PORTAL}/usage").text.startswith("-1")


def test_calls_of_strangers_at_the_relay_cost_the_router_no_writes(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay)
    commits = lambda: daemon.status()["data"]["store"]["commits"]
    before = commits()
    for number in range(40):
        assert relay.call("r1", f"{number:032x}", {"Body": {}}) == 200
    sim.script(None, {"scenario": "ok", "delay": 10})
    number = order(lab.guest)
    wait_for(lambda: state(lab.guest, number) == "granted", PATIENCE, "what is an order's is heard behind them")
    assert commits() - before < 30, "those of a sale"


def test_two_routers_share_one_token_and_a_killed_one_is_replaced_once(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay, pace=10)
    assert relay.token("r2").status == 200
    first = order(lab.guest)
    wait_for(lambda: state(lab.guest, first) == "granted", PATIENCE, "online")
    assert sim.count("oauth") == 1
    sim.kill_tokens()
    sim.advance(200)
    daemon.restart()
    second = lab.guests[1].post(f"{PORTAL}/mpesa", {"price": "1h", "phone": "254712345679"}).json()["order"]
    wait_for(lambda: state(lab.guests[1], second) == "granted", PATIENCE, "online")
    assert sim.count("oauth") == 2
    assert utility(daemon) == sim.paid_in == 40


def test_without_the_relay_guests_buy_and_what_it_kept_is_collected_later(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay, pace=10)
    relay.kill()
    number = order(lab.guest)
    wait_for(lambda: state(lab.guest, number) == "granted", PATIENCE, "online by asking alone")
    assert daemon.data("status")["mpesa"]["relay_trouble"]
    assert utility(daemon) == sim.paid_in == 20
    relay.start()
    wait_for(lambda: daemon.data("status")["mpesa"]["relay_trouble"] is None, PATIENCE, "the relay is back")
    sim.again(next(iter(sim.payments)))
    wait_for(lambda: relay.events("r1"), PATIENCE, "kept")
    wait_for(lambda: daemon.data("fiat", "order", number)["receipt"], PATIENCE, "the receipt is known now")
    assert utility(daemon) == sim.paid_in == 20 and sim.count("processrequest") == 1


def test_a_relay_that_has_lost_its_store_is_asked_for_all_that_it_has_now(lab, make_daemon, sim, relay):
    daemon = make_router(make_daemon, lab, sim, relay)
    sim.script(None, {"scenario": "ok", "delay": 10}, {"scenario": "drop_response_after_accept", "delay": 30})
    first = order(lab.guest)
    wait_for(lambda: state(lab.guest, first) == "granted", 7, "the guest is online")
    second = lab.guests[1].post(f"{PORTAL}/mpesa", {"price": "1h", "phone": "254712345679"}).json()["order"]
    wait_for(lambda: state(lab.guests[1], second) == "unknown", PATIENCE, "only a call can tell of it")
    daemon.kill()
    relay.kill()
    shutil.rmtree(f"{relay.dir}/state")
    relay.start()
    wait_for(lambda: relay.events("r1"), PATIENCE, "its first call, with a number that the router has heard before")
    daemon.start()
    wait_for(lambda: state(lab.guests[1], second) == "granted", PATIENCE, "online")
    assert utility(daemon) == sim.paid_in == 40

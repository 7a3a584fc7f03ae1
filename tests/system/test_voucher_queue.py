"""Orders of vouchers whose sender does not wait for a mint: a shop's notice of a payment, and `queue`. All of their
tickets are made, once, or none is, and then the sender is told at once. What waits for a mint's invoice comes again
for it.
"""

import concurrent.futures
import time

import pytest

from lab.daemon import Mint
from lab.internet import AWAY
from lab.office import PRODUCT, Office, error, new_id, secret_file, ticket
from lab.place import wait_for
from lab.purse import Customers

STEP = 60_000


def notice(product, *ids, sat=10, event=None, order=None) -> dict:
    tickets = [{"id": id} for id in ids]
    order = {"id": event or new_id(), "orderId": order or new_id(), "tickets": tickets, "eventId": product}
    return order | {"userId": "u-1", "amount": sat * len(ids), "currency": "SAT"}


def queued(office, *ids, product=PRODUCT, key=None):
    body = {"ticketIds": list(ids), "eventId": product, "userId": "u-1", "queue": True}
    return office.signed("/internal/mint-tickets", body, key=key)


def made(office) -> int:
    return office.ask("GET", "/admin/dashboard").json()["totalMints"]


class Till(Customers):
    """A router that has takings, a mint that may fail, and a shop."""

    def __init__(self, lab, mint, daemon) -> None:
        super().__init__(lab, mint, daemon, STEP)
        self.office, self.mint = Office(lab, daemon), mint
        assert daemon.data("wallet", "receive", self.token(500))

    def takings(self) -> int:
        return sum(row["balance"] for row in self.daemon.data("wallet", "balance")["mints"])

    def status(self, id) -> str:
        return self.office.ticket(id)["status"]


def till_with(lab, mint, make_daemon, **more) -> Till:
    sections = {
        "hmac_key": {"id": "shop", "secret_file": secret_file(lab)},
        "webhook": {"secret_file": secret_file(lab)},
        "product backed": {"id": PRODUCT, "venue": "guest", "sat": 10, "funding": "treasury"},
        "product late": {"id": "late", "venue": "guest", "sat": 10, "funding": "invoice"},
        **more,
    }
    return Till(lab, mint, make_daemon(Mint(mint.url), sections=sections))


@pytest.fixture
def till(lab, fault_mint, make_daemon):
    return till_with(lab, fault_mint, make_daemon)


def test_tickets_that_cannot_all_be_made_are_refused_and_none_is(make_office):
    rare = {"id": "rare", "venue": "guest", "sat": 10, "funding": "none", "max_supply": 2}
    office = make_office(AWAY, product__rare=rare)
    first, second, third, other = (new_id() for _ in range(4))
    many = notice("rare", first, second, third)
    assert error(office.webhook(many)) == (409, "max_supply_reached")
    assert error(queued(office, first, second, third, product="rare")) == (409, "max_supply_reached")
    assert made(office) == 0
    # Nothing of it is bound: the shop may order fewer, under the same names.
    fewer = notice("rare", first, event=many["id"], order=many["orderId"])
    assert office.webhook(fewer).json()["success"] and made(office) == 1
    of_a_batch = ticket(10)
    assert office.batch(of_a_batch).status == 200
    assert error(office.webhook(notice(PRODUCT, other, of_a_batch["id"]))) == (409, "ticket_exists")
    assert error(queued(office, other, of_a_batch["id"])) == (409, "ticket_exists")
    assert made(office) == 2
    # What a service has ordered itself is no hindrance.
    assert queued(office, other).status == queued(office, other).status == 202
    assert made(office) == 3


def test_orders_in_the_queue_are_taken_without_their_mint_and_made_once(till):
    office, mint, key = till.office, till.mint, new_id()
    mint.misbehave("down")
    paid, waits = new_id(), new_id()
    told, began = notice(PRODUCT, paid), time.monotonic()
    taken = office.webhook(told)
    first = queued(office, waits, key=key)
    assert (taken.status, first.status) == (200, 202), (taken, first)
    assert time.monotonic() - began < 2, "no mint was waited for"
    till.crash()
    mint.behave()
    till.revive()
    wait_for(lambda: {till.status(paid), till.status(waits)} == {"ready"}, 60, "both are made")
    assert office.webhook(told).json()["status"] == "already_processed"
    assert office.webhook({**told, "id": new_id()}).json()["jobIds"] == taken.json()["jobIds"]
    assert queued(office, waits, key=key).body == first.body
    assert till.takings() == 480 and made(office) == 2


def test_what_is_cut_off_in_the_queue_and_cannot_be_made_gives_its_limit_back_once(lab, fault_mint, make_daemon):
    till = till_with(lab, fault_mint, make_daemon, limit={"day": 50})
    office, mint, key, ids = till.office, till.mint, new_id(), [new_id() for _ in range(4)]
    mint.misbehave("down")
    first = queued(office, *ids, key=key)
    assert first.status == 202 and error(office.batch(ticket(11))) == (403, "limit_exceeded")
    till.crash()
    mint.behave()
    mint.misbehave("unprocessable", on="swap")
    till.revive()
    # If a swap was sent before the crash, the mint's no counts once no such request can still be on its way.
    wait_for(lambda: {till.status(id) for id in ids} == {"failed"}, 200, "the mint refuses them")
    assert queued(office, *ids, key=key).body == first.body and till.takings() == 500
    assert office.batch(ticket(50)).status == 200, "they have taken nothing of the limit"
    assert error(office.batch(ticket(1))) == (403, "limit_exceeded")


def test_a_notice_that_comes_twenty_times_at_once_makes_one_batch(till):
    office, ids, order = till.office, [new_id(), new_id()], new_id()
    told = [notice(PRODUCT, *ids, event=f"event-{number % 3}", order=order) for number in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(office.webhook, told))
    assert {answer.status for answer in answers} == {200}, answers
    (job,) = {answer.json()["jobIds"][0] for answer in answers if "jobIds" in answer.json()}
    wait_for(lambda: {till.status(id) for id in ids} == {"ready"}, 60, "both are made")
    assert {office.ticket(id)["batchId"] for id in ids} == {job}
    assert till.takings() == 480 and made(office) == 2


def test_a_mint_that_is_left_alone_holds_up_no_queue(till):
    office, mint = till.office, till.mint
    mint.misbehave("broken")

    def is_open():
        office.batch(ticket(10), funding="treasury")
        return "open" in office.ask("GET", "/admin/dashboard").json()["breakers"].values()

    wait_for(is_open, 60, "the breaker opens", every=0.2)
    id = new_id()
    assert queued(office, id).status == 202 and till.status(id) == "minting"
    mint.behave()
    wait_for(lambda: till.status(id) == "ready", 120, "it is made")


def test_an_invoice_that_cannot_be_had_now_is_had_when_the_same_order_comes_again(till):
    office, mint, daemon = till.office, till.mint, till.daemon
    mint.misbehave("down")
    one, key, told = ticket(13), new_id(), notice("late", new_id())

    def ask():
        return office.batch(one, key=key, funding="invoice")

    for refused in (ask(), office.webhook(told)):
        assert error(refused) == (503, "mint_unavailable") and int(refused.headers["retry-after"]) >= 1
    assert till.status(one["id"]) == till.status(told["tickets"][0]["id"]) == "awaiting_payment"
    # Who orders at the counter has no voucher then, and is not told to wait for one.
    counter = daemon.command("voucher", "create", "2", "--sat", "5", "--funding", "invoice", check=False)
    assert counter.code and "no vouchers were made: the mint cannot be reached\n" in counter.out
    counted = [row["state"] for row in daemon.data("voucher", "list")["vouchers"] if row["face_sat"] == 5]
    assert counted == ["failed", "failed"]
    mint.behave()

    def had_now():
        answer = ask()
        return answer if answer.status == 202 else None

    had = wait_for(had_now, 60, "the mint is back", every=1.0)
    assert had.json()["amount"] == 13 and ask().body == had.body
    assert "invoice" in office.webhook(told).json()
    mint.pay(had.json()["invoice"])
    wait_for(lambda: till.status(one["id"]) == "ready", 40, "it is paid for")


def test_an_order_that_no_invoice_can_pay_for_is_refused_before_it_is_written(till):
    many = [ticket(1023) for _ in range(100)]
    assert error(till.office.batch(*many, funding="invoice")) == (400, "invalid_input")
    counter = till.daemon.command("voucher", "create", "100", "--sat", "1023", "--funding", "invoice", check=False)
    assert counter.code and made(till.office) == 0
    assert till.office.batch(*many, funding="none").status == 200, "their ids are free"

"""The counter's own orders over HTTP: once for each key, by others' leave above a limit, and errors in one form."""

import concurrent.futures
import json
import random
import time

import pytest

from lab.daemon import Mint
from lab.fake_clock import FakeClock, needs_faketime
from lab.internet import AWAY
from lab.office import Office, error, new_id, ticket
from lab.place import wait_for
from lab.treasury import Treasury
from lab.voters import signed_in, voters

VOUCHERS = "/admin/vouchers"


@pytest.fixture
def office(make_office):
    return make_office()


def test_vouchers_are_made_once_for_a_key_and_answered_alike(office):
    key, order = new_id(), {"n": 3, "time": "1h", "note": "room 12"}
    first = office.ask("POST", VOUCHERS, order, key)
    assert first.status == 200, first
    code = first.json()["vouchers"][0]["code"]
    again = office.ask("POST", VOUCHERS, order, f'"{key}"')
    assert again.body == first.body and again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    office.daemon.kill()
    office.daemon.start()
    assert office.ask("POST", VOUCHERS, order, key).body == first.body
    assert error(office.ask("POST", VOUCHERS, {**order, "n": 4}, key)) == (422, "idempotency_key_reused")
    assert error(office.ask("POST", VOUCHERS, order, "short")) == (400, "idempotency_key_invalid")
    assert office.ask("GET", VOUCHERS).json()["total"] == 3
    # Where no key is sent, the same is another order.
    assert office.ask("POST", VOUCHERS, order).status == 200
    assert office.ask("GET", VOUCHERS).json()["total"] == 6
    assert code not in office.daemon.log()


def test_a_refused_order_does_not_use_its_key_up(office):
    key = new_id()
    for wrong in ({}, {"time": "x"}, {"time": "1h", "venue": "nowhere"}, {"time": "1h", "n": 501}):
        assert office.ask("POST", VOUCHERS, wrong, key).status in (400, 404), wrong
    assert office.ask("POST", VOUCHERS, {"time": "1h"}, key).status == 200


def test_parallel_orders_with_one_key_make_one_batch(office):
    key = new_id()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: office.ask("POST", VOUCHERS, {"n": 5, "time": "1h"}, key), range(20)))
    assert {answer.status for answer in answers} <= {200, 409}
    assert len({answer.body for answer in answers if answer.status == 200}) == 1
    assert office.ask("GET", VOUCHERS).json()["total"] == 5


def test_a_revocation_is_carried_out_once_for_a_key(office):
    order = office.ask("POST", VOUCHERS, {"n": 2, "time": "1h"}, **{"X-Request-Id": "ordered-1"})
    one, other = order.json()["vouchers"]
    key, path = new_id(), f"{VOUCHERS}/{one['id']}/revoke"
    first = office.ask("POST", path, None, key, **{"X-Request-Id": "revoked-1"})
    assert (first.status, first.json()) == (200, {"id": one["id"], "state": "revoked"})
    office.daemon.kill()
    office.daemon.start()
    again = office.ask("POST", path, None, key)
    assert again.body == first.body and again.headers["idempotent-replayed"] == "true"
    steps = office.ask("GET", f"{VOUCHERS}/{one['id']}/history").json()["history"]
    assert [(step["from"], step["to"], step["request_id"]) for step in steps] == [
        (None, "ready", "ordered-1"), ("ready", "revoked", "revoked-1"),
    ]
    # A key is of its path.
    assert office.ask("POST", f"{VOUCHERS}/{other['id']}/revoke", None, key).json()["id"] == other["id"]
    assert error(office.ask("POST", f"{VOUCHERS}/{new_id()}/revoke", None, key)) == (404, "voucher_unknown")


def test_an_order_that_is_killed_at_any_moment_is_made_once_under_its_key(lab, mint, make_daemon):
    treasury = Treasury(lab, mint, make_daemon(Mint(mint.url)), 2000)
    office, chance = Office(lab, treasury.daemon), random.Random(24)
    order = {"n": 10, "sat": 7, "funding": "treasury"}
    for _ in range(6):
        key = new_id()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            making = pool.submit(office.ask, "POST", VOUCHERS, order, key)
            time.sleep(chance.uniform(0.01, 0.3))
            treasury.crash()
            making.exception()
        treasury.revive()
        wait_for(lambda: office.ask("POST", VOUCHERS, order, key).status == 200, 60, "the order is made")
        answer = office.ask("POST", VOUCHERS, order, key)
        assert len(answer.json()["vouchers"]) == 10
        assert office.ask("POST", VOUCHERS, order, key).body == answer.body
    wait_for(lambda: treasury.locked("ready") == 6 * 70, 60, "all are backed")
    assert treasury.takings() == 2000 - 6 * 70
    assert treasury.rows("SELECT COUNT(*) FROM vouchers") == [(60,)]


def test_what_cannot_be_backed_is_said_alike_again_and_given_back_once(make_office):
    office = make_office(limit={"day": 100})
    key, order = new_id(), {"sat": 60, "funding": "treasury"}
    first = office.ask("POST", VOUCHERS, order, key)
    assert error(first) == (409, "insufficient_treasury")
    assert office.ask("POST", VOUCHERS, order, key).body == first.body
    assert office.ask("GET", VOUCHERS).json()["total"] == 1
    assert office.ask("POST", VOUCHERS, {"sat": 100}).status == 200
    assert error(office.ask("POST", VOUCHERS, {"sat": 1})) == (403, "limit_exceeded")


@pytest.fixture
def shared(make_office):
    """Above 50 sat, and above 100 a day, two others have to agree."""
    roles = voters(["cashier", "manager", "manager", "owner", "cashier"])
    return make_office(limit={"day": 100}, approval={"above": 50, "required": 2}, **roles)


def test_above_a_limit_two_others_agree_and_the_first_request_is_answered(shared):
    cashier, key, order = signed_in(shared, 0), new_id(), {"n": 6, "sat": 10}
    first = cashier.ask("POST", VOUCHERS, order, key)
    waits = first.json()
    assert first.status == 202 and waits.keys() == {
        "status", "approvalId", "requestHash", "required", "approvals", "expiresAt"
    }
    assert (waits["status"], waits["required"], waits["approvals"]) == ("pending_approval", 2, 0)
    assert cashier.ask("POST", VOUCHERS, order, key).body == first.body
    assert shared.ask("GET", VOUCHERS).json()["total"] == 0, "nothing is made yet"
    path, vote = f"/admin/approvals/{waits['approvalId']}", {"requestHash": waits["requestHash"]}
    assert error(cashier.ask("POST", f"{path}/approve", vote, new_id())) == (403, "forbidden")
    assert error(signed_in(shared, 4).ask("POST", f"{path}/approve", vote, new_id())) == (403, "forbidden")
    one, other = signed_in(shared, 1), signed_in(shared, 2)
    wrong = {"requestHash": "00" * 32}
    assert error(one.ask("POST", f"{path}/approve", wrong, new_id())) == (409, "request_hash_mismatch")
    for _ in range(2):
        told = one.ask("POST", f"{path}/approve", vote, new_id())
        assert (told.status, told.json()["approvals"], told.json()["status"]) == (200, 1, "pending")
    shared.daemon.kill()
    shared.daemon.start()
    last = other.ask("POST", f"{path}/approve", vote, new_id())
    assert (last.status, last.json()["status"], last.json()["approvals"]) == (200, "executed", 2), last
    final = cashier.ask("POST", VOUCHERS, order, key)
    assert (final.status, len(final.json()["vouchers"])) == (200, 6)
    assert final.headers["idempotent-replayed"] == "true"
    made = shared.ask("GET", VOUCHERS).json()
    assert made["total"] == 6 and {row["created_by"] for row in made["vouchers"]} == {"w0"}
    assert cashier.ask("POST", VOUCHERS, order, key).body == final.body


def test_limits_that_others_have_agreed_to_raise_are_raised_with_a_row_of_the_one_who_asked(shared):
    waits = shared.ask("PUT", "/admin/limits", {"day": 500}).json()
    path, vote = f"/admin/approvals/{waits['approvalId']}/approve", {"requestHash": waits["requestHash"]}
    for number in (1, 2):
        assert signed_in(shared, number).ask("POST", path, vote, new_id()).status == 200
    rows = [row for row in shared.daemon.data("audit") if row["target"] == waits["approvalId"]]
    assert [(row["who"], row["role"], row["what"], row["result"]) for row in rows] == [
        ("token", "owner", "limits", "pending_approval"),
        ("w1", "manager", "approve", "ok"),
        ("w2", "manager", "approve", "ok"),
        ("token", "owner", "limits", "ok"),
    ]


def test_limits_are_asked_for_once_under_a_key_and_answered_as_they_are_decided(shared):
    owner, key, limits = signed_in(shared, 3), new_id(), {"day": 300}
    first = owner.ask("PUT", "/admin/limits", limits, key)
    assert first.status == 202, first
    again = owner.ask("PUT", "/admin/limits", limits, key)
    assert again.body == first.body and again.headers["idempotent-replayed"] == "true"
    assert error(owner.ask("PUT", "/admin/limits", {"day": 301}, key)) == (422, "idempotency_key_reused")
    assert error(owner.ask("PUT", "/admin/limits", limits, "short")) == (400, "idempotency_key_invalid")
    assert shared.ask("GET", "/admin/dashboard").json()["pendingApprovals"] == 1
    waits = first.json()
    path, vote = f"/admin/approvals/{waits['approvalId']}/approve", {"requestHash": waits["requestHash"]}
    for number in (1, 2):
        last = signed_in(shared, number).ask("POST", path, vote, new_id())
    assert (last.status, last.json()["status"]) == (200, "executed")
    final = owner.ask("PUT", "/admin/limits", limits, key)
    assert (final.status, final.json()) == (200, last.json())


@needs_faketime
def test_what_nobody_has_decided_in_time_is_over_for_all_who_ask(lab, make_daemon):
    clock, roles = FakeClock(lab), voters(["manager", "manager", "manager"])
    daemon = make_daemon(AWAY, start=False, sections={**roles, "approval": {"above": 50, "required": 2}})
    daemon.start(env=clock.env)
    office, key, one = Office(lab, daemon), new_id(), ticket(60)
    first = office.batch(one, key=key)
    assert first.status == 202 and office.batch(one, key=key).body == first.body
    waits = first.json()
    clock.later(2 * 3600 + 60)
    wait_for(lambda: office.batch(one, key=key).status != 202, 20, "it is over")
    late = office.batch(one, key=key)
    assert error(late) == (410, "approval_expired") and late.headers["idempotent-replayed"] == "true"
    assert error(office.batch(ticket(61), key=key)) == (422, "idempotency_key_reused")
    vote = {"requestHash": waits["requestHash"]}
    for way in ("approve", "reject"):
        voted = signed_in(office, 1).ask("POST", f"/admin/approvals/{waits['approvalId']}/{way}", vote, new_id())
        assert error(voted) == (410, "approval_expired")
    assert office.batch(one).status == 202, "another request may be decided"


def test_an_initiator_has_no_vote_and_a_rejection_is_final(shared):
    manager, key, order = signed_in(shared, 1), new_id(), {"sat": 60}
    waits = manager.ask("POST", VOUCHERS, order, key).json()
    path, vote = f"/admin/approvals/{waits['approvalId']}", {"requestHash": waits["requestHash"]}
    assert error(manager.ask("POST", f"{path}/approve", vote, new_id())) == (403, "initiator_cannot_vote")
    told = signed_in(shared, 3).ask("POST", f"{path}/reject", vote, new_id())
    assert (told.status, told.json()["status"]) == (200, "rejected")
    assert error(signed_in(shared, 2).ask("POST", f"{path}/approve", vote, new_id())) == (409, "already_decided")
    assert error(manager.ask("POST", VOUCHERS, order, key)) == (403, "approval_rejected")
    assert shared.ask("GET", VOUCHERS).json()["total"] == 0


def test_what_is_refused_again_and_again_is_counted_in_the_audit_log(shared):
    manager = signed_in(shared, 1)
    waits = manager.ask("POST", VOUCHERS, {"sat": 60}, new_id()).json()
    path, vote = f"/admin/approvals/{waits['approvalId']}/approve", {"requestHash": waits["requestHash"]}
    for _ in range(30):
        assert error(manager.ask("POST", path, vote, new_id())) == (403, "initiator_cannot_vote")
    other = signed_in(shared, 2)
    for _ in range(30):
        assert other.ask("POST", path, vote, new_id()).status == 200
    rows = [row for row in shared.daemon.data("audit") if row["what"] in ("approve", "several")]
    assert sum(row["count"] for row in rows) == 60 and len(rows) <= 12
    assert [row["who"] for row in rows if row["result"] == "ok"] == ["w2"], "one vote, one row"


def test_orders_above_a_limit_that_nobody_can_raise_are_counted_in_the_audit_log(make_office):
    office = make_office(limit={"day": 100})
    for _ in range(15):
        assert error(office.batch(ticket(101))) == (403, "limit_exceeded")
        assert error(office.ask("POST", VOUCHERS, {"sat": 101}, new_id())) == (403, "limit_exceeded")
    rows = [row for row in office.daemon.data("audit") if row["result"] == "limit_exceeded"]
    assert sum(row["count"] for row in rows) == 30 and len(rows) <= 12


def test_many_small_orders_wait_as_well_once_the_day_is_over_its_limit(shared):
    answers = [shared.ask("POST", VOUCHERS, {"sat": 40}) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 202, 202]
    assert shared.ask("GET", "/admin/dashboard").json()["pendingApprovals"] == 2
    # The shell is told so at once.
    refused = shared.daemon.command("voucher", "create", "--sat", "40", check=False)
    assert refused.code == 1 and "limit" in refused.out


def test_paths_that_are_none_and_other_methods_have_the_one_form_of_errors(office):
    for path in (f"{VOUCHERS}/a/b", f"{VOUCHERS}/x/y/z", f"{VOUCHERS}/{new_id()}/nothing"):
        assert error(office.ask("GET", path)) == (404, "not_found"), path
    wrong = office.ask("DELETE", VOUCHERS)
    assert error(wrong) == (405, "method_not_allowed") and wrong.headers["allow"] == "GET, POST"
    wrong = office.ask("PUT", f"{VOUCHERS}/{new_id()}/revoke", {})
    assert error(wrong) == (405, "method_not_allowed") and wrong.headers["allow"] == "POST"
    stranger = office.raw("GET", VOUCHERS)
    assert error(stranger) == (401, "unauthorized")
    assert error(office.raw("POST", f"{VOUCHERS}/x/y", b"{}")) == (401, "unauthorized")


HOSTILE = [
    {},
    [],
    None,
    {"time": "1h", "venue": []},
    {"time": {"a": "1h"}},
    {"time": "1h", "note": 7},
    {"time": "1h", "n": -1},
    {"time": "1h", "n": 1.5},
    {"time": "1h", "n": True},
    {"time": "1h", "n": 1 << 63},
    {"time": "1h", "count": 1 << 64},
    {"time": "1h", "colour": "red"},
    {"time": "1h", "strip": "yes"},
    {"time": "1h", "funding": "magic"},
    {"time": "1h", "venue": "../../etc/passwd"},
    {"time": "1h", "venue": "guest\x00"},
    {"time": "1h", "note": "a\x00b"},
    {"time": "1h", "note": "x" * 201},
    {"sat": -1},
    {"sat": 1 << 63},
    {"sat": 0},
    {"time": "1h", "sat": 5},
    {"time": "1h", "expires": "11y"},
]
RAW = [
    b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"sat":1e400}', b'{"time":"1h"} {}', b"x" * 10_000_000
]


def test_hostile_orders_get_one_clear_error_and_make_nothing(office):
    for body in [*(json.dumps(one).encode() for one in HOSTILE), *RAW]:
        answer = office.raw(
            "POST",
            VOUCHERS,
            body,
            {"Authorization": f"Bearer {office.token}", "Idempotency-Key": new_id()},
        )
        assert 400 <= answer.status < 500 and answer.json()["error"]["request_id"], (body[:80], answer)
    assert office.ask("GET", VOUCHERS).json()["total"] == 0
    assert office.daemon.running
    office.daemon.must_be_sound()

"""Vouchers compared with what stands behind them: each of the eight classes is found by its evidence, and its repair
brings it in order once, whatever cuts it short. The mint never issues more than was paid for.
"""

import json
import shutil
import threading

import pytest

from lab import curve
from lab.daemon import Mint
from lab.fake_clock import FakeClock, needs_faketime
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.office import Office, error, new_id
from lab.place import wait_for
from lab.treasury import Treasury
from lab.wallet import decode_token

FILLED = 1000
RUN, FIX = "/admin/reconcile/guest", "/admin/reconcile/guest/fix"


class Desk(Treasury):
    """A router with takings, and its operator, who compares and repairs."""

    def __init__(self, lab, mint, daemon) -> None:
        super().__init__(lab, mint, daemon, FILLED)
        self.office = Office(lab, daemon)
        self.issued = mint.issued

    def report(self) -> dict:
        answer = self.office.ask("POST", RUN, {}, new_id())
        assert answer.status == 200, answer
        return answer.json()

    def discrepant(self, limit: float, what: str) -> dict:
        """The first report that has something to say."""

        def told():
            report = self.report()
            return report["discrepancies"] and report

        return wait_for(told, limit, what)

    def found(self, report: dict | None = None) -> dict[str, str]:
        return {one["ticketId"]: one["class"] for one in (report or self.report())["discrepancies"]}

    def wanted(self, report: dict) -> dict:
        ids = [one["ticketId"] for one in report["discrepancies"]]
        return {"ticketIds": ids, "reportId": report["reportId"]}

    def fix(self, report: dict, key: str | None = None) -> dict:
        answer = self.office.raw(
            "POST",
            FIX,
            json.dumps(self.wanted(report)).encode(),
            {"Authorization": f"Bearer {self.office.token}", "Idempotency-Key": key or new_id()},
            timeout=60.0,
        )
        assert answer.status == 200, answer
        return answer.json()

    def outcomes(self, report: dict, key: str | None = None) -> set[str]:
        return {one["outcome"] for one in self.fix(report, key)["results"]}

    def in_order(self) -> None:
        """Until a comparison finds nothing, repairing what it finds."""

        def done():
            report = self.report()
            if report["discrepancies"]:
                self.fix(report)
            return not report["discrepancies"] and not report["errors"]

        wait_for(done, 90, "everything is in order", every=1.0)


def ids(made: dict) -> set[str]:
    return {one["id"] for one in made["vouchers"]}


def ys(token: str) -> list[str]:
    return [curve.hex_of(curve.hash_to_curve(proof["secret"].encode())) for proof in decode_token(token).proofs]


@pytest.fixture
def desk(lab, fault_mint, make_daemon):
    return Desk(lab, fault_mint, make_daemon(Mint(fault_mint.url)))


def test_what_is_as_it_should_be_is_confirmed(desk):
    backed = desk.create(3, "--sat", "5", "--funding", "treasury")
    desk.create(2, "--time", "1h")
    desk.create(1, "--sat", "5", "--funding", "invoice")
    report = desk.report()
    counts = [report[name] for name in ("totalChecked", "confirmed", "notFound", "pending", "errors")]
    assert (counts, report["discrepancies"]) == ([6, 5, 0, 1, 0], [])
    wanted = {"ticketIds": [*ids(backed), new_id()], "reportId": report["reportId"]}
    told = desk.office.ask("POST", FIX, wanted, new_id()).json()
    assert (told["attempted"], told["fixed"], told["failed"]) == (4, 0, 1)
    desk.mint.close()
    silent = desk.report()
    assert (silent["errors"], silent["discrepancies"]) == (4, []), "what no mint has said is not known"


def test_paid_not_minted_is_minted_with_the_outputs_on_record(desk):
    made = desk.create(3, "--sat", "5", "--funding", "invoice")
    desk.mint.misbehave("rate_limited", on="mint")
    desk.mint.pay(made["invoice"])
    report = desk.discrepant(20, "it is seen to be paid")
    assert desk.found(report) == dict.fromkeys(ids(made), "paid_not_minted")
    one = report["discrepancies"][0]
    assert (one["dbStatus"], one["mintState"], one["blockchainStatus"]) == ("awaiting_payment", "PAID", "not_found")
    desk.mint.behave()
    desk.fix(report)
    desk.in_order()
    assert desk.locked("ready") == 15 and desk.mint.issued == desk.issued + 15


def test_what_is_paid_for_after_it_was_given_up_is_made_all_the_same(desk, lab):
    made = desk.create(2, "--sat", "7", "--funding", "invoice")
    desk.crash()
    desk.change("UPDATE fundings SET expires_at = 1")
    desk.revive()
    failed = "SELECT COUNT(*) FROM vouchers WHERE state = 'failed' AND error_code = 'invoice_expired'"
    wait_for(lambda: desk.rows(failed) == [(2,)], 30, "the batch is given up")
    assert desk.found() == {}
    desk.mint.pay(made["invoice"])
    report = desk.report()
    assert desk.found(report) == dict.fromkeys(ids(made), "paid_not_minted")
    assert desk.outcomes(report) <= {"fixed", "waits"}
    desk.in_order()
    assert desk.locked("ready") == 14 and desk.mint.issued == desk.issued + 14
    assert desk.redeem(lab.guest, made["vouchers"][0]["code"]).status == 200


@pytest.mark.parametrize("funding", ["invoice", "treasury"])
def test_issued_not_stored_is_restored_and_not_made_again(desk, funding):
    endpoint = "mint" if funding == "invoice" else "swap"
    desk.mint.misbehave("drop_after_commit", times=1, on=endpoint)
    for name in ("check", "restore") if funding == "treasury" else ("restore",):
        desk.mint.misbehave("rate_limited", on=name)
    made = desk.create(4, "--sat", "5", "--funding", funding)
    if funding == "invoice":
        desk.mint.pay(made["invoice"])
    wait_for(lambda: len(desk.mint.faults) == (2 if funding == "treasury" else 1), 20, "an answer is cut")
    if funding == "treasury":
        desk.mint.faults = [fault for fault in desk.mint.faults if fault.on == "check"]
    report = desk.discrepant(30, "it is seen to be issued")
    assert desk.found(report) == dict.fromkeys(ids(made), "issued_not_stored")
    before = len(desk.mint.signed)
    desk.mint.behave()
    desk.fix(report)
    desk.in_order()
    assert desk.locked("ready") == 20 and len(desk.mint.signed) == before, "nothing was signed anew"


def test_spent_elsewhere_is_marked_and_lets_nobody_in(desk, lab):
    made = desk.create(3, "--sat", "5", "--funding", "treasury")
    gone, good = made["vouchers"][0], made["vouchers"][1]
    desk.mint.spent.update(ys(gone["token"]))
    report = desk.report()
    assert desk.found(report) == {gone["id"]: "spent_elsewhere"}
    assert report["discrepancies"][0]["mintState"] == "SPENT"
    assert desk.outcomes(report) == {"lost"}
    shown = desk.daemon.data("voucher", "show", gone["id"])
    assert (shown["state"], shown["error_code"]) == ("failed", "spent_elsewhere")
    assert desk.redeem(lab.guest, gone["code"]).status == 410
    assert desk.redeem(lab.guest, good["code"]).status == 200
    wait_for(lambda: desk.takings() == FILLED - 10, 20, "what is good is in the takings")
    desk.in_order()


def test_what_the_venues_own_key_has_spent_elsewhere_is_an_alarm_and_ends_that_key(desk, lab):
    """Somebody has a copy of the whole router, keys and all, and redeems there."""
    one, other = desk.create(2, "--sat", "5", "--funding", "treasury")["vouchers"]
    state, copy = desk.daemon.state_dir, lab.path("stolen")
    desk.daemon.stop()
    shutil.copytree(state, copy)
    desk.daemon.start()
    assert desk.redeem(lab.guest, one["code"]).status == 200
    wait_for(lambda: desk.locked("swapped") == 5, 20, "it is spent with the venue's key")
    desk.daemon.stop()
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    desk.daemon.start()
    report = desk.report()
    assert desk.found(report) == {one["id"]: "spent_elsewhere"}
    assert desk.outcomes(report) == {"key_leaked"}
    assert desk.daemon.data("voucher", "show", one["id"])["error_code"] == "key_leaked"
    keys = [key["state"] for key in desk.daemon.data("keys", "list")["keys"] if key["class"] == "venue"]
    assert sorted(keys) == ["current", "old"]
    assert ("spent_elsewhere", "key_leaked") in [(row["what"], row["result"]) for row in desk.daemon.data("audit")]
    assert desk.redeem(lab.guest, other["code"]).status == 200


def test_redeemed_not_swapped_is_swapped_once(desk, lab):
    made = desk.create(3, "--sat", "5", "--funding", "treasury")
    desk.mint.misbehave("rate_limited", on="swap")
    used = made["vouchers"][0]
    assert desk.redeem(lab.guest, used["code"]).status == 200
    report = desk.report()
    assert desk.found(report) == {used["id"]: "redeemed_not_swapped"}
    assert report["discrepancies"][0]["mintState"] == "UNSPENT"
    desk.mint.behave()
    # The wallet may have swapped it by itself by then.
    assert desk.outcomes(report) <= {"fixed", "waits", "consistent"}
    desk.in_order()
    assert desk.takings() == FILLED - 10 and desk.locked("swapped") == 5


def test_pending_stuck_is_asked_for_and_never_made_again(desk):
    desk.mint.misbehave("rate_limited", on="swap")
    made = desk.create(3, "--sat", "5", "--funding", "treasury")
    assert desk.found() == {}
    desk.crash()
    desk.change("UPDATE vouchers SET changed_at = changed_at - 700 WHERE state = 'minting'")
    desk.revive()
    report = desk.report()
    assert desk.found(report) == dict.fromkeys(ids(made), "pending_stuck")
    assert desk.outcomes(report | {"discrepancies": report["discrepancies"][:1]}) == {"waits"}
    desk.mint.behave()
    desk.fix(report)
    desk.in_order()
    assert desk.locked("ready") == 15 and desk.takings() == FILLED - 15


@needs_faketime
def test_expired_unclaimed_goes_back_to_the_takings(lab, fault_mint, make_daemon):
    daemon = make_daemon(Mint(fault_mint.url), start=False)
    clock = FakeClock(lab)
    daemon.start(env=clock.env)
    desk = Desk(lab, fault_mint, daemon)
    made = desk.create(2, "--sat", "5", "--funding", "treasury", "--expires", "1h")
    fault_mint.misbehave("rate_limited", on="swap")
    clock.later(2 * 86_400)
    report = desk.discrepant(20, "its time is over")
    assert desk.found(report) == dict.fromkeys(ids(made), "expired_unclaimed")
    fault_mint.behave()
    desk.fix(report)
    desk.in_order()
    assert desk.takings() == FILLED
    assert {row["state"] for row in daemon.data("voucher", "list")["vouchers"]} == {"refunded"}


def test_a_voucher_of_a_retired_keyset_is_reissued_and_its_code_stays_good(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, fee_ppk=100) as mint:
        desk = Desk(lab, mint, make_daemon(Mint(mint.url)))
        made = desk.create(3, "--sat", "21", "--funding", "treasury")
        used = made["vouchers"][0]
        mint.rotate(fee_ppk=100)
        report = desk.report()
        assert desk.found(report) == dict.fromkeys(ids(made), "keyset_expiring")
        before = desk.takings() + desk.locked("ready") + mint.fees
        assert desk.outcomes(report) == {"fixed"}
        assert desk.found() == {} and desk.locked("ready") == 63
        assert desk.takings() + 63 + mint.fees == before
        assert all(y in mint.spent for one in made["vouchers"] for y in ys(one["token"]))
        revealed = desk.office.ask("GET", f"/admin/mints/{used['id']}?reveal=token").json()
        assert decode_token(revealed["token"]).amount == 21 and not mint.spent & set(ys(revealed["token"]))
        assert desk.redeem(lab.guest, used["code"]).status == 200
        wait_for(lambda: desk.locked("swapped") == 21, 20, "what was redeemed is in the takings")


def test_unpaid_expired_is_closed_once_no_payment_can_be_on_its_way(desk):
    made = desk.create(2, "--sat", "5", "--funding", "invoice")
    desk.crash()
    desk.change("UPDATE fundings SET expires_at = CAST(strftime('%s', 'now') AS INTEGER) - 60")
    desk.revive()
    report = desk.report()
    assert desk.found(report) == dict.fromkeys(ids(made), "unpaid_expired")
    assert desk.outcomes(report) == {"waits"}, "a payment may still be on its way"
    desk.crash()
    desk.change("UPDATE fundings SET expires_at = expires_at - 90")
    # As a router that has run for a while.
    desk.change("UPDATE moment SET wall_floor = CAST(strftime('%s', 'now') AS INTEGER)")
    desk.revive()
    desk.report()
    closed = "SELECT COUNT(*) FROM vouchers WHERE state = 'failed' AND error_code = 'invoice_expired'"

    def is_closed():
        desk.fix(report)
        return desk.rows(closed) == [(2,)]

    wait_for(is_closed, 30, "the batch is given up", every=1.0)
    assert desk.mint.issued == desk.issued


def test_one_comparison_of_a_venue_at_a_time(desk):
    desk.create(1, "--sat", "5", "--funding", "treasury")
    desk.mint.misbehave("hang", times=1, on="check")
    first = threading.Thread(target=lambda: desk.office.raw("POST", RUN, b"{}", headers(desk), timeout=90.0))
    first.start()
    wait_for(lambda: not desk.mint.faults, 10, "the first asks the mint")
    assert error(desk.office.ask("POST", RUN, {}, new_id())) == (409, "reconcile_running")
    key = new_id()
    assert error(desk.office.ask("POST", RUN, {}, key)) == (409, "reconcile_running")
    first.join()
    assert desk.office.ask("POST", RUN, {}, key).status == 200, "a refusal does not use its key up"


def headers(desk) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.office.token}", "Idempotency-Key": new_id()}


def test_a_repair_that_is_killed_goes_on_under_its_key_and_issues_nothing_twice(desk, lab):
    made = desk.create(6, "--sat", "5", "--funding", "treasury")
    desk.mint.misbehave("rate_limited", on="swap")
    for one in made["vouchers"]:
        lab.guest.become_stranger()
        assert desk.redeem(lab.guest, one["code"]).status == 200
    report, key = desk.report(), new_id()
    assert len(desk.found(report)) == 6
    desk.mint.behave()
    killed = desk.mint.when("swap", "done", desk.crash)
    with pytest.raises((OSError, AssertionError, ValueError)):
        desk.fix(report, key)
    assert killed.wait(10)
    desk.revive()
    told = desk.fix(report, key)
    assert told["attempted"] == 6 and {one["ticketId"] for one in told["results"]} == ids(made)
    assert {one["outcome"] for one in told["results"]} <= {"fixed", "waits", "consistent"}
    assert desk.fix(report, key) == told, "its answer is kept"
    desk.in_order()
    assert desk.takings() == FILLED and desk.locked("swapped") == 30
    assert desk.rows("SELECT COUNT(*) FROM reconcile_steps") == [(0,)]


def test_a_reissue_that_is_killed_is_found_again(desk, lab):
    (one,) = desk.create(1, "--sat", "21", "--funding", "treasury")["vouchers"]
    desk.mint.rotate()
    report = desk.report()
    killed = desk.mint.when("swap", "done", desk.crash)
    with pytest.raises((OSError, AssertionError, ValueError)):
        desk.fix(report)
    assert killed.wait(10)
    desk.revive()
    wait_for(lambda: desk.locked("ready") == 21, 30, "it is backed again")
    desk.in_order()
    assert desk.takings() == FILLED - 21 and desk.redeem(lab.guest, one["code"]).status == 200
    wait_for(lambda: desk.takings() == FILLED, 20, "what was redeemed is in the takings")


def test_reports_are_kept_and_bounded(desk):
    desk.create(1, "--time", "1h")
    for _ in range(52):
        desk.report()
    listed = desk.office.ask("GET", "/admin/reconcile/guest/history?limit=100").json()["reports"]
    assert len(listed) == 50 and listed[0]["classes"] == {}
    assert len(desk.office.ask("GET", "/admin/reconcile/guest/history").json()["reports"]) == 10

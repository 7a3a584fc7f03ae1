"""Money under bad luck: mints that fail, lie and lose their answers. What was paid always comes out as tokens or
access, once.
"""

import concurrent.futures
import contextlib
import os
import time

import pytest

from lab import books
from lab.books import Books, check_books
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.nutshell import Nutshell
from lab.place import in_time, wait_for
from lab.portal_client import MintProxy, MintProxyError, post_request, read_request
from lab.wallet import Wallet, decode_token

FAULTS = ["rate_limited", "unprocessable", "unprocessable_text", "html", "garbage", "oversized", "down", "hang"]
CUTS = ["drop_before", "drop_after_commit"]
LIES = ["bad_dleq", "no_dleq", "short_signatures", "extra_signatures", "wrong_signature_amount", "foreign_keyset_id"]
CALL_ENDS_AFTER = 12


@pytest.fixture(scope="module")
def mint(lab):
    """The real mint with its rate limits on, as mints in the field have them."""
    with Nutshell(lab.internet, MINT4, dir=lab.path("mint"), rate_limit=20) as made:
        yield made


@pytest.fixture(scope="module")
def crowd(lab):
    while len(lab.guests) < 6:
        lab.add_guest()
    return lab.guests


def fault_mints(lab, names):
    """One mint per fault, so that all of them can go wrong at the same time."""
    stack = contextlib.ExitStack()
    return stack, {name: stack.enter_context(FaultMint(lab.internet, MINT4)) for name in names}


def at_once(work, items) -> list:
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def outcome(guest, request_id: str, kinds=("tokens_ready", "session_granted")) -> dict | None:
    """The request's message once it is one of these kinds; each look is a guest's question."""
    message = read_request(guest, request_id).json()
    return message if message["type"] in kinds else None


def request(guest, mint, amount: int, **more) -> dict:
    answer = post_request(guest, mint.url, amount, **more)
    assert answer.status == 201, answer.text
    return answer.json()


def gets(guest, made: dict, limit: float = 10.0) -> dict:
    return wait_for(lambda: outcome(guest, made["request_id"]), limit, "the payment reaches its end", every=0.2)


# Tokens that wait


def test_tokens_that_wait_for_their_guest_take_no_place_after_a_restart(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    made = request(lab.guest, fault_mint, 5)
    fault_mint.pay(made["invoice"])
    tokens = gets(lab.guest, made)
    daemon.restart()
    assert lab.guest.get("http://192.168.77.1:2121/stats").json()["requests"] == 0
    with MintProxy(lab.guest) as proxy:
        assert proxy.receive() == tokens


# Asking for an invoice


def test_mint_that_fails_before_the_invoice_is_mint_unavailable_and_can_be_used_when_it_is_well(
    lab, crowd, make_daemon
):
    stack, mints = fault_mints(lab, [(fault, on) for fault in FAULTS for on in ("info", "keysets", "keys", "quote")])
    with stack:
        for (fault, on), mint in mints.items():
            mint.misbehave(fault, on=on)
        daemon = make_daemon(*[mint.url for mint in mints.values()])

        def ask_for_all(guest):
            """A guest may have three unpaid requests and ten new ones a minute: each asks some of the mints, one after
            the other.
            """
            for case in list(mints)[crowd.index(guest) :: len(crowd)]:
                started = time.monotonic()
                yield case, post_request(guest, mints[case].url, 5), time.monotonic() - started

        for case, answer, took in sum(at_once(lambda guest: list(ask_for_all(guest)), crowd), []):
            assert (answer.status, answer.json()["code"]) == (502, "mint_unavailable"), (case, answer.text)
            assert took < CALL_ENDS_AFTER + 18, case
        for mint in mints.values():
            mint.behave()
        guest = crowd[-1]
        for case in [("garbage", "keys"), ("rate_limited", "quote"), ("hang", "quote")]:
            made = request(guest, mints[case], 5)
            mints[case].pay(made["invoice"])
            gets(guest, made)
            check_books(daemon, mints[case], 5)


@pytest.mark.parametrize("lie", ["wrong_keyset_id", "wrong_invoice_amount"])
def test_mint_that_lies_before_the_invoice_is_mint_unavailable_and_its_invoice_is_not_shown(
    lab, fault_mint, make_daemon, lie
):
    make_daemon(fault_mint.url)
    fault_mint.misbehave(lie)
    answer = post_request(lab.guest, fault_mint.url, 5)
    assert (answer.status, answer.json()["code"]) == (502, "mint_unavailable")
    assert not any(quote.request in answer.text for quote in fault_mint.quotes.values())


def refused(guest, mint_url: str) -> None:
    assert post_request(guest, mint_url, 5).json()["code"] == "mint_unavailable"


def test_mint_that_is_down_is_mint_unavailable_at_once(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    fault_mint.close()
    in_time(2, lambda: refused(lab.guest, fault_mint.url))
    fault_mint.open()
    made = request(lab.guest, fault_mint, 5, apply=True)
    fault_mint.pay(made["invoice"])
    gets(lab.guest, made)
    check_books(daemon, fault_mint, 5)


def test_lost_answer_to_the_question_for_an_invoice_loses_nothing(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    fault_mint.misbehave(
        "drop_after_commit", times=2, on="quote"
    )  # it is asked again, as the connection may have been an old one
    with MintProxy(lab.guest) as proxy:
        with pytest.raises(MintProxyError) as refused:
            proxy.request(fault_mint.url, 5)
        assert refused.value.code == "mint_unavailable" and "nothing was taken" in refused.value.body["message"]
        assert not Books(daemon).parts(), "nothing that the guest was not shown"
        made = proxy.request(fault_mint.url, 5)
        fault_mint.pay(made["invoice"])
        assert decode_token(proxy.wait("tokens_ready")["tokens"]).amount == 5
    assert len(fault_mint.quotes) == 3
    check_books(daemon, fault_mint, 5)


# Claiming what was paid


def test_mint_that_fails_or_lies_when_it_was_paid_loses_nobodys_money(lab, crowd, make_daemon):
    """Each mint goes wrong once in the mint call (one of them in every look); guests want tokens and access by
    turns.
    """
    stack, mints = fault_mints(lab, FAULTS + CUTS + LIES + ["hang when looked at"])
    with stack:
        daemon = make_daemon(*[mint.url for mint in mints.values()])
        guests = {name: crowd[index // 3] for index, name in enumerate(mints)}  # three unpaid requests each
        mints["hang when looked at"].misbehave("refuse_socket")
        made = {}
        for index, (name, mint) in enumerate(mints.items()):
            made[name] = request(guests[name], mint, 8 + index, apply=index % 2 == 0)
            if name in FAULTS + CUTS:
                mint.misbehave(name, times=1, on="mint")
            elif name in LIES:
                mint.misbehave(name, times=1)
            else:
                mint.misbehave("hang", times=1, on="state")
        for name, mint in mints.items():
            mint.pay(made[name]["invoice"])
        for name in mints:
            gets(guests[name], made[name], CALL_ENDS_AFTER + 18)
        for index, mint in enumerate(mints.values()):
            check_books(daemon, mint, 8 + index)
        assert all(mints[name].counts["mint"] >= 2 for name in FAULTS + CUTS + LIES)
        log = daemon.log()
        for mint in mints.values():
            assert not any(quote.request in log or quote.id in log for quote in mint.quotes.values())
        for part in Books(daemon).parts("claimed"):
            assert part["owner"] == "house" or part["token"] not in log
        assert not any(proof["secret"] in log for token in Books(daemon).tokens() for proof in token.proofs)


def test_mint_that_goes_on_lying_is_told_to_the_guest_and_asked_until_it_stops(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(fault_mint.url, 5, apply=True)
        fault_mint.misbehave("bad_dleq")
        fault_mint.misbehave("unprocessable", on="restore")
        fault_mint.pay(made["invoice"])
        told = proxy.wait("payment_received")
        with pytest.raises(MintProxyError) as failed:
            proxy.wait("session_granted")
        assert failed.value.code == "token_claim_failed"
        assert failed.value.body["request_id"] == told["request_id"] == made["request_id"]
        assert not lab.guest.online()
        fault_mint.behave()
        proxy.send({"type": "status", "request_id": made["request_id"]})
        proxy.wait("session_granted")
    check_books(daemon, fault_mint, 5)


@pytest.mark.parametrize("apply", [False, True], ids=["tokens", "access"])
def test_answer_of_the_real_mint_cut_after_it_signed_is_recovered(lab, mint, fault_proxy, make_daemon, apply):
    daemon = make_daemon(fault_proxy.url)
    first = request(lab.guest, fault_proxy, 1)
    mint.pay(first["invoice"])
    gets(lab.guest, first)  # the form of signatures that this mint wants is known now
    calls = fault_proxy.count("/v1/mint/bolt11$")
    made = request(lab.guest, fault_proxy, 21, apply=apply)
    fault_proxy.fault("/v1/mint/bolt11$", cut_answer=True, times=1)
    mint.pay(made["invoice"])
    gets(lab.guest, made)
    assert fault_proxy.count("/v1/mint/bolt11$") == calls + 2, "sent again, unchanged"
    assert fault_proxy.count("/v1/restore") == 1, "and then restored"
    token = Books(daemon).tokens("house" if apply else "guest")[-1]
    assert Wallet(lab.internet, mint.url).receive(token.proofs) == 21


def test_looks_that_fail_are_made_again(lab, crowd, make_daemon):
    stack, mints = fault_mints(lab, [name for name in FAULTS + CUTS if name != "hang"])
    with stack:
        daemon = make_daemon(*[mint.url for mint in mints.values()])
        made = {}
        for index, (name, mint) in enumerate(mints.items()):
            mint.misbehave("refuse_socket")
            mint.misbehave(name, times=1, on="state")
            made[name] = request(crowd[index // 3], mint, 5)
            mint.pay(made[name]["invoice"])
        for index, name in enumerate(mints):
            gets(crowd[index // 3], made[name], 12)
            check_books(daemon, mints[name], 5)


# Hearing of the payment


def test_event_without_a_payment_gives_nothing(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(fault_mint.url, 5, apply=True)
        (quote,) = fault_mint.quotes.values()
        wait_for(lambda: fault_mint.subscribers, 3)
        began = time.monotonic()
        for _ in range(5):
            fault_mint.send_event(quote, "PAID")
            time.sleep(0.05)
        wait_for(lambda: fault_mint.counts.get("mint"), 5, "it asks for what it was told of")
        wait_for(lambda: read_request(lab.guest, made["request_id"]).json()["type"] == "invoice_ready", 3)
        assert fault_mint.counts["mint"] <= 3 + (time.monotonic() - began), (
            "a mint that cries wolf is not asked without a pause"
        )
        assert not Books(daemon).grants and not daemon.paid_macs()
        fault_mint.pay(made["invoice"])
        proxy.wait("session_granted")
    check_books(daemon, fault_mint, 5)


def test_mint_that_calls_a_quote_paid_and_refuses_it_as_unpaid_is_not_asked_in_a_spin(lab, fault_mint, make_daemon):
    """What it costs is counted: a claim a second at most, and fewer with time."""
    daemon = make_daemon(fault_mint.url)
    made = request(lab.guest, fault_mint, 5)
    (quote,) = fault_mint.quotes.values()
    quote.shown = lambda with_expiry=True: type(quote).shown(quote, with_expiry) | {"state": "PAID"}
    fault_mint.send_event(quote, "PAID")
    wait_for(lambda: fault_mint.counts.get("mint", 0) >= 2, 5)
    asked, began = fault_mint.counts["mint"], time.monotonic()
    time.sleep(2)
    assert fault_mint.counts["mint"] - asked <= 1 + (time.monotonic() - began)
    del quote.shown
    fault_mint.pay(made["invoice"])
    gets(lab.guest, made)
    check_books(daemon, fault_mint, 5)


def test_without_a_socket_a_payment_is_found_by_looking(lab, fault_mint, make_daemon):
    fault_mint.misbehave("refuse_socket")
    make_daemon(fault_mint.url)
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(fault_mint.url, 5, apply=True)
        fault_mint.pay(made["invoice"])
        proxy.wait("session_granted")


def test_socket_that_was_cut_is_back_and_looks_at_once(lab, fault_mint, make_daemon):
    fault_mint.misbehave("silent_socket")
    make_daemon(fault_mint.url)
    with MintProxy(lab.guest) as proxy:
        def found() -> float:
            looks = fault_mint.counts.get("state", 0)
            made = proxy.request(fault_mint.url, 5, apply=True)
            wait_for(
                lambda: fault_mint.counts.get("state", 0) >= looks + 3,
                12,
                "the quick looks are over; the next is due after 10 s",
            )
            fault_mint.pay(made["invoice"])
            paid = time.monotonic()
            fault_mint.reset_connections()
            proxy.wait("session_granted")
            return time.monotonic() - paid

        in_time(8, found)


def test_mint_that_is_back_after_an_outage_is_asked_about_every_payment(lab, fault_mint, make_daemon):
    """Paid just before the mint went away, and nobody of ours saw it."""
    fault_mint.misbehave("refuse_socket")
    daemon = make_daemon(fault_mint.url)
    made = request(lab.guest, fault_mint, 5, apply=True)
    fault_mint.pay(made["invoice"])
    fault_mint.close()
    wait_for(lambda: "cannot be reached" in daemon.log(), 5)
    fault_mint.open()
    wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 20, "credited without anybody asking")
    check_books(daemon, fault_mint, 5)


# Keysets


def test_keyset_of_the_real_mint_rotated_before_the_payment_changes_nothing_for_the_guest(lab, mint, make_daemon):
    daemon = make_daemon(mint.url)
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(mint.url, 13)
        (old,) = Books(daemon).outputs
        mint.rotate()
        mint.pay(made["invoice"])
        token = proxy.wait("tokens_ready")["tokens"]
    counters = {row["keyset"]: row["next"] for row in Books(daemon).tables["counters"] if row["keyset"] != "lock"}
    assert len(counters) == 2 and old["keyset"] in counters, "outputs were made on both"
    assert {proof["id"] for proof in decode_token(token).proofs} == counters.keys() - {old["keyset"]}
    assert Wallet(lab.internet, mint.url).receive(token) == 13


@pytest.mark.parametrize("versions", [(1, 1), (1, 2), (2, 2), (2, 1)], ids=lambda pair: f"v{pair[0]}-to-v{pair[1]}")
def test_rotation_between_invoice_and_payment_makes_new_outputs_once(lab, make_daemon, versions):
    before, after = versions
    with FaultMint(lab.internet, MINT4, keysets=before) as mint:
        daemon = make_daemon(mint.url)
        made = request(lab.guest, mint, 13, apply=True)
        mint.rotate(version=after)
        mint.pay(made["invoice"])
        gets(lab.guest, made)
        check_books(daemon, mint, 13)
        assert mint.counts["mint"] == 2


def test_rotation_after_the_mint_signed_and_its_answer_was_lost_restores_the_old_outputs(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    made = request(lab.guest, fault_mint, 13)
    fault_mint.misbehave("drop_after_commit", times=1, on="mint")
    signed = fault_mint.when("mint", "done", fault_mint.rotate)
    fault_mint.pay(made["invoice"])
    assert signed.wait(60)
    gets(lab.guest, made)
    check_books(daemon, fault_mint, 13)


@pytest.mark.parametrize("version", [1, 2])
def test_tokens_of_a_mint_with_fees_are_worth_the_invoice_less_the_fee_of_spending_them(lab, make_daemon, version):
    with FaultMint(lab.internet, MINT4, keysets=version, fee_ppk=500) as mint:
        daemon = make_daemon(mint.url)
        made = request(lab.guest, mint, 21)
        mint.pay(made["invoice"])
        token = gets(lab.guest, made)["tokens"]
        assert decode_token(token).amount == 21 and not mint.fees
        check_books(daemon, mint, 21)
        assert Wallet(lab.internet, mint.url).receive(token) == 21 - mint.fees == 19


@pytest.mark.parametrize("apply", [False, True], ids=["tokens", "access"])
def test_counters_of_an_old_backup_never_give_out_the_same_money_again(lab, fault_mint, make_daemon, apply):
    """The outputs of the second sale were signed long ago, for the first: it must not be paid with the first one's
    tokens.
    """
    daemon = make_daemon(fault_mint.url)
    first = request(lab.guest, fault_mint, 13, apply=apply)
    counters = Books(daemon).tables["counters"]
    fault_mint.pay(first["invoice"])
    gets(lab.guest, first)
    daemon.stop()
    books.edit(
        daemon,
        *[
            f"UPDATE counters SET next = 0 WHERE keyset = '{row['keyset']}'"
            for row in counters
            if row["keyset"] != "lock"
        ],
    )
    daemon.start()
    second = request(lab.guests[1], fault_mint, 13, apply=apply)
    fault_mint.pay(second["invoice"])
    gets(lab.guests[1], second)
    check_books(daemon, fault_mint, 26)


def test_mint_that_refuses_every_output_does_not_fill_the_store(lab, make_daemon):
    most = {"keyset_inactive": 1, "outputs_signed": 8}
    stack, mints = fault_mints(lab, most)
    with stack:
        daemon = make_daemon(*[mint.url for mint in mints.values()])
        made = {}
        for (fault, mint), guest in zip(mints.items(), lab.guests):
            made[fault] = guest, request(guest, mint, 13)
            mint.misbehave(fault, on="mint")
            mint.pay(made[fault][1]["invoice"])
        time.sleep(14)
        books = Books(daemon)
        for fault, mint in mints.items():
            (part,) = [part["id"] for part in books.tables["parts"] if part["mint"] == mint.url]
            assert len([outputs for outputs in books.outputs if outputs["part"] == part]) <= most[fault], fault
            mint.behave()
        for fault, mint in mints.items():
            gets(*made[fault], 35)
            check_books(daemon, mint, 13)


# Times


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_payment_while_the_daemon_is_away_is_credited_after_its_start(lab, fault_mint, make_daemon, way):
    fault_mint.misbehave("refuse_socket")
    daemon = make_daemon(fault_mint.url)
    access = request(lab.guest, fault_mint, 5, apply=True)
    tokens = request(lab.guest, fault_mint, 6)
    getattr(daemon, way)()
    fault_mint.pay(access["invoice"])
    fault_mint.pay(tokens["invoice"])
    daemon.start()
    wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 3)
    wait_for(lambda: len(Books(daemon).parts("claimed")) == 2, 3, "without the guests")
    with MintProxy(lab.guest) as proxy:
        assert decode_token(proxy.wait("tokens_ready")["tokens"]).amount == 6
    check_books(daemon, fault_mint, 11)


def test_payment_at_minute_45_of_an_hour_is_credited(lab, fault_mint, make_daemon):
    """The store is put back 45 minutes, which is what the daemon would find then; the looks of the whole hour are a
    unit test.
    """
    fault_mint.misbehave("silent_socket")
    daemon = make_daemon(fault_mint.url)
    made = request(lab.guest, fault_mint, 5, apply=True)
    daemon.kill()
    books.edit(
        daemon, "UPDATE requests SET created_ms = created_ms - 2700000", "UPDATE parts SET due_ms = due_ms - 2700000"
    )
    daemon.start()
    wait_for(lambda: fault_mint.counts.get("state", 0) >= 1, 3)
    assert read_request(lab.guest, made["request_id"]).json()["type"] == "invoice_ready"
    fault_mint.pay(made["invoice"])
    wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 8)
    check_books(daemon, fault_mint, 5)


def test_invoice_that_ends_unpaid_is_invoice_expired_and_a_late_payment_still_counts(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, invoice_seconds=2) as mint:
        daemon = make_daemon(mint.url)
        with MintProxy(lab.guest) as proxy:
            made = proxy.request(mint.url, 5, apply=True)
            with pytest.raises(MintProxyError) as ended:
                proxy.wait("session_granted")
            assert (ended.value.code, ended.value.body["request_id"]) == ("invoice_expired", made["request_id"])
            assert read_request(lab.guest, made["request_id"]).json()["code"] == "invoice_expired"
            mint.pay(made["invoice"])
            proxy.wait("session_granted")
        check_books(daemon, mint, 5)


def test_late_payment_while_the_daemon_was_away_counts_within_the_grace(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, invoice_seconds=1) as mint:
        daemon = make_daemon(mint.url)
        made = request(lab.guest, mint, 5, apply=True)
        wait_for(lambda: outcome(lab.guest, made["request_id"], ("error",)), 4)
        daemon.kill()
        mint.pay(made["invoice"])
        daemon.start()
        wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 3)
        check_books(daemon, mint, 5)


def test_request_whose_grace_is_over_is_watched_no_more(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, invoice_seconds=1) as mint:
        daemon = make_daemon(mint.url, main={"invoice_grace": 1})
        made = request(lab.guest, mint, 5)
        wait_for(lambda: Books(daemon).parts("expired"), 6)
        assert read_request(lab.guest, made["request_id"]).json()["code"] == "invoice_expired"
        asked = mint.counts["state"]
        assert asked <= 4
        time.sleep(1)
        assert mint.counts["state"] == asked


def test_mint_away_at_the_end_of_the_grace_is_not_asked_in_a_spin(lab, make_daemon):
    """The payment came before the end; it counts when the mint is back, however late that is."""
    with FaultMint(lab.internet, MINT4, invoice_seconds=2) as mint:
        mint.misbehave("refuse_socket")
        mint.misbehave("down", on="state")
        daemon = make_daemon(mint.url, main={"invoice_grace": 0})
        made = request(lab.guest, mint, 5, apply=True)
        mint.pay(made["invoice"])
        began = time.monotonic()
        time.sleep(4)
        assert mint.counts.get("state", 0) <= 2 + (time.monotonic() - began)
        mint.behave()
        gets(lab.guest, made)
        check_books(daemon, mint, 5)


# Many at once


def test_fifty_identical_requests_at_once_are_one_and_its_payment_is_granted_once(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, venue={"step_size": 60_000})
    answers = at_once(lambda _: post_request(lab.guest, fault_mint.url, 5, apply=True), range(50))
    assert {answer.json()["request_id"] for answer in answers if answer.status in (200, 201)} and len(
        {a.text for a in answers}
    ) == 1
    assert len(fault_mint.quotes) == 1
    made = answers[0].json()
    fault_mint.pay(made["invoice"])
    granted = gets(lab.guest, made)
    assert granted["allotment"] == 5 * 60_000
    (session,) = check_books(daemon, fault_mint, 5).tables["sessions"]
    assert (session["allotment"], session["ends_ms"] - session["started_ms"]) == (300_000, 300_000)


def test_two_payments_of_a_guest_at_once_grow_the_session_by_both(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, venue={"step_size": 60_000})
    made = [request(lab.guest, fault_mint, amount, apply=True) for amount in (5, 7)]
    at_once(lambda one: fault_mint.pay(one["invoice"]), made)
    last = [gets(lab.guest, one) for one in made][-1]
    assert last["allotment"] == 12 * 60_000 and 0 <= 12 * 60_000 - last["remaining"] < 60_000
    (session,) = check_books(daemon, fault_mint, 12).tables["sessions"]
    assert session["ends_ms"] - session["started_ms"] == 12 * 60_000


def test_sales_at_the_real_mint_stay_within_its_rate_limits(lab, mint, crowd, make_daemon):
    daemon = make_daemon(mint.url)
    made = [(guest, request(guest, mint, 5, apply=True)) for guest in crowd[:4]]
    for guest, one in made:
        mint.pay(one["invoice"])
    for guest, one in made:
        gets(guest, one)
    assert len(Books(daemon).grants) == 4
    assert "limits our requests" not in daemon.log()


# Space


def test_payment_that_comes_when_the_disk_is_full_counts_when_there_is_space_again(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, start=False)
    lab.router.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", daemon.state_dir])
    try:
        daemon.start()
        made = request(lab.guest, fault_mint, 5, apply=True)
        filler = os.path.join(daemon.state_dir, "filler")
        lab.router.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], check=False)
        refused = post_request(lab.guests[1], fault_mint.url, 5)
        assert (refused.status, refused.json()["code"]) == (503, "STORE_FULL")
        fault_mint.pay(made["invoice"])
        wait_for(lambda: "not stored yet" in daemon.log() or lab.guest.mac in daemon.paid_macs(), 5)
        # The log has room of its own for one sale or another; what was not committed has opened nothing.
        assert (lab.guest.mac in daemon.paid_macs()) == bool(Books(daemon).grants)
        lab.router.run(["rm", filler])
        wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 6)
        check_books(daemon, fault_mint, 5)
        daemon.kill()
    finally:
        daemon.kill()
        lab.router.run(["umount", "-l", daemon.state_dir], check=False)

"""The router's own wallet: tokens that come in, once, whatever happens on the way; and what can be done with them.

After each test the sum must come out: what guests still hold + takings + the mint's fees = what was minted.
"""

import base64
import concurrent.futures
import contextlib
import json
import os
import pty
import random
import subprocess
import sys
import threading
import time

import pytest
from mnemonic import Mnemonic

from lab import books
from lab.books import Books
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.nutshell import Nutshell
from lab.place import in_time, wait_for
from lab.portal_client import MintProxy
from lab.purse import WITHIN, Purse
from lab.takings import Seed
from lab.wallet import MintError, Wallet, encode_token

def receive(daemon, token: str, timeout: float = 60) -> dict:
    """The control socket's answer: `ok`, and `data` or `code`."""
    return daemon.control({"command": "wallet", "args": ["receive", token]}, timeout)


def balance(daemon, url: str) -> int:
    (found,) = [one["balance"] for one in daemon.data("wallet", "balance")["mints"] if one["url"] == url] or [0]
    return found


def unsettled(daemon) -> int:
    return len(books.rows(daemon, "SELECT id FROM wallet_ops WHERE state != 'done' AND kind != 'send'"))


def settled(daemon) -> bool:
    return unsettled(daemon) == 0


def held_by(mint: Nutshell, guest: Purse, token: str) -> bool:
    """Killed at a bad moment, nutshell calls proofs pending for ever, also of a swap: started once more, it still
    does.
    """
    try:
        if set(guest.wallet.states(token)) != {"PENDING"}:
            return False
    except MintError:
        return False
    mint.kill()
    mint.start()
    return set(guest.wallet.states(token)) == {"PENDING"}


def received_at_last(daemon, token: str, limit: float = WITHIN) -> dict:
    """Posts the token until it is done, as a guest's page does."""

    def done():
        answer = receive(daemon, token)
        assert answer["ok"] or answer["code"] in ("try_again", "not_known_yet"), answer
        return answer["ok"] and answer["data"]

    return wait_for(done, limit, "the token is received", every=0.1)


@pytest.fixture
def guest(lab, fault_mint, make_daemon):
    """With ecash of the test mint, at a router that takes it."""
    return Purse(lab, fault_mint, make_daemon(fault_mint.url))


@pytest.fixture
def real_guest(lab, mint, fault_proxy, make_daemon):
    """With ecash of the real mint; the router sees it through the proxy."""
    return Purse(lab, mint, make_daemon(fault_proxy.url), fault_proxy.url)


# What comes in


def test_token_of_any_form_is_received_and_counted(lab, mint, make_daemon):
    guest = Purse(lab, mint, make_daemon(mint.url))
    forms = [{}, {"old_form": True}, {"short_ids": True}]
    for amount, form in enumerate(forms, start=20):
        answer = receive(guest.daemon, guest.token(amount, **form))
        assert answer["ok"] and answer["data"] == {"received": amount, "fee": 0, "mint": mint.url, "unit": "sat"}, (
            answer
        )
    assert balance(guest.daemon, mint.url) == guest.check() == 63
    assert guest.daemon.data("wallet", "balance") == {"mints": [{"url": mint.url, "unit": "sat", "balance": 63}]}


@pytest.mark.parametrize("keysets", ["v1", "v2"])
def test_mint_that_takes_fees_is_paid_them_and_nothing_more(lab, make_daemon, keysets):
    with Nutshell(
        lab.internet,
        MINT4,
        dir=lab.path(f"fees-{keysets}"),
        port=3400 + 10 * int(keysets[1]),
        fee_ppk=100,
        keysets=keysets,
    ) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        assert receive(guest.daemon, guest.token(63))["data"]["received"] == 62
        one = receive(guest.daemon, guest.token(1))
        assert (one["ok"], one["code"]) == (False, "refused") and "fee" in one["message"]
        assert guest.check(fees=1) == 62
        assert len(Books(guest.daemon).tables["wallet_ops"]) == 1


def test_commands_read_tokens_from_standard_input_and_print_what_a_script_reads(guest):
    daemon, token = guest.daemon, guest.token(21)
    program = [*daemon.program, "wallet", "receive", "-", "-c", daemon.config]
    assert "received: 21" in daemon.lab.router.run(program, input=f"cashu:{token}\n").out
    again = json.loads(daemon.lab.router.run([*program, "--json"], input=token).out)
    assert again["ok"] is True and again["data"]["received"] == 21
    refused = daemon.lab.router.run(program, input="cashuBnonsense", check=False)
    assert refused.code == 1 and "damaged" in refused.out
    info = daemon.data("wallet", "info")
    assert info["mints"][0]["proofs"] == 3 and info["open"] == {"receiving": 0, "spending": 0}
    assert guest.check() == 21
    assert token not in daemon.log()


def test_token_that_cannot_be_taken_is_refused_before_anything_moves(guest):
    good = guest.proofs(5)
    mint, url = guest.mint, guest.url
    locked = json.dumps(["P2PK", {"nonce": "00" * 32, "data": "02" * 33, "tags": []}])
    forged = [proof | {"dleq": proof["dleq"] | {"e": "11" * 32}} for proof in good]
    two_mints = [{"mint": url, "proofs": good[:1]}, {"mint": "http://other.example", "proofs": good[1:]}]
    refused = {
        "": "not a Cashu token",
        "cashuBnonsense": "damaged",
        encode_token(url, good)[:-40]: "damaged",
        encode_token("https://other.example", good): "not accepted",
        encode_token(url, good, unit="usd"): "sat",
        encode_token(url, [good[0] | {"secret": locked}]): "locked",
        encode_token(url, good + good[:1]): "twice",
        encode_token(url, forged): "not made by its mint",
        encode_token(url, [good[0] | {"amount": 3}]): "does not issue",
        encode_token(url, [good[0] | {"id": "00" * 8}]): "keyset",
        encode_token(url, [good[0] | {"secret": f"{number:064x}"} for number in range(101)]): "too large",
        "cashuB" + "A" * 70_000: "too large",
        "cashuA" + old_form(two_mints): "more than one mint",
    }
    for token, why in refused.items():
        answer = receive(guest.daemon, token)
        assert not answer["ok"] and answer["code"] == "refused" and why in answer["message"], (why, answer)
    assert not mint.counts.get("swap") and not Books(guest.daemon).tables["wallet_ops"]
    assert guest.check() == 0
    invented = encode_token(
        url, [proof | {"secret": os.urandom(32).hex(), "dleq": {"e": "", "s": "", "r": ""}} for proof in good]
    )
    answer = receive(guest.daemon, invented)
    assert answer["code"] == "refused", "a mint tells what was never signed"
    assert receive(guest.daemon, encode_token(url, good))["ok"]
    assert guest.check() == 5


def old_form(entries: list[dict]) -> str:
    """Entries of several mints, as the oldest form of tokens can hold."""
    bare = [
        {
            "mint": one["mint"],
            "proofs": [{name: proof[name] for name in ("amount", "id", "secret", "C")} for proof in one["proofs"]],
        }
        for one in entries
    ]
    return base64.urlsafe_b64encode(json.dumps({"token": bare, "unit": "sat"}).encode()).decode()


def test_token_that_somebody_else_spent_is_refused_and_leaves_nothing(guest):
    proofs = guest.proofs(21)
    guest.held[-1] = []
    guest.wallet.receive(proofs)
    guest.held.append(guest.wallet.proofs[-3:])
    answer = receive(guest.daemon, encode_token(guest.url, proofs))
    assert answer["code"] == "refused" and "spent" in answer["message"]
    assert not Books(guest.daemon).tables["wallet_ops"]
    assert guest.check() == 0


def test_same_token_twenty_times_at_once_counts_once(real_guest, fault_proxy):
    token, other = real_guest.token(21), real_guest.token(34, old_form=True)
    fault_proxy.fault("/v1/swap", delay_answer=0.3, times=1)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: receive(real_guest.daemon, token), range(20)))
    assert all(answer["ok"] and answer["data"]["received"] == 21 for answer in answers), answers
    assert fault_proxy.count("/v1/swap") == 1
    assert receive(real_guest.daemon, other)["ok"]
    assert receive(real_guest.daemon, token)["data"]["received"] == 21, "and later it is known"
    assert fault_proxy.count("/v1/swap") == 2
    assert real_guest.check() == 55


def receives_again(guest, token: str) -> None:
    assert receive(guest.daemon, token)["data"]["received"] == 21


def test_token_received_before_is_known_when_its_mint_is_away(guest):
    token = guest.token(21)
    receive(guest.daemon, token)
    guest.mint.close()
    in_time(1, lambda: receives_again(guest, token))
    guest.mint.open()
    guest.check()


# Bad luck on the way


@pytest.mark.parametrize("fault", ["cut_answer", "cut_request", "truncate"])
def test_swap_whose_answer_is_lost_is_found_out_while_the_guest_waits(real_guest, fault_proxy, fault):
    token = real_guest.token(21)
    fault_proxy.fault("/v1/swap", times=1, **{fault: 10 if fault == "truncate" else True})
    answer = receive(real_guest.daemon, token)
    assert answer["ok"] and answer["data"]["received"] == 21, answer
    assert fault_proxy.count("/v1/swap") == (1 if fault == "truncate" else 2), (
        "sent again where not one byte of an answer came"
    )
    assert real_guest.check() == 21


def test_mint_that_fails_twenty_times_gets_the_token_in_the_end(lab, make_daemon):
    """A guest's own question goes to the mint at once, however often it has failed. Each mint fails in its own way."""
    faults = ["rate_limited", "down", "drop_before", "drop_after_commit"]
    with contextlib.ExitStack() as stack:
        mints = [stack.enter_context(FaultMint(lab.internet, MINT4)) for _ in faults]
        daemon = make_daemon(*[mint.url for mint in mints])
        guests = [Purse(lab, mint, daemon) for mint in mints]
        tokens = [guest.token(21) for guest in guests]
        for fault, mint in zip(faults, mints):
            mint.misbehave(fault, times=20, on="swap" if fault != "drop_after_commit" else None)
        with concurrent.futures.ThreadPoolExecutor(len(tokens)) as pool:
            list(pool.map(lambda token: received_at_last(daemon, token), tokens))
        assert [guest.check() for guest in guests] == [21] * len(faults)
        assert settled(daemon)


def test_mint_that_is_silent_for_half_a_minute_is_waited_for_by_the_router_not_by_the_guest(real_guest, fault_proxy):
    token = real_guest.token(21)
    receive(real_guest.daemon, real_guest.token(1))
    fault_proxy.fault("/v1/swap", hang=30, times=1)
    started = time.monotonic()
    answer = receive(real_guest.daemon, token)
    assert answer["code"] == "not_known_yet" and 8 < time.monotonic() - started < 25, answer
    wait_for(lambda: balance(real_guest.daemon, real_guest.url) == 22, WITHIN, "without anybody asking")
    assert receive(real_guest.daemon, token)["data"]["received"] == 21
    assert real_guest.check() == 22


def test_swap_that_is_done_after_its_caller_gave_up_is_found_and_kept(real_guest, fault_proxy):
    """The mint works for longer than anybody waits, and then it has signed."""
    token = real_guest.token(21)
    fault_proxy.fault("/v1/swap", delay_answer=14, times=1)
    assert receive(real_guest.daemon, token)["code"] == "not_known_yet"
    wait_for(lambda: balance(real_guest.daemon, real_guest.url) == 21, WITHIN)
    assert fault_proxy.count("/v1/swap") == 1
    assert real_guest.check() == 21


def test_mint_that_is_away_takes_nothing_and_the_token_stays_good(guest):
    token = guest.token(21)
    receive(guest.daemon, guest.token(1))
    guest.mint.close()
    assert receive(guest.daemon, token)["code"] == "try_again"
    guest.mint.open()
    assert not books.rows(guest.daemon, "SELECT * FROM wallet_ops WHERE state = 'open'")
    assert received_at_last(guest.daemon, token)["received"] == 21
    assert guest.check() == 22


@pytest.mark.timeout(900)
def test_mint_that_restarts_in_the_middle_is_asked_when_it_is_back(lab, make_daemon):
    with Nutshell(lab.internet, MINT4, dir=lab.path("restarting"), port=3450) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        receive(guest.daemon, guest.token(1))
        held = 0
        for amount, moment in ((21, 0.005), (22, 0.02)):
            token = guest.token(amount)
            killer = threading.Timer(moment, mint.kill)
            killer.start()
            answer = receive(guest.daemon, token)
            killer.join()
            mint.start()
            if not answer["ok"] and answer["code"] == "try_again":
                received_at_last(guest.daemon, token)
            wait_for(
                lambda: unsettled(guest.daemon) <= held or held_by(mint, guest, token), WITHIN, "settled by itself"
            )
            if unsettled(guest.daemon) <= held:
                assert receive(guest.daemon, token)["data"]["received"] == amount
            else:
                assert receive(guest.daemon, token)["code"] == "not_known_yet"
                held += 1
                guest.minted -= amount
        assert guest.check() == guest.minted


@pytest.mark.parametrize(
    "lie",
    ["bad_dleq", "no_dleq", "short_signatures", "extra_signatures", "wrong_signature_amount", "foreign_keyset_id"],
)
def test_mint_that_lies_about_its_signatures_is_asked_again(guest, lie):
    token = guest.token(21)
    guest.mint.misbehave(lie, times=1)
    assert receive(guest.daemon, token)["data"]["received"] == 21
    assert guest.check() == 21


def test_keyset_rotated_under_a_payment_costs_new_outputs_only(guest):
    receive(guest.daemon, guest.token(1))
    token = guest.token(21)
    guest.mint.rotate()
    assert receive(guest.daemon, token)["data"]["received"] == 21
    assert guest.check() == 22
    assert len({proof["id"] for proof in Books(guest.daemon).takings(guest.url).proofs}) == 2


def test_fee_that_has_changed_is_noticed_and_the_next_try_works(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, keysets=1) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        receive(guest.daemon, guest.token(1))
        mint.keysets[0].fee_ppk = 100
        token = guest.token(21)
        answer = receive(guest.daemon, token)
        assert answer["code"] == "try_again" and "fee" in answer["message"]
        assert receive(guest.daemon, token)["data"] | {"mint": ""} == {
            "received": 20,
            "fee": 1,
            "mint": "",
            "unit": "sat",
        }
        assert guest.check(fees=1) == 21


def test_outputs_that_the_mint_knows_already_are_passed_over(guest):
    """The store is an old backup: its counters have been used."""
    daemon = guest.daemon
    receive(daemon, guest.token(3))
    daemon.stop()
    books.save(daemon, daemon.dir + "/old")
    daemon.start()
    for amount in (15, 31, 63):
        receive(daemon, guest.token(amount))
    lost = Books(daemon).takings(guest.url).proofs
    daemon.stop()
    subprocess.run(
        ["sh", "-c", f"rm -rf '{daemon.state_dir}' && cp -a '{daemon.dir}/old' '{daemon.state_dir}'"], check=True
    )
    daemon.start()
    assert received_at_last(daemon, guest.token(21), 20)["received"] == 21
    spent = guest.token(7)
    guest.wallet.receive(guest.held.pop())
    guest.held.append(guest.wallet.proofs[-3:])
    assert receive(daemon, spent)["code"] == "refused", "what our old outputs were signed for is not this token"
    guest.held.append(
        [
            proof
            for proof in lost
            if proof["secret"] not in {one["secret"] for one in Books(daemon).takings(guest.url).proofs}
        ]
    )
    assert guest.check() == 24
    assert daemon.data("wallet", "restore") == {"restored": 109, "trouble": []}
    guest.held.pop()
    assert guest.check() == 133


# kill -9

MOMENTS = [
    (0, "arrived"),
    (0, "done"),
    (0, "answered"),
    (0.002, "answered"),
    (0.006, "answered"),
    (0.012, "answered"),
    (0.03, "answered"),
]


def test_killed_around_a_swap_the_token_counts_once(guest):
    daemon, mint = guest.daemon, guest.mint
    for amount, (after, moment) in enumerate(MOMENTS, start=21):
        token = guest.token(amount)
        killed = mint.when("swap", moment, lambda: (time.sleep(after), guest.crash()))
        with pytest.raises((OSError, ValueError)):
            receive(daemon, token)
            raise OSError("it was faster")
        assert killed.wait(60)
        daemon.start()
        wait_for(lambda: settled(daemon), WITHIN, "settled without anybody asking")
        assert receive(daemon, token)["data"]["received"] == amount
        guest.check()
    assert guest.check() == sum(range(21, 21 + len(MOMENTS)))


def test_killed_again_and_again_while_it_finds_out_the_token_counts_once(guest):
    daemon, mint = guest.daemon, guest.mint
    token = guest.token(21)
    killed = mint.when("swap", "done", guest.crash)
    with pytest.raises((OSError, ValueError)):
        receive(daemon, token)
    assert killed.wait(60)
    for endpoint, moment in (("check", "arrived"), ("check", "done"), ("restore", "arrived"), ("restore", "done")):
        killed = mint.when(endpoint, moment, guest.crash)
        guest.revive()
        assert killed.wait(60), (endpoint, moment)
    guest.revive()
    wait_for(lambda: settled(daemon), WITHIN)
    assert guest.check() == 21
    assert mint.counts["swap"] == 1


# What goes out


def test_sent_token_is_taken_by_another_wallet_and_struck_off(guest):
    daemon = guest.daemon
    receive(daemon, guest.token(100))
    token = daemon.command("wallet", "send", "21").out.strip()
    assert guest.wallet.receive(token) == 21
    guest.held.append(guest.wallet.proofs[-3:])
    assert daemon.data("wallet", "sent") == []
    assert balance(daemon, guest.url) == guest.check() == 79


def test_token_that_was_sent_and_lost_is_shown_again_and_taken_back(guest):
    daemon = guest.daemon
    receive(daemon, guest.token(100))
    made = daemon.data("wallet", "send", "21", "--mint", guest.url, "--v3")
    assert made["token"].startswith("cashuA") and made["amount"] == 21
    daemon.restart()
    (listed,) = daemon.data("wallet", "sent")
    assert listed["id"] == made["id"] and balance(daemon, guest.url) == 79
    assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert balance(daemon, guest.url) == guest.check() == 100
    assert daemon.data("wallet", "sent") == []
    too_late = daemon.control({"command": "wallet", "args": ["reclaim", str(made["id"])]})
    assert too_late["code"] == "not_found"


def test_more_than_there_is_cannot_be_sent(guest):
    daemon = guest.daemon
    assert daemon.control({"command": "wallet", "args": ["send", "1"]})["code"] == "insufficient"
    receive(daemon, guest.token(20))
    assert daemon.control({"command": "wallet", "args": ["send", "21"]})["code"] == "insufficient"
    for nonsense in ("0", "-1", "1.5", "all"):
        assert daemon.control({"command": "wallet", "args": ["send", nonsense]})["code"] == "usage"
    assert guest.check() == 20


@pytest.mark.parametrize("moment", ["arrived", "done", "answered"])
def test_killed_while_it_changes_money_for_a_send_nothing_is_lost(guest, moment):
    daemon = guest.daemon
    receive(daemon, guest.token(64))
    killed = guest.mint.when("swap", moment, guest.crash)
    with contextlib.suppress(OSError, ValueError):
        daemon.control({"command": "wallet", "args": ["send", "21"]})
    assert killed.wait(60)
    daemon.start()
    wait_for(lambda: settled(daemon), WITHIN)
    for made in daemon.data("wallet", "sent"):
        # It was faster than the crash: a token that nobody was told of, or nobody took.
        assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    token = daemon.command("wallet", "send", "21").out.strip()
    assert guest.wallet.receive(token) == 21
    guest.held.append(guest.wallet.proofs[-3:])
    daemon.data("wallet", "sent")
    assert balance(daemon, guest.url) == guest.check() == 43


def test_proofs_of_a_retired_keyset_go_first(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, fee_ppk=100) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        receive(guest.daemon, guest.token(64))
        guest.mint.rotate(fee_ppk=100)
        guest.wallet = Wallet(lab.internet, mint.url)
        guest.daemon.restart()
        receive(guest.daemon, guest.token(64))
        token = guest.daemon.command("wallet", "send", "32").out.strip()
        sent = Books(guest.daemon).takings(mint.url, held=True).proofs
        assert {proof["id"] for proof in sent} == {mint.keysets[0].id}
        assert guest.wallet.receive(token) == 31
        guest.held.append(guest.wallet.proofs[-5:])
        guest.daemon.data("wallet", "sent")
        guest.check(fees=mint.fees)


# The words


def test_words_of_another_router_give_its_takings_to_this_one(lab, mint, make_daemon):
    old = Purse(lab, mint, make_daemon(mint.url))
    receive(old.daemon, old.token(100))
    receive(old.daemon, old.token(23))
    old.daemon.command("wallet", "send", "3")
    words = Books(old.daemon).seed.words
    old.daemon.stop()
    new = make_daemon(mint.url)
    program = [*new.program, "wallet", "restore", "-", "--json", "-c", new.config]
    found = json.loads(lab.router.run(program, input=words.replace(" ", "\n"), timeout=60).out)
    assert found == {"ok": True, "data": {"restored": 123, "trouble": []}}
    assert balance(new, mint.url) == 123
    again = json.loads(lab.router.run(program, input=words, timeout=60).out)["data"]
    assert again == {"restored": 0, "trouble": []}
    assert words not in new.log() and all(len(line) < 2000 for line in new.log().splitlines())
    bad = lab.router.run(program, input="twelve words that are none", check=False, timeout=60)
    assert bad.code == 1 and "words" in bad.out


def test_words_are_shown_to_a_terminal_only_and_the_log_notes_it(lab, guest):
    daemon = guest.daemon
    refused = daemon.command("wallet", "seed", check=False)
    assert refused.code == 1 and "terminal" in refused.out
    words = Books(daemon).seed.words

    def shown(*options: str) -> str:
        near, far = pty.openpty()
        process = daemon.lab.router.spawn(
            [
                "sh",
                "-c",
                (
                    f"exec {' '.join(daemon.program)} wallet seed {' '.join(options)} -c '{daemon.config}' "
                    f">{os.ttyname(far)} 2>&1"
                ),
            ]
        )
        process.wait()
        os.close(far)
        text = b""
        with contextlib.suppress(OSError):  # the terminal is gone
            while more := os.read(near, 4096):
                text += more
        os.close(near)
        return text.decode()

    assert shown().split() == words.split()
    assert "words are shown" in daemon.log() and words not in daemon.log()
    daemon.stop()
    assert words in " ".join(shown("--json").split())


# What Lightning brought in


def test_access_bought_by_invoice_can_be_spent_from_the_wallet(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url)
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(fault_mint.url, 21, apply=True)
        fault_mint.pay(made["invoice"])
        proxy.wait("session_granted")
    assert balance(daemon, fault_mint.url) == 21
    token = daemon.command("wallet", "send", "21").out.strip()
    assert Wallet(lab.internet, fault_mint.url).receive(token) == 21
    assert daemon.data("wallet", "sent") == [] and balance(daemon, fault_mint.url) == 0


@pytest.mark.parametrize("keysets", [1, 2])
def test_tokens_of_sales_before_there_was_a_wallet_become_takings(lab, make_daemon, keysets):
    with FaultMint(lab.internet, MINT4, keysets=keysets) as mint:
        daemon, asked = make_daemon(mint.url), []
        with MintProxy(lab.guest) as proxy:
            for amount in (5, 21):
                made = proxy.request(mint.url, amount, apply=True)
                now = Books(daemon)
                asked.append((now.tables["requests"][0], now.tables["parts"][0], now.outputs[0]))
                mint.pay(made["invoice"])
                proxy.wait("session_granted")
        found = Books(daemon)
        daemon.stop()
        undo = []
        for number, (sold, part, outputs) in enumerate(asked, 1):
            counters = range(outputs["counter"], outputs["counter"] + len(outputs["amounts"]))
            rows = [row for row in found.proofs if row["counter"] in counters]
            token = encode_token(
                mint.url,
                [
                    {
                        "amount": row["amount"],
                        "id": row["id"],
                        "secret": found.seed.secret(row["id"], row["counter"]),
                        "C": row["c"].hex(),
                    }
                    for row in rows
                ],
            )
            undo += [
                (
                    f"INSERT INTO requests (id, mac, venue, owner, created_ms) VALUES ('{sold['id']}', "
                    f"'{sold['mac']}', '{sold['venue']}', 'house', 1)"
                ),
                (
                    "INSERT INTO parts (id, request, position, mint, amount, allotment, lock_index, state, quote, "
                    f"invoice, token, outputs) VALUES ({number}, '{sold['id']}', 0, '{part['mint']}', "
                    f"{part['amount']}, {part['allotment']}, {part['lock_index']}, 'claimed', '{part['quote']}', "
                    f"'{part['invoice']}', '{token}', '{part['outputs']}')"
                ),
            ]
        undo += ["UPDATE grants SET keyset = NULL", "INSERT INTO meta (key, value) VALUES ('older rows', x'')"]
        books.edit(daemon, *undo, "DELETE FROM proofs", "DELETE FROM wallet_keysets")
        daemon.start()
        wait_for(lambda: balance(daemon, mint.url) == 26, 10)
        assert not [part for part in Books(daemon).parts() if part["token"]]
        assert mint.value_of(Books(daemon).takings(mint.url).proofs) == 26
        daemon.restart()
        assert balance(daemon, mint.url) == 26


def test_takings_in_more_proofs_than_a_request_takes_are_sent_whole(guest):
    """210 proofs of 2 and 8 sat: small ones are joined first, in as many rounds as it takes."""
    tokens = [guest.token(10) for _ in range(105)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(answer["ok"] for answer in pool.map(lambda token: receive(guest.daemon, token), tokens))
    assert guest.daemon.data("wallet", "info")["mints"][0]["proofs"] == 210
    refused = guest.daemon.control({"command": "wallet", "args": ["send", "1051"]})
    assert not refused["ok"] and "1050 sat can be spent" in refused["message"]
    token = guest.daemon.command("wallet", "send", "1050").out.strip()
    assert guest.wallet.receive(token) == 1050
    assert guest.daemon.data("wallet", "sent") == [] and balance(guest.daemon, guest.url) == 0


def test_seed_of_the_lab_is_the_one_of_the_specification():
    """The yardstick: NUT-13's own vectors."""
    vectors = json.load(open("tests/vectors/cashu/nut13-20-seed.json"))
    seed = Seed(bytes(Mnemonic("english").to_entropy(vectors["mnemonic"])))
    for case in vectors["secrets"]:
        assert [seed.secret(case["id"], counter) for counter in range(len(case["secret"]))] == case["secret"]


# Anything, in any order


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_in_whatever_order_the_sum_comes_out(lab, make_daemon, seed):
    """Payments, the same ones again, sends, faults, rotations, kills: drawn by lot, and drawn again by the same
    number.
    """
    lot = random.Random(seed)
    with FaultMint(lab.internet, MINT4, fee_ppk=lot.choice([0, 100])) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        daemon, tokens = guest.daemon, []
        faults = ["rate_limited", "down", "drop_before", "drop_after_commit", "garbage", "html"]
        lies = ["bad_dleq", "short_signatures", "foreign_keyset_id"]

        def pay() -> None:
            tokens.append(guest.token(lot.randint(20, 300)))
            receive(daemon, tokens[-1])

        def again() -> None:
            if tokens:
                with concurrent.futures.ThreadPoolExecutor(3) as pool:
                    list(pool.map(lambda _: receive(daemon, lot.choice(tokens)), range(3)))

        def send() -> None:
            made = daemon.control({"command": "wallet", "args": ["send", str(lot.randint(1, 60))]})
            if made["ok"]:
                mint.behave()
                before = len(guest.wallet.proofs)
                guest.wallet.receive(made["data"]["token"])
                guest.held.append(guest.wallet.proofs[before:])

        def fault() -> None:
            mint.misbehave(lot.choice(faults), times=lot.randint(1, 2), on=lot.choice(["swap", "check", "restore"]))

        def lie() -> None:
            tokens.append(guest.token(lot.randint(20, 300)))
            mint.misbehave(lot.choice(lies), times=1)
            receive(daemon, tokens[-1])
            mint.behave()

        def rotate() -> None:
            mint.rotate(fee_ppk=lot.choice([0, 100, 200]))
            guest.wallet = Wallet(lab.internet, mint.url)

        def crash() -> None:
            moment = lot.choice(["arrived", "done", "answered"])
            killed = mint.when("swap", moment, guest.crash)
            tokens.append(guest.token(lot.randint(20, 300)))
            with contextlib.suppress(OSError, ValueError):
                receive(daemon, tokens[-1])
            with mint.lock:
                never_came = mint.moments.pop(("swap", moment), None)
            # The answer may be quicker than the crash that it brought about.
            assert never_came or killed.wait(60)
            if not daemon.running:
                daemon.start()

        for _ in range(25):
            lot.choices([pay, again, send, fault, lie, rotate, crash], [6, 2, 3, 4, 2, 1, 2])[0]()
        mint.behave()
        for token in tokens:
            received_at_last(daemon, token)
        wait_for(lambda: settled(daemon), WITHIN)
        daemon.data("wallet", "sent")
        guest.check(fees=mint.fees)


@pytest.mark.parametrize("fee_ppk", [0, 100])
def test_hundreds_of_small_proofs_are_sent_to_the_last_sat_that_can_be(lab, make_daemon, fee_ppk):
    """480 proofs of 2 and 8 sat take three rounds; what each costs is paid, and the error names what is left."""
    with FaultMint(lab.internet, MINT4, fee_ppk=fee_ppk) as mint:
        guest = Purse(lab, mint, make_daemon(mint.url))
        made = [guest.token(10) for _ in range(240)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert all(answer["ok"] for answer in pool.map(lambda token: receive(guest.daemon, token), made))
        held = balance(guest.daemon, mint.url)
        refused = guest.daemon.control({"command": "wallet", "args": ["send", str(held + 1)]}, 60)
        most = int(refused["message"].split(" sat can be spent")[0].split()[-1])
        assert refused["code"] == "insufficient" and held - most <= held * fee_ppk / 1000, refused
        sent = guest.daemon.data("wallet", "send", str(most - 5))
        assert sent["amount"] == most - 5
        assert guest.wallet.receive(sent["token"]) >= (most - 5) * 95 // 100
        assert guest.daemon.data("wallet", "sent") == []


def test_a_send_whose_answer_is_lost_says_that_nothing_was_sent_and_that_is_true(guest):
    daemon = guest.daemon
    receive(daemon, guest.token(64))
    guest.mint.misbehave("drop_after_commit", 1, on="swap")
    guest.mint.misbehave("drop_before", on="check")
    answer = daemon.control({"command": "wallet", "args": ["send", "21"]}, 60)
    assert answer["ok"] is False and "nothing was sent" in answer["message"], answer
    assert daemon.data("wallet", "sent") == []
    guest.mint.behave()
    wait_for(lambda: settled(daemon), WITHIN)
    assert balance(daemon, guest.url) == guest.check() == 64

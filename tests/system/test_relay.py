"""A relay acknowledges what it has kept, gives each router its own and nothing else, and holds one token for all."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.daemon import binary, faults_in
from lab.darajasim import DarajaSim
from lab.place import HOST, PATIENCE, wait_for
from lab.relay import Relay


@pytest.fixture
def sim():
    with DarajaSim() as made:
        made.settings.spike = 1000
        yield made


@pytest.fixture
def relay(sim, tmp_path):
    with Relay(str(tmp_path), sim.url, routers=["r1", "r2"]) as made:
        yield made
        with open(made.log, errors="replace") as log:
            text = log.read()
        assert not faults_in(text) and "key-of-" not in text and "test-consumer" not in text


def test_what_was_acknowledged_is_there_after_a_kill_and_each_router_has_its_own(relay):
    def call(number):
        try:
            return number, relay.call(f"r{number % 2 + 1}", f"token{number}", {"number": number})
        except OSError:
            return number, 0

    killer = threading.Timer(0.15, lambda: relay.process.send_signal(9))
    killer.start()
    with ThreadPoolExecutor(50) as crowd:
        told = list(crowd.map(call, range(300)))
    killer.join()
    relay.process.wait()
    relay.start()
    kept = {number for number, status in told if status == 200}
    assert kept and {status for _, status in told} <= {0, 200}
    for router in (1, 2):
        own = _all(relay, f"r{router}")
        assert [event["seq"] for event in own] == sorted(event["seq"] for event in own)
        numbers = {int(event["token"].removeprefix("token")) for event in own}
        assert {number for number in kept if number % 2 + 1 == router} <= numbers
        assert all(number % 2 + 1 == router for number in numbers)
        assert all(event["body"] == f'{{"number": {event["token"].removeprefix("token")}}}' for event in own)


def _all(relay, router):
    events, after = [], 0
    while more := relay.events(router, after):
        events, after = events + more, more[-1]["seq"]
    return events


def test_strangers_are_told_nothing_and_fill_nothing(relay):
    assert relay.call("nobody", "t", {}) == 404
    assert relay.call("r1", "a.b", {}) == 404 and relay.ask("POST", "/cb/r1", {}).status == 404
    other = relay.ask("GET", "/cb/r1/t")
    assert other.status == 405 and other.headers["allow"] == "POST"
    other = relay.ask("POST", "/v1/token", {})
    assert other.status == 405 and other.headers["allow"] == "GET"
    assert relay.ask("POST", "/cb/r1/t", b"x" * (64 * 1024)).status == 200
    assert relay.ask("POST", "/cb/r1/t", b"x" * (64 * 1024 + 1)).status == 413
    assert relay.ask("POST", "/cb/r1/u", b"\xff\xfe").status == 200
    for key in (None, "", "wrong", relay.key("r1")[:-1], relay.key("r1") + "x"):
        assert relay.ask("GET", "/v1/events?after=0", key=key).status == 401
        assert relay.ask("GET", "/v1/token", key=key).status == 401
    assert relay.ask("GET", "/v1/events?after=-1", key=relay.key("r1")).status == 400
    assert relay.ask("GET", "/v1/events?after=x", key=relay.key("r1")).status == 400
    with ThreadPoolExecutor(50) as crowd:
        statuses = list(crowd.map(lambda _: relay.call("r1", "same", {"again": 1}), range(100)))
    assert statuses.count(200) == 32 and statuses.count(429) == 68
    assert int(relay.ask("POST", "/cb/r1/same", {}).headers["retry-after"]) > 0
    assert relay.call("r1", "another", {}) == 200 and len(_all(relay, "r1")) == 35
    assert _all(relay, "r2") == []


def test_a_router_that_is_full_goes_on_when_it_has_collected(relay):
    def fill(number):
        return relay.ask("POST", f"/cb/r1/big{number}", b"x" * (64 * 1024)).status

    with ThreadPoolExecutor(20) as crowd:
        statuses = list(crowd.map(fill, range(140)))
    assert statuses.count(200) == 128 and statuses.count(429) == 12
    assert relay.call("r2", "other", {}) == 200
    last = _all(relay, "r1")[-1]["seq"]
    assert fill(1001) == 200
    assert [event["token"] for event in relay.events("r1", last)] == ["big1001"]


def test_a_question_waits_for_news_of_its_own_router(relay):
    began = time.monotonic()
    assert relay.events("r1", wait=1) == [] and time.monotonic() - began > 0.9
    with ThreadPoolExecutor(2) as two:
        asked = two.submit(relay.events, "r1", 0, 25)
        time.sleep(0.2)
        assert relay.call("r2", "t", {}) == 200 and not asked.done()
        began = time.monotonic()
        assert relay.call("r1", "t", {"x": 1}) == 200
        (event,) = asked.result(5)
    assert time.monotonic() - began < 2 and event["token"] == "t"


def test_fifty_routers_that_ask_at_once_have_one_token_and_a_dead_one_is_fetched_anew_once(relay, sim):
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda number: relay.token(f"r{number % 2 + 1}"), range(50)))
    (token,) = {answer.json()["access_token"] for answer in answers}
    assert sim.count("oauth") == 1 and 3500 < answers[0].json()["expires_in"] <= 3599
    assert relay.token("r1", dead="something-else").json()["access_token"] == token
    sim.kill_tokens()
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda number: relay.token(f"r{number % 2 + 1}", dead=token), range(50)))
    (new,) = {answer.json()["access_token"] for answer in answers}
    assert new != token and sim.count("oauth") == 2
    assert relay.token("r2", dead=token).json()["access_token"] == new and sim.count("oauth") == 2


def test_a_router_that_calls_every_token_dead_has_one_a_second(relay, sim):
    tokens, began = [relay.token("r1").json()["access_token"]], time.monotonic()
    for _ in range(2):
        tokens.append(relay.token("r1", dead=tokens[-1]).json()["access_token"])
    assert len(set(tokens)) == sim.count("oauth") == 3 and time.monotonic() - began > 1.9


def test_a_token_that_lives_shortly_is_given_out_for_half_its_life(relay, sim):
    sim.settings.token_life = 20
    answer = relay.token("r1")
    assert answer.status == 200 and answer.json()["expires_in"] == 20
    again = relay.token("r2").json()
    assert again["access_token"] == answer.json()["access_token"] and sim.count("oauth") == 1
    sim.settings.token_life = 4
    short = relay.token("r1", dead=again["access_token"]).json()
    assert short["expires_in"] == 4 and relay.token("r2").json()["access_token"] == short["access_token"]
    wait_for(lambda: relay.token("r1").json()["access_token"] != short["access_token"], PATIENCE, "it is old")
    assert sim.count("oauth") == 3


def test_without_daraja_there_is_no_token_and_callbacks_are_kept(relay, sim):
    sim.close()
    assert relay.token("r1").status == 503 and relay.call("r1", "t", {}) == 200
    sim.open()
    wait_for(lambda: relay.token("r1").status == 200, PATIENCE, "Daraja is back")


def test_a_reload_takes_a_new_router_and_a_new_key_and_a_broken_file_changes_nothing(relay):
    relay.routers = ["r1", "r3"]
    relay.reload()
    wait_for(lambda: relay.call("r3", "t", {}) == 200, PATIENCE, "the new router")
    assert relay.call("r2", "t", {}) == 404
    relay.write("config relay 'two'\n")
    relay.process.send_signal(1)
    time.sleep(0.3)
    assert relay.call("r3", "t", {}) == 200


WRONG = {
    "listen '127.0.0.1:0'": "listen",
    "router 'r1'": "router",
    "router 'r/1 /etc/r1.key'": "router",
}


@pytest.mark.parametrize("line", WRONG)
def test_check_names_what_is_wrong_and_the_relay_does_not_start(sim, tmp_path, line):
    relay = Relay(str(tmp_path), sim.url, routers=["r1"])
    relay.write()
    good = relay.check()
    assert good.code == 0 and "can be used: a relay for 1 router, " in good.out
    with open(relay.file) as file:
        text = file.read()
    kind = "option" if line.startswith("listen") else "list"
    with open(relay.file, "w") as file:
        others = [one for one in text.splitlines() if line.split(" ")[0] not in one]
        file.write("\n".join(others) + f"\n\t{kind} {line}\n")
    bad = relay.check()
    assert bad.code == 1 and f"option '{WRONG[line]}'" in bad.out
    started = HOST.run(_command(relay), check=False)
    assert started.code == 1 and f"option '{WRONG[line]}'" in started.out


def _command(relay):
    return [binary(), "relay", "-c", relay.file]


def test_a_key_that_others_can_read_is_refused(sim, tmp_path):
    relay = Relay(str(tmp_path), sim.url, routers=["r1"])
    relay.write()
    relay.secret("r1.key", relay.key("r1"), 0o644)
    refused = HOST.run(_command(relay), check=False)
    assert refused.code == 1 and "r1.key" in refused.out and "chmod 600" in refused.out
    assert relay.key("r1") not in refused.out

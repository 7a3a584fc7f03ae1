"""What shillings and satoshis are for each other: of a fixed rate or a feed, and never of one that nobody has set."""

import json

import pytest

from lab.darajasim import DarajaSim
from lab.fake_clock import FakeWall, needs_faketime
from lab.internet import AWAY
from lab.place import PATIENCE, wait_for

FIXED = {"source": "fixed", "kes_per_btc": 13_000_000}


@pytest.fixture
def sim(lab):
    with DarajaSim(lab.router) as made:
        yield made


def feed(sim, **options):
    rate = {"source": "feed", "url": f"{sim.url}/rate?base=BTC", "pointer": "/data/rates/KES", "allow_http": 1}
    return {"rate": rate | {"min": 5_000_000, "max": 30_000_000} | options}


def quote(daemon, *words):
    done = daemon.command("fiat", "quote", *map(str, words), "--json", check=False)
    answer = json.loads(done.out)
    assert (done.code == 0) == answer["ok"]
    return answer["data"] if answer["ok"] else (done.code, answer["code"])


VECTORS = [
    (0, "buy", 100, {"kes": 100, "msat": 769_230}),
    (200, "buy", 100, {"kes": 100, "msat": 753_846}),
    (200, "buy", 250_000, {"kes": 250_000, "msat": 1_884_615_384}),
    (0, "sell", 1000, {"kes": 130, "msat": 1_000_000}),
    (200, "sell", 1000, {"kes": 127, "msat": 1_000_000}),
    (200, "sell", 79, {"kes": 10, "msat": 79_000}),
]


def test_a_fixed_rate_gives_the_vectors(make_daemon):
    daemon = make_daemon(AWAY, sections={"rate": FIXED})
    for spread in (0, 200):
        daemon.sections["rate"] = FIXED | {"spread_buy_bp": spread, "spread_sell_bp": spread}
        daemon.write_config()
        daemon.command("reload")
        for bp, way, amount, expected in VECTORS:
            if bp == spread:
                assert quote(daemon, way, amount) == expected | {"rate": 13_000_000, "spread_bp": bp}
    for words in (["buy", "0"], ["buy", "250001"], ["buy", "1.5"], ["buy", "-1"], ["sell", "0"], ["sell", 2**63]):
        assert quote(daemon, *words)[0] == 2, words


def test_without_a_rate_there_is_no_quote(daemon):
    assert quote(daemon, "buy", 100) == (1, "rate_stale")


def test_a_feed_that_jumps_lies_or_is_gone_leaves_no_rate_once_the_last_good_one_is_stale(make_daemon, sim):
    sim.rate = {"value": "13000000.75"}
    daemon = make_daemon(AWAY, sections=feed(sim, max_age=3))
    assert quote(daemon, "buy", 100)["msat"] == 769_230
    sim.rate = {"value": 13_600_000}
    wait_for(lambda: quote(daemon, "buy", 100)["rate"] == 13_600_000, PATIENCE, "a step within the bounds")
    bad = [
        {"value": 14_500_000},
        {"value": 2**64},
        {"raw": "<html>", "status": 502},
        {"raw": "{\"data\":{\"rates\":{\"KES\":null}}}"},
        {"raw": "[" * 100_000},
    ]
    for answer in bad[:1]:
        sim.rate = answer
        wait_for(lambda: quote(daemon, "sell", 1000) == (1, "rate_stale"), PATIENCE, "the rate is stale")
    for answer in bad[1:]:
        sim.rate = answer
        asked = sim.count("/rate")
        wait_for(lambda: sim.count("/rate") > asked, PATIENCE, "the feed is asked")
        assert quote(daemon, "sell", 1000) == (1, "rate_stale"), answer
    sim.rate = {"value": 13_700_000}
    wait_for(lambda: "rate" in quote(daemon, "sell", 1000), PATIENCE, "the feed has come to its senses")
    assert quote(daemon, "sell", 1000)["rate"] == 13_700_000


@needs_faketime
def test_while_the_clock_is_not_set_no_feed_is_asked(lab, make_daemon, sim):
    clock = FakeWall(lab)
    daemon = make_daemon(AWAY, sections=feed(sim), start=False)
    daemon.start(env=clock.env)
    assert quote(daemon, "buy", 100) == (1, "rate_stale") and sim.count("/rate") == 0
    assert "clock" in daemon.command("fiat", "quote", "buy", "100", check=False).out
    clock.write("+0")
    wait_for(lambda: "rate" in quote(daemon, "buy", 100), PATIENCE, "the clock is set")


def test_a_first_value_outside_of_the_bounds_is_no_rate(make_daemon, sim):
    sim.rate = {"value": 30_000_001}
    daemon = make_daemon(AWAY, sections=feed(sim))
    assert quote(daemon, "buy", 100) == (1, "rate_stale")
    assert "outside of the bounds" in daemon.command("fiat", "quote", "buy", "100", check=False).out


WRONG = {
    "source": {"source": "somewhere"},
    "kes_per_btc": {"source": "fixed"},
    "url": {"source": "feed", "url": "http://198.51.100.80/rate", "pointer": "/a", "allow_http": 1},
    "pointer": {"source": "feed", "url": "https://feed.example.net/rate", "pointer": "a"},
    "min": FIXED | {"min": 20_000_000, "max": 10_000_000},
    "max_jump_bp": FIXED | {"max_jump_bp": 0},
    "spread_buy_bp": FIXED | {"spread_buy_bp": 10_000},
}


@pytest.mark.parametrize("option", WRONG)
def test_check_names_the_option_that_is_wrong(make_daemon, option):
    daemon = make_daemon(AWAY, sections={"rate": WRONG[option]}, start=False)
    done = daemon.command("check", check=False)
    assert done.code == 1 and f"option '{option}'" in done.out

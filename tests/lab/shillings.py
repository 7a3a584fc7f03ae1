"""A daemon that sells for M-Pesa at the Daraja simulator, and what a test asks of it.

	with DarajaSim(lab.router, "127.0.0.1", speed=PACE) as sim:
		daemon = make_daemon(sections=sections(lab, sim.url))
"""

import os
from itertools import count

from .darajasim import Settings

NUMBERS = count(1)
PACE = 10
CALLBACK = "https://relay.example.net/cb"
PUBLIC = ("127.0.0.1", 2124)
HOUR = {"id": "1h", "name": "1 hour", "amount": 20, "steps": 60}
DAY = {"id": "day", "name": "1 day", "amount": 100, "steps": 1440}


def credentials(lab, **values: str) -> dict[str, str]:
    """Files with the simulator's own credentials, or others."""
    known = {
        "consumer_key": "test-consumer-key",
        "consumer_secret": "test-consumer-secret",
        "passkey": "testpasskey",
    }
    files = {}
    for name, value in (known | values).items():
        path = lab.path(f"mpesa-{next(NUMBERS)}.{name}")
        with open(path, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
            file.write(value + "\n")
        files[f"{name}_file"] = path
    return files


def sections(lab, url: str, prices=(HOUR, DAY), **options) -> dict[str, dict]:
    """What a daemon's `sections` need; `options` are more of `config mpesa`."""
    mpesa = {
        "base_url": url,
        "allow_http": 1,
        "shortcode": "174379",
        "callback_url": CALLBACK,
        "pace": PACE,
        **credentials(lab),
        **options,
    }
    return {"mpesa": mpesa} | {f"price {price['id']}": price for price in prices}


def secret_file(lab, name: str, value: str) -> str:
    path = lab.path(f"{name}-{next(NUMBERS)}")
    with open(path, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        file.write(value + "\n")
    return path


def payout_sections(lab, url: str, fiat: dict, rate: dict) -> dict[str, dict]:
    """What a daemon needs, beside `sections`, to pay out at the simulator: everything is switched on."""
    settings = Settings()
    switches = {"operator_licensed": 1, "sell": 1, "airtime": 1, "bills": 1}
    who = {"shortcode": settings.b2c_shortcode, "initiator": settings.initiator}
    who["credential_file"] = secret_file(lab, "credential", settings.credential)
    seller = {"base_url": url, "allow_http": 1, "username": settings.airtime_username}
    seller["key_file"] = secret_file(lab, "airtime.key", settings.airtime_key)
    rates = rate or {"kes_per_btc": 13_000_000, "spread_sell_bp": 200}
    rates = rates | ({"allow_http": 1} if rate else {})
    return {"fiat": switches | who | fiat, "airtime": seller, "rate": rates, "auth": {"domain": "wifi.example.net"}}

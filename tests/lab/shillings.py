"""A daemon that sells for M-Pesa at the Daraja simulator, and what a test asks of it.

	with DarajaSim(lab.router, "127.0.0.1", speed=PACE) as sim:
		daemon = make_daemon(sections=sections(lab, sim.url))
"""

import os
from itertools import count

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

"""BOLT 11 invoices of our own making: of any network, age and payee, with a preimage that we know."""

import hashlib
import os
import time
from dataclasses import dataclass

from bolt11 import Bolt11, Feature, Features, FeatureState, MilliSatoshi, RouteHint, Tags, TagChar, encode


@dataclass
class Made:
    request: str
    payment_hash: str
    preimage: str


def make(
    sats: int = 21,
    *,
    msat: int | None = None,
    currency: str = "bcrt",
    expiry: int = 3600,
    age: int = 0,
    description: str = "lab",
    hints: int = 0,
) -> Made:
    """`msat=0`: no amount; `age`: made so many seconds ago; `hints`: how many ways to the payee, a node that nobody
    knows, it shows.
    """
    preimage = os.urandom(32)
    payment_hash = hashlib.sha256(preimage).hexdigest()
    tags = Tags()
    tags.add(TagChar.payment_hash, payment_hash)
    tags.add(TagChar.payment_secret, os.urandom(32).hex())
    tags.add(TagChar.description, description)
    tags.add(TagChar.expire_time, expiry)
    tags.add(TagChar.min_final_cltv_expiry, 18)
    required, optional = FeatureState.required, FeatureState.supported
    tags.add(
        TagChar.features,
        Features.from_feature_list(
            {Feature.var_onion_optin: required, Feature.payment_secret: required, Feature.basic_mpp: optional}
        ),
    )
    hop = {
        "public_key": "02" + "11" * 32,
        "short_channel_id": "800000x1x1",
        "base_fee": 1,
        "ppm_fee": 1,
        "cltv_expiry_delta": 40,
    }
    for _ in range(hints):
        tags.add(TagChar.route_hint, RouteHint.from_list([hop]))
    amount = MilliSatoshi(sats * 1000 if msat is None else msat)
    invoice = Bolt11(currency=currency, amount_msat=amount, date=int(time.time()) - age, tags=tags)
    return Made(encode(invoice, os.urandom(32).hex()), payment_hash, preimage.hex())

"""BOLT 11 invoices of our own making: of any network, age and payee, with a preimage that we know."""

import hashlib
import os
import time
from dataclasses import dataclass

from bolt11 import Bolt11, Feature, Features, FeatureState, MilliSatoshi, Tags, TagChar, encode


@dataclass
class Made:
    request: str
    payment_hash: str
    preimage: str


def make(sats: int = 21, *, msat: int | None = None, currency: str = "bcrt", expiry: int = 3600, age: int = 0) -> Made:
    """`age`: made so many seconds ago. The payee is a node that nobody knows."""
    preimage = os.urandom(32)
    payment_hash = hashlib.sha256(preimage).hexdigest()
    tags = Tags()
    tags.add(TagChar.payment_hash, payment_hash)
    tags.add(TagChar.payment_secret, os.urandom(32).hex())
    tags.add(TagChar.description, "lab")
    tags.add(TagChar.expire_time, expiry)
    tags.add(TagChar.min_final_cltv_expiry, 18)
    required, optional = FeatureState.required, FeatureState.supported
    tags.add(TagChar.features, Features.from_feature_list({Feature.var_onion_optin: required, Feature.payment_secret: required, Feature.basic_mpp: optional}))
    amount = MilliSatoshi(sats * 1000 if msat is None else msat)
    invoice = Bolt11(currency=currency, amount_msat=amount, date=int(time.time()) - age, tags=tags)
    return Made(encode(invoice, os.urandom(32).hex()), payment_hash, preimage.hex())

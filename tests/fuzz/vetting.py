"""The decoder of restricted pickles: the vetting pass, its native twin, and what is built.

Any exception but a DecodeError stops it, and so does a disagreement: what is accepted must be what CPython's own
unpicklers make of the same bytes, must be encodable, and must come back.
"""

from __future__ import annotations

import io
import pickle

from attacks import victims
from pickling.test_fuzz import PICKLES
from pickling.values import same
from sealwire import Allowlist, Codec, DecodeError, EncodeError, Limits
from sealwire.native import NATIVE
from support.twins import compare

RUNS = 8_000
LIMITS = Limits(max_depth=20, max_nodes=5000, max_memory=1 << 22, max_expanded_nodes=20_000)
CODEC = Codec(Allowlist(*victims.TYPES), limits=LIMITS)
_VALUES = [
    victims.Order("nails", 2, ["a"]), victims.Account("me"), {victims.Key(1): victims.Color.RED}, victims.Rights.READ,
    [victims.Point(1, 2)] * 2, victims.Refused(3),
]  # fmt: skip
SEEDS = PICKLES + [pickle.dumps(value, protocol) for value in _VALUES for protocol in range(2, 6)]


def one(data: bytes) -> None:
    """Decode, and compare; with the native core, both forms of the vetting pass as well."""
    if NATIVE:
        compare(CODEC._decoder, data)
    try:
        value = CODEC.decode(data)
    except DecodeError:
        return
    # Accepted, so that CPython's own may have it: their names are those of the table.
    for load in (pickle.load, pickle._load):  # the one in Python
        expected = load(io.BytesIO(data))
        if not same(value, expected) and repr(value) != repr(expected):
            raise AssertionError("another value than CPython's")
    try:
        again = CODEC.decode(CODEC.encode(value))
    except EncodeError as error:
        raise AssertionError("accepted, but cannot be sent") from error
    if not same(value, again) and repr(value) != repr(again):
        raise AssertionError("another value after a round trip")

"""Lets one allocation after another fail, in a process of its own, since every thread of it is concerned.

python -m native.out_of_memory vetting|codec NAME
"""

from __future__ import annotations

import _testcapi
import pickle
import sys
from collections.abc import Callable
from typing import Any

from pickling import shop
from sealwire import Allowlist, Codec, Limits
from sealwire.pickling import Decoder

TYPES = Allowlist(*shop.TYPES)
DECODER = Decoder(TYPES, Limits())
CODEC = Codec(TYPES)
VALUES: dict[str, Any] = {
    "dicts of one form": [{"a": number, "b": [number]} for number in range(200)],
    "str as keys": {f"key{number}": number for number in range(2000)},
    "tuples as keys": {(number, "x"): number for number in range(200)},
    "ints that are far apart": set(range(0, 600_000, 2000)),
    "long str": ["é" * 5000] * 3,
    "instances": shop.Box(shop.Struct(1, "x"), [shop.Point(number) for number in range(20)]),
}
STEPS = [*range(60), *range(60, 600, 17), *range(600, 4000, 211)]
"""After so many allocations one fails."""


def failing(start: int, call: Callable[[Any], Any], argument: Any, otherwise: Any) -> Any:
    """Return the result of a call during which one allocation fails; ``otherwise`` if it raises anything."""
    _testcapi.set_nomemory(start, start + 1)
    try:
        return call(argument)
    except Exception:
        return otherwise
    finally:
        _testcapi.remove_mem_hooks()


def vet(data: bytes) -> int:
    return DECODER._vet(data, None, None)


def vetting(value: Any) -> None:
    """Check that the next messages are examined as if nothing had happened."""
    data, *others = (pickle.dumps(each, 5) for each in (value, *VALUES.values()))
    expected = [vet(each) for each in (data, *others)]
    assert min(expected) >= 0
    for start in STEPS:
        assert failing(start, vet, data, -1) in (-1, expected[0])
        assert [vet(each) for each in (data, *others)] == expected


def codec(value: Any) -> None:
    """Check that a value is encoded and decoded rightly, or not at all."""
    data = CODEC.encode(value)
    for start in STEPS:
        assert failing(start, CODEC.encode, value, data) == data
        assert failing(start, CODEC.decode, data, value) == value
    assert CODEC.encode(value) == data
    assert CODEC.decode(data) == value


if __name__ == "__main__":
    {"vetting": vetting, "codec": codec}[sys.argv[1]](VALUES[sys.argv[2]])

"""Depth, size and keys of the objects that a message would make."""

from __future__ import annotations

import pickle

import pytest

from pickling import shop
from pickling.assembler import dict_, instance, integer, message, text, tuple_
from sealwire import Allowlist, Codec, LimitExceeded, Limits
from sealwire.pickling import opcodes as op

SHOP = "pickling.shop"
NONE = b"N"


def test_keys_are_charged_each_time_that_they_are_hashed() -> None:
    """A tuple is hashed by both passes, in each dict that it is a key of."""
    key = tuple_(*[NONE] * 5000) + bytes((op.MEMOIZE,))
    again = bytes((op.BINGET, 0))
    dicts = b"".join(
        bytes((op.EMPTY_DICT,)) + (key if not n else again) + NONE + bytes((op.SETITEM,)) for n in range(99)
    )
    data = message(op.EMPTY_LIST, op.MARK, dicts, op.APPENDS)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: hashing and comparing"):
        Codec(limits=Limits(max_expanded_nodes=99 * 5000 - 1)).decode(data)


def test_instances_unfold_within_the_limit() -> None:
    state = dict_((text("name"), text("a")), (text("size"), integer(1)))
    data = message(instance(SHOP, "Frozen", state))
    assert Codec(Allowlist(shop.Frozen), limits=Limits(max_expanded_nodes=6)).decode(data) == shop.Frozen("a", 1)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
        Codec(Allowlist(shop.Frozen), limits=Limits(max_expanded_nodes=5)).decode(data)


def test_a_key_with_one_part_twice() -> None:
    part = (1, ("a", 2))
    assert Codec().decode(pickle.dumps({(part, part): part}, 5)) == {(part, part): part}

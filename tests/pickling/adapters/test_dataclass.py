"""Dataclasses: missing fields, cached properties."""

from __future__ import annotations

import pickle

import pytest

from pickling import shop
from pickling.assembler import dict_, instance, integer, list_, message, text, tuple_
from sealwire import Allowlist, Codec, EncodeError, InvalidValue

CODEC = Codec(Allowlist(*shop.TYPES))


def test_a_field_that_is_not_there() -> None:
    value = shop.Frozen("a", 1)
    del value.__dict__["size"]
    with pytest.raises(EncodeError, match="not exactly its declared fields"):
        CODEC.encode(value)


def test_a_copy_of_a_cached_instance() -> None:
    """The placeholder for copyreg's function in a pickle makes an instance when it is called."""
    value = shop.Cached(2)
    assert value.twice == 4
    (adapter,) = Allowlist(shop.Cached).adapters
    function, arguments, state = adapter.reduce(value)
    made = function(*arguments)
    made.__dict__.update(state)
    assert made == value


def test_the_state_of_a_frozen_class_with_slots_is_read_as_cpython_does() -> None:
    """By position, whether a list or a tuple."""
    for state in (list_, tuple_):
        data = message(instance("pickling.shop", "FrozenSlotted", state(integer(1), tuple_(integer(2)))))
        assert CODEC.decode(data) == pickle.loads(data) == shop.FrozenSlotted(1, (2,))
    slots = dict_((text("a"), integer(1)), (text("b"), tuple_()))
    with pytest.raises(InvalidValue, match=r"\.a: expected int"):
        CODEC.decode(message(instance("pickling.shop", "FrozenSlotted", tuple_(b"N", slots))))

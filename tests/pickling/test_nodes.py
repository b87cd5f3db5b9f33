"""Depth, size and keys of the objects that a message would make."""

from __future__ import annotations

import pickle

import pytest

from pickling import shop
from pickling.assembler import blob, dict_, instance, integer, message, text, tuple_
from sealwire import Allowlist, Codec, LimitExceeded, Limits, MalformedPickle
from sealwire.pickling import Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.vet import Vetting

SHOP = "pickling.shop"
NONE = b"N"
PUT = bytes((op.MEMOIZE,))


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


RULES = Decoder(Allowlist(), Limits())._rules


def frozenset_(*items: bytes) -> bytes:
    return bytes((op.MARK,)) + b"".join(items) + bytes((op.FROZENSET,))


def set_(*items: bytes) -> bytes:
    return bytes((op.EMPTY_SET, op.MARK)) + b"".join(items) + bytes((op.ADDITEMS,))


def elements(*items: bytes) -> bytes:
    return bytes((op.MARK,)) + b"".join(items) + bytes((op.ADDITEMS,))


def pairs(*keys: bytes) -> bytes:
    return bytes((op.MARK,)) + b"".join(key + NONE for key in keys) + bytes((op.SETITEMS,))


def get(index: int) -> bytes:
    return bytes((op.BINGET, index))


ONE, TWO, THREE, MANY = integer(1), integer(2), integer(3), [integer(n) for n in range(20, 50)]
SHORT, LONG = text("a"), text("a" * 300)
DISTINCT = {
    "sets with the same element": tuple_(set_(ONE), set_(ONE), frozenset_(ONE), frozenset_(ONE)),
    "sets with the same text": tuple_(set_(SHORT), set_(SHORT), frozenset_(SHORT)),
    "dicts with the same key": tuple_(dict_((ONE, NONE)), dict_((ONE, NONE))),
    "large sets with the same elements": tuple_(set_(*MANY), set_(*MANY), frozenset_(*MANY)),
    "two batches in each of two sets": tuple_(set_(ONE) + elements(TWO), set_(ONE) + elements(TWO)),
    "two batches in each of two dicts": tuple_(*[dict_((ONE, NONE)) + pairs(TWO, THREE)] * 2),
    "batches of text": tuple_(*[dict_((SHORT, NONE)) + pairs(text("b")) + pairs(text("c"), LONG)] * 2),
    "many keys and then more": dict_(*((key, NONE) for key in MANY)) + pairs(ONE) + pairs(TWO, SHORT),
    "a tuple and a frozenset of the same": dict_((tuple_(ONE, TWO), NONE), (frozenset_(ONE, TWO), NONE)),
    "tuples in another order": dict_((tuple_(ONE, TWO), NONE), (tuple_(TWO, ONE), NONE)),
    "text and bytes": dict_((ONE, NONE), (SHORT, NONE), (blob(b"b"), NONE)),
    "an empty and a short text": dict_((text(""), NONE), (SHORT, NONE), (text("aa"), NONE)),
    "one text in two tuples": dict_((tuple_(SHORT), NONE), (tuple_(SHORT, SHORT), NONE)),
    # The entry of the third tuple is -4, and the fourth byte from the end begins a number.
    "a tuple, and a number from the end": dict_(
        (tuple_(ONE), NONE), (tuple_(TWO), NONE), (integer(7), NONE), (tuple_(THREE), integer(7))
    ),
    "True and text": dict_((bytes((op.NEWTRUE,)), NONE), (text("True"), NONE)),
}
TWICE = {
    "frozensets in another order": dict_((frozenset_(ONE, TWO), NONE), (frozenset_(TWO, ONE), NONE)),
    "frozensets in tuples": dict_((tuple_(frozenset_(ONE, TWO)), NONE), (tuple_(frozenset_(TWO, ONE)), NONE)),
    "in the second batch of a set": set_(ONE, TWO) + elements(THREE, ONE),
    "in the third batch of a set": set_(ONE) + elements(TWO) + elements(ONE),
    "in the second batch": dict_((ONE, NONE)) + pairs(TWO, ONE),
    "in the third batch": dict_((ONE, NONE)) + pairs(TWO) + pairs(TWO),
    "in a batch that is not the first": dict_((ONE, NONE)) + pairs(TWO, TWO),
    "text in the second batch": dict_((SHORT, NONE)) + pairs(text("b"), SHORT),
    "text in the third batch": dict_((SHORT, NONE)) + pairs(text("b")) + pairs(text("b")),
    "text in a batch of text that was seen before": tuple_(
        dict_((SHORT + PUT, NONE), (text("b") + PUT, NONE)),
        dict_((get(0), NONE), (get(1), NONE)) + pairs(get(0), get(1)),
    ),
    "text after many": dict_(*((key, NONE) for key in (*MANY, SHORT))) + pairs(SHORT),
    "a number after many": dict_(*((key, NONE) for key in MANY)) + pairs(MANY[7]),
    "a number among many": dict_(*((key, NONE) for key in (*MANY, MANY[7]))),
    "short text among numbers": dict_((SHORT, NONE), (ONE, NONE), (SHORT, NONE)),
    "text in two forms": dict_((SHORT, NONE), (bytes((op.BINUNICODE, 1, 0, 0, 0)) + b"a", NONE)),
    "a text that comes again": dict_((SHORT + PUT, NONE), (get(0), NONE)),
    "a text, memoized and not": dict_((SHORT + PUT, NONE), (SHORT, NONE)),
    "a tuple that comes again": dict_((tuple_(ONE) + PUT, NONE), (get(0), NONE)),
    "nine of one": dict_(*((key, NONE) for key in (*MANY[:8], MANY[0]))),
}


@pytest.mark.parametrize("body", DISTINCT.values(), ids=DISTINCT)
def test_distinct_keys(body: bytes) -> None:
    Vetting(message(body), RULES).run()


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
def test_keys_that_occur_twice(body: bytes) -> None:
    with pytest.raises(MalformedPickle, match="a key occurs twice"):
        Vetting(message(body), RULES).run()


@pytest.mark.parametrize("size", [8, 9, 30, 64])
def test_the_bound_on_collisions_is_that_of_a_set_in_sets(size: int) -> None:
    """Eight times that of a dict."""
    rules = Decoder(Allowlist(), Limits(max_probes=8))._rules
    keys = [integer(n << 40) for n in range(1, size + 1)]
    half = size // 2
    for body in (set_(*keys), frozenset_(*keys), set_(*keys[:half]) + elements(*keys[half:])):
        Vetting(message(body), rules).run()
    as_dicts = dict_(*((key, NONE) for key in keys)), dict_(*((key, NONE) for key in keys[:half])) + pairs(*keys[half:])
    for body in as_dicts:
        if size < 30:
            Vetting(message(body), rules).run()
        else:
            with pytest.raises(LimitExceeded, match="max_probes"):
                Vetting(message(body), rules).run()


@pytest.mark.parametrize("kind", [op.TUPLE1, op.FROZENSET])
def test_a_deep_key_takes_nothing_from_the_stack(kind: int) -> None:
    rules = Decoder(Allowlist(), Limits(max_depth=500))._rules
    mark = bytes((op.MARK,)) if kind == op.FROZENSET else b""
    # Weighing a key recurses once for each level; making its value must not, which would take some frames for each.
    levels = 300
    Vetting(message(dict_((mark * levels + ONE + bytes((kind,)) * levels, NONE))), rules).run()

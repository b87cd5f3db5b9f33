"""Attacks that an exact allowlist in ``find_class`` does not stop, each refused by its error class.

The dangerous ones run in processes of their own, with 512 MiB and ten seconds; each is refused in a small part of that.
"""

from __future__ import annotations

import copyreg
import decimal
import enum
import pickle
import sys
import tracemalloc
from collections import OrderedDict
from dataclasses import dataclass

import pytest

from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from pickling.dangerous import DANGEROUS, NONE, PUT, get
from pickling.limited import Limited
from sealwire.codec import Codec
from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.vet import Vetting
from support.titles import title

DECODER = Decoder(Allowlist(), Limits())
check_in_one_form, decode_in_one_form = Decoder.check, Decoder.decode
"""Without the comparison of both forms, which the tests of this package get."""


def test_extension_codes_with_a_warm_cache():
    """EXT1 takes what the cache has, and never calls find_class."""
    copyreg.add_extension("os", "getcwd", 77)
    try:
        pickle.loads(pickle.dumps(__import__("os").getcwd, 2).replace(b"cposix\ngetcwd\n", b"\x82\x4d"))
        for code in (b"\x82\x4d", b"\x83\x4d\0", b"\x84\x4d\0\0\0"):
            for end in (b".", b")R."):
                with pytest.raises(MalformedPickle, match=r"opcode 0x8[234] at byte 2"):
                    DECODER.decode(b"\x80\x04" + code + end)
    finally:
        copyreg.remove_extension("os", "getcwd", 77)
        copyreg.clear_extension_cache()


def test_build_cannot_rewrite_a_class():
    before = dict(vars(OrderedDict))
    state = tuple_(NONE, dict_((text("__eq__"), NONE)))
    for module, qualname in DECODER._rules.numbers:
        with pytest.raises(DecodeError):
            DECODER.decode(message(name(module, qualname), state, op.BUILD))
    assert dict(vars(OrderedDict)) == before


def test_no_name_is_a_value_or_can_be_called_freely():
    for module, qualname in DECODER._rules.numbers:
        named = name(module, qualname)
        for data in (
            named, list_(named), dict_((text("a"), named)), dict_((named, NONE)), tuple_(NONE, NONE, named),
            named + bytes([op.EMPTY_TUPLE, op.NEWOBJ]) + dict_((text("__class__"), named)) + bytes([op.BUILD]),
            named + tuple_(NONE, NONE, NONE, NONE) + bytes([op.NEWOBJ]),
            named + NONE + bytes([op.APPEND]),
            named + dict_() + bytes([op.REDUCE]),
        ):  # fmt: skip
            with pytest.raises(DecodeError):
                DECODER.decode(message(data))


@pytest.mark.parametrize(
    "opcode",
    [b"0", b"1", b"2", b"P1\n", b"Q", b"i", b"o", b"\x82\1", b"\x83\1\0", b"\x97", b"\x98", b"\x92", b"p0\n", b"g0\n"],
)
def test_opcodes_outside_of_the_set(opcode):
    for data in (message(NONE, opcode), message(NONE, NONE, opcode), message(op.MARK, NONE, opcode)):
        with pytest.raises(MalformedPickle):
            DECODER.decode(data)


def test_nothing_is_imported():
    assert "sched" not in sys.modules
    for data in (message(name("sched", "scheduler")), b"\x80\x02csched\nscheduler\n."):
        with pytest.raises(TypeNotAllowed):
            DECODER.decode(data)
    assert "sched" not in sys.modules


@dataclass
class Order:
    item: str


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize("value", [Order("x"), Colour.RED, Order, ValueError("x"), len, sys, Codec.encode], ids=title)
def test_types_that_are_not_on_the_list(value):
    for protocol in range(2, 6):
        try:
            data = pickle.dumps(value, protocol)
        except TypeError:
            continue
        with pytest.raises(TypeNotAllowed):
            DECODER.decode(data)


@pytest.fixture(scope="module")
def limited():
    with Limited() as limited:
        yield limited


@pytest.mark.parametrize(("make", "expected"), DANGEROUS.values(), ids=DANGEROUS)
def test_dangerous(limited, make, expected):
    kind, why, seconds = limited.decode(make())
    assert f"{kind} {why}".startswith(expected)
    assert seconds < 5


def test_a_long_deque(limited):
    """Resolved in time that is linear in its length."""
    uuid = instance("uuid", "UUID", dict_((text("int"), integer(1))))
    long = call("collections", "deque") + bytes([op.MARK]) + b")" * 700_000 + bytes([op.APPENDS])
    kind, _, seconds = limited.decode(message(list_(uuid, long)))
    assert kind == "accepted"
    assert seconds < 2


def test_a_large_key_that_is_used_again_is_made_once():
    keys = [text(chr(97 + n) * 100_000) + PUT for n in range(9)]
    again = bytes([op.EMPTY_DICT, op.MARK]) + b"".join(get(n) + NONE for n in range(9)) + bytes([op.SETITEMS])
    data = message(list_(*keys, *[again] * 1000))
    tracemalloc.start()
    try:
        DECODER.check(data)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 10 * len(keys) * 100_000


def test_no_spelling_of_a_prefix_length_is_kept():
    for prefix in ("08", "008", "+8", "8 ", "\u0668", "255.0.0.0", ""):
        with pytest.raises(DecodeError, match="prefix length"):
            DECODER.decode(message(call("ipaddress", "IPv4Network", text(f"10.0.0.0/{prefix}"))))


def test_a_key_as_deep_as_the_limits_allow_is_accepted():
    """Nothing recurses so deep in Python that its own limit would come before."""
    deep = message(dict_((bytes([op.EMPTY_TUPLE]) + b"\x85" * 497, NONE)))
    assert len(Decoder(Allowlist(), Limits(max_depth=500)).decode(deep)) == 1


@pytest.mark.parametrize("capitals", [0, 1])
def test_decimals_do_not_depend_on_the_context(capitals):
    with decimal.localcontext(capitals=capitals) as context:
        for value in (decimal.Decimal("1E+10"), decimal.Decimal("-1.5E-7"), decimal.Decimal("NaN")):
            assert str(DECODER.decode(pickle.dumps(value))) == str(value)
        with pytest.raises(DecodeError):
            DECODER.decode(message(call("decimal", "Decimal", text("no number"))))
        assert not any(context.flags.values())


@pytest.mark.parametrize("size", [1 << 20, 15 << 20])
def test_every_accepted_size_fits(limited, size):
    """The memory that is charged is more than what is taken."""
    for data in (message(text("\U0001f600" + "x" * size)), message(blob(bytes(size)))):
        assert limited.decode(data).kind == "accepted"


MANY = {
    "sets": b"\x8f",
    "lists": b"]",
    "dicts": b"}",
    "tuples": b")\x85",
    "tuples of eight": b"(NNNNNNNNt",
    "integers": b"J\0\0\0\1",
    "floats": b"G" + b"\1" * 8,
    "short bytes": b"C\1ab"[:3],
    "short str": b"\x8c\4" + "\U0001f600".encode(),
    "memoized": b"]\x94",
    "frozensets": b"(K\1K\2K\3\x91",
    "sets of five": b"\x8f(K\1K\2K\3K\4K\5\x90",
    "dicts of one": b"}NNs",
    "dicts of six": b"}(K\1NK\2NK\3NK\4NK\5NK\6Nu",
    "alike dicts": b"}(\x8c\1aN\x8c\1bNu",
    "lists of five": b"](NNNNNe",
    "bytearrays": b"\x96\1\0\0\0\0\0\0\0x",
    "deques": call("collections", "deque", tuple_()),
    "OrderedDicts": call("collections", "OrderedDict") + b"NNs",
    "counters": call("collections", "Counter", dict_((integer(1), NONE))),
    "UUIDs": instance("uuid", "UUID", dict_((text("int"), integer(1 << 127)))),
    "dates": call("datetime", "date", blob(b"\x07\xe8\1\1")),
    "Decimals": call("decimal", "Decimal", text("1.5")),
    "paths": call("pathlib", "PurePosixPath", text("a"), text("b")),
    "networks": call("ipaddress", "IPv4Network", text("10.0.0.0/8")),
    "sets by their lists": call("builtins", "set", list_(*[integer(n) for n in range(5)])),
    "bytes of protocol 2": call("_codecs", "encode", text("abc"), text("latin1")),
}


@pytest.mark.parametrize("one", MANY.values(), ids=MANY)
def test_the_memory_that_is_charged_is_more_than_is_taken(one):
    budget = 1 << 18
    decoder = Decoder(Allowlist(), Limits(max_memory=budget))
    count = 1 << 12
    while True:
        data = message(list_(*[one] * count))
        try:
            check_in_one_form(decoder, data)
            break
        except LimitExceeded:
            count = count * 9 // 10
    decoder.decode(message(list_(one)))  # whatever is made once only
    tracemalloc.start()
    try:
        decoder.decode(data)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < budget


ASTRAL = "\U0001f600"
KEYED = {
    "1-tuples": lambda n: {(i,) for i in range(n)},
    "nested tuples": lambda n: {((((i,),),),) for i in range(n)},
    "tuples of str": lambda n: {(str(i),) for i in range(n)},
    "tuples of astral str": lambda n: {(ASTRAL + str(i),) for i in range(n)},
    "tuples of long astral str": lambda n: {("x" * 60 + str(i) + ASTRAL,) for i in range(n)},
    "tuples of five astral str": lambda n: {tuple(ASTRAL + str(5 * i + j) for j in range(5)) for i in range(n)},
    "frozensets": lambda n: {frozenset((ASTRAL + str(i),)) for i in range(n)},
    "nested tuples in a dict": lambda n: dict.fromkeys(((i,),) for i in range(n)),
    "astral str": lambda n: {"x" * 60 + str(i) + ASTRAL for i in range(n)},
    "astral str of 600": lambda n: {"x" * 600 + str(i) + ASTRAL for i in range(n)},
    "one astral str": lambda n: "x" * n + ASTRAL,
    "one astral str as a key": lambda n: {"x" * n + ASTRAL: None},
    "one astral str in a tuple as a key": lambda n: {(ASTRAL + "x" * n,)},
}


@pytest.mark.parametrize("make", KEYED.values(), ids=KEYED)
def test_keys_and_astral_str_take_no_more_than_is_charged(make):
    """While it is vetted, a key with parts is there as a stand-in; a long str is there in several forms."""
    budget = 1 << 21
    decoder = Decoder(Allowlist(), Limits(max_memory=budget, max_probes=128))

    def is_accepted(number):
        try:
            check_in_one_form(decoder, pickle.dumps(make(number), 5))
        except LimitExceeded as error:
            assert "max_memory" in str(error)  # noqa: PT017 - the error is one of two outcomes
            return False
        return True

    most = 1
    while is_accepted(2 * most):
        most *= 2
    for step in (most // 2, most // 4, most // 8, most // 16, most // 32, most // 64):
        most += step * (step > 0 and is_accepted(most + step))
    decoder.decode(pickle.dumps(make(1), 5))  # whatever is made once only
    for number in {most, *(size for size in (1 << k for k in range(20)) if most // 2 < size <= most)}:
        data = pickle.dumps(make(number), 5)
        for read in (decode_in_one_form, lambda decoder, data: Vetting(data, decoder._rules).run()):
            tracemalloc.start()
            try:
                read(decoder, data)
                taken = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert taken <= budget

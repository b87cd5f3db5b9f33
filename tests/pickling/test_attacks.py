"""What an exact allowlist in ``find_class`` does not stop, each refused by its error class.

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
from pickling.limited import decode
from sealwire.encoding import Codec
from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder, vet
from sealwire.pickling import opcodes as op

NONE = bytes([op.NONE])
PUT = bytes([op.MEMOIZE])
PRIME = 2**61 - 1
DECODER = Decoder(Allowlist(), Limits())


def get(index):
    return bytes([op.BINGET, index])


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


@pytest.mark.parametrize("value", [Order("x"), Colour.RED, Order, ValueError("x"), len, sys, Codec.decode], ids=repr)
def test_types_that_are_not_on_the_list(value):
    for protocol in range(2, 6):
        try:
            data = pickle.dumps(value, protocol)
        except TypeError:
            continue
        with pytest.raises(TypeNotAllowed):
            DECODER.decode(data)


def sharing(levels):
    """Each level refers to the one below twice."""
    parts = [bytes([op.EMPTY_TUPLE, op.MEMOIZE, op.BINGET, 0, op.TUPLE2])]
    parts += [bytes([op.MEMOIZE, op.BINGET, n, op.TUPLE2]) for n in range(1, levels)]
    return b"".join(parts)


def collide(numbers):
    return message(dict_(*[(integer(n), NONE) for n in numbers]))


def sets(count):
    return message(list_(*[bytes([op.EMPTY_SET])] * count))


MARK_TO_MARK = bytes([op.MARK]) * 900_000
DEEP = bytes([op.EMPTY_TUPLE]) + bytes([op.TUPLE1]) * 150_000
SPARSE_HASHES = [(n << 32) * 0x1000 for n in range(50_000)]


def named(module, qualname):
    """A name, as memo entry 0."""
    return name(module, qualname) + PUT


def frozensets(depth):
    return bytes([op.MARK]) * (depth - 1) + NONE + bytes([op.FROZENSET]) * (depth - 1)


def calls(function, arguments, count):
    """Calls of one function with one tuple of arguments, which is memo entry 1."""
    first = named(*function) + arguments + PUT + bytes([op.REDUCE])
    return message(list_(first, *[get(0) + get(1) + bytes([op.REDUCE])] * count))


FIBONACCI = [1, 1]
while FIBONACCI[-1].bit_length() < 16_383:
    FIBONACCI.append(sum(FIBONACCI[-2:]))
MEBIBYTE = 1 << 20

SHARED = {
    "a large key in many dicts": (
        message(
            op.MARK,
            sharing(20) + PUT,
            *[bytes([op.EMPTY_DICT]) + get(20) + NONE + bytes([op.SETITEM])] * 300,
            op.TUPLE,
        ),
        "LimitExceeded max_expanded_nodes",
    ),
    "a large key of deep frozensets": (
        message(
            op.MARK,
            frozensets(80) + PUT,
            *[get(n) + bytes([op.TUPLE2]) + PUT for n in range(15)],
            *[bytes([op.EMPTY_DICT]) + get(15) + NONE + bytes([op.SETITEM])] * 12,
            op.TUPLE,
        ).replace(PUT + get(0), PUT + get(0) + get(0), 1),
        "LimitExceeded max_expanded_nodes",
    ),
    "bytearrays of shared bytes": (
        calls(("builtins", "bytearray"), blob(bytes(MEBIBYTE)) + b"\x85", 2000),
        "LimitExceeded max_memory",
    ),
    "bytes of a shared str": (
        calls(("_codecs", "encode"), text("x" * MEBIBYTE) + text("latin1") + b"\x86", 1000),
        "LimitExceeded max_memory",
    ),
    "sets of a shared list": (
        calls(("builtins", "set"), list_(*[integer(n) for n in range(39_000)]) + b"\x85", 99),
        "LimitExceeded max_memory",
    ),
    "Counters of a shared dict": (
        calls(("collections", "Counter"), dict_(*[(integer(n), NONE) for n in range(43_000)]) + b"\x85", 43),
        "LimitExceeded max_memory",
    ),
    "bytearrays of shared bytes of protocol 2": (
        calls(
            ("builtins", "bytearray"),
            call("_codecs", "encode", text("x" * MEBIBYTE), text("latin1")) + b"\x85",
            900,
        ),
        "LimitExceeded max_memory: what the message makes",
    ),
    "paths of a shared str": (
        calls(("pathlib", "PurePosixPath"), text("a/" * 16_000) + b"\x85", 5000),
        "LimitExceeded max_memory",
    ),
    "Fractions of shared numbers": (
        calls(("fractions", "Fraction"), integer(FIBONACCI[-2]) + integer(FIBONACCI[-1]) + b"\x86", 20_000),
        "LimitExceeded max_memory",
    ),
    "Decimals of a shared str": (
        calls(("decimal", "Decimal"), text("7" * 4300) + b"\x85", 20_000),
        "LimitExceeded max_memory",
    ),
    "Fractions that collide, each the key of its own dict": (
        message(
            list_(
                *[
                    dict_((call("fractions", "Fraction", integer(5 + n * PRIME), integer(7)), NONE))
                    for n in range(1, 8000)
                    if (5 + n * PRIME) % 7
                ]
            )
        ),
        "MalformedPickle two fractions",
    ),
    "Decimals and a Fraction of one hash": (
        message(
            op.MARK,
            *[call("decimal", "Decimal", text(str(10**4000 + (7 - 10**4000) % PRIME + n * PRIME))) for n in range(99)],
            op.FROZENSET,
        ),
        "MalformedPickle a key occurs twice",
    ),
}
"""What is shared costs a byte or two in the message each time, and was made, hashed or compared each time."""

DANGEROUS = {
    **SHARED,
    "a deep tuple as a key": (message(dict_((DEEP, NONE))), "LimitExceeded max_depth"),
    "a deep tuple": (message(DEEP), "LimitExceeded max_depth"),
    "deep lists": (message(bytes([op.EMPTY_LIST]) * 150_000, bytes([op.APPEND]) * 149_999), "LimitExceeded max_depth"),
    "deep marks": (message(MARK_TO_MARK, bytes([op.TUPLE]) * 99_000), "LimitExceeded max_"),
    "many marks": (message(MARK_TO_MARK, MARK_TO_MARK), "LimitExceeded max_nodes"),
    "shared tuples as a key": (message(dict_((sharing(90), NONE))), "LimitExceeded max_expanded_nodes"),
    "shared tuples": (message(sharing(40)), "LimitExceeded max_expanded_nodes"),
    "shared frozensets": (
        message(bytes([op.MARK]) + sharing(21) + bytes([op.FROZENSET]), op.MEMOIZE, get(0), op.TUPLE2),
        "LimitExceeded max_expanded_nodes",
    ),
    "a memo index": (message(NONE, bytes([op.LONG_BINPUT, 0, 0, 0, 4])), "MalformedPickle a memo index"),
    "a larger memo index": (message(NONE, bytes([op.LONG_BINPUT]) + b"\xff" * 4), "MalformedPickle a memo index"),
    "empty sets": (sets(900_000), "LimitExceeded max_memory"),
    "empty dicts": (message(list_(*[bytes([op.EMPTY_DICT])] * 900_000)), "LimitExceeded max_memory"),
    "empty deques": (
        message(name("collections", "deque"), op.MEMOIZE, *[get(0) + b")R"] * 300_000),
        "LimitExceeded max_memory",
    ),
    "sets, one as the value of all": (
        message(dict_(*[(integer(n), b"\x8f") for n in range(400_000)])),
        "LimitExceeded max_",
    ),
    "a length beyond the end": (
        message(bytes([op.BINBYTES8]) + (2**62).to_bytes(8, "little")),
        "LimitExceeded max_string",
    ),
    "a length within the limit": (
        message(bytes([op.BINUNICODE8]) + (2**23).to_bytes(8, "little")),
        "MalformedPickle the pickle is truncated",
    ),
    "a long integer": (message(integer(1 << 40_000_000)), "LimitExceeded max_integer_bits"),
    "multiples of 2**61 - 1": (collide(n * PRIME for n in range(50_000)), "LimitExceeded max_probes"),
    "the same in a set": (
        message(op.EMPTY_SET, op.MARK, *[integer(n * PRIME) for n in range(50_000)], op.ADDITEMS),
        "LimitExceeded max_probes",
    ),
    "the same in a frozenset": (
        message(op.MARK, *[integer(n * PRIME) for n in range(50_000)], op.FROZENSET),
        "LimitExceeded max_probes",
    ),
    "the same in the list of a set": (
        message(call("builtins", "set", list_(*[integer(n * PRIME) for n in range(50_000)]))),
        "LimitExceeded max_probes",
    ),
    "the same in an OrderedDict": (
        message(
            call("collections", "OrderedDict"),
            op.MARK,
            *[integer(n * PRIME) + NONE for n in range(50_000)],
            op.SETITEMS,
        ),
        "LimitExceeded max_probes",
    ),
    "the same one by one": (
        message(op.EMPTY_DICT, *[integer(n * PRIME) + NONE + bytes([op.SETITEM]) for n in range(50_000)]),
        "LimitExceeded max_probes",
    ),
    "the same in a Counter": (
        message(call("collections", "Counter", dict_(*[(integer(n * PRIME), NONE) for n in range(50_000)]))),
        "LimitExceeded max_probes",
    ),
    "the same in tuples": (
        message(dict_(*[(tuple_(integer(n * PRIME)), NONE) for n in range(50_000)])),
        "LimitExceeded max_probes",
    ),
    "floats of one slot": (
        message(
            dict_(
                *[(b"G" + (n << 52 | 5).to_bytes(8, "big"), NONE) for n in range(1, 2000)],
                *[(integer(n * PRIME), NONE) for n in range(1, 50_000)],
            )
        ),
        "LimitExceeded max_probes",
    ),
    "UUIDs": (
        message(
            dict_(*[(instance("uuid", "UUID", dict_((text("int"), integer(n * PRIME)))), NONE) for n in range(9000)])
        ),
        "LimitExceeded max_probes",
    ),
    "Decimals": (
        message(dict_(*[(call("decimal", "Decimal", text(str(n * PRIME))), NONE) for n in range(20_000)])),
        "LimitExceeded max_probes",
    ),
    "Decimals in the list of a set": (
        message(
            call(
                "builtins",
                "frozenset",
                list_(*[call("decimal", "Decimal", text(str(n * PRIME))) for n in range(20_000)]),
            )
        ),
        "LimitExceeded max_probes",
    ),
    "a Fraction that computes": (
        message(call("fractions", "Fraction", text("1e30000000"))),
        "InvalidValue fractions.Fraction",
    ),
    "a Decimal that prints": (
        message(call("decimal", "Decimal", text("1E+999999999"))),
        "InvalidValue decimal.Decimal",
    ),
    "a datetime that crashes": (
        message(call("datetime", "datetime", blob(bytes([0, 0, 1, 1, 0, 0, 0, 0, 0, 0])))),
        "InvalidValue datetime.datetime",
    ),
    "a path of many parts": (
        message(call("pathlib", "PureWindowsPath", *[text("a" * 20)] * 200_000)),
        "LimitExceeded max_memory",
    ),
    "a bytearray by its length": (message(call("builtins", "bytearray", integer(2**33))), "InvalidValue bytearray"),
    "a long path": (message(call("pathlib", "PureWindowsPath", *[text("a" * 250)] * 250)), "InvalidValue pathlib"),
}


@pytest.mark.parametrize(("data", "expected"), DANGEROUS.values(), ids=DANGEROUS)
def test_dangerous(data, expected):
    kind, why, seconds = decode(data)
    assert f"{kind} {why}".startswith(expected)
    assert seconds < 5


def test_a_long_deque():
    """Resolved in time that is linear in its length."""
    uuid = instance("uuid", "UUID", dict_((text("int"), integer(1))))
    long = call("collections", "deque") + bytes([op.MARK]) + b")" * 700_000 + bytes([op.APPENDS])
    kind, _, seconds = decode(message(list_(uuid, long)))
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


def test_recursion_is_a_refusal():
    """Of a key as deep as the limits allow; the vetting pass, compiled, does not recurse in Python and accepts it."""
    deep = message(dict_((bytes([op.EMPTY_TUPLE]) + b"\x85" * 497, NONE)))
    decoder = Decoder(Allowlist(), Limits(max_depth=500))
    if vet.__file__.endswith(".py"):
        with pytest.raises(LimitExceeded, match="max_depth"):
            decoder.decode(deep)
    else:
        assert len(decoder.decode(deep)) == 1


@pytest.mark.parametrize("capitals", [0, 1])
def test_decimals_do_not_depend_on_the_context(capitals):
    with decimal.localcontext(capitals=capitals) as context:
        for value in (decimal.Decimal("1E+10"), decimal.Decimal("-1.5E-7"), decimal.Decimal("NaN")):
            assert str(DECODER.decode(pickle.dumps(value))) == str(value)
        with pytest.raises(DecodeError):
            DECODER.decode(message(call("decimal", "Decimal", text("no number"))))
        assert not any(context.flags.values())


@pytest.mark.parametrize("size", [1 << 20, 15 << 20])
def test_every_accepted_size_fits(size):
    """The memory that is charged is more than what is taken."""
    for data in (message(text("\U0001f600" + "x" * size)), message(blob(bytes(size)))):
        assert decode(data)[0] == "accepted"


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
    budget = 1 << 20
    decoder = Decoder(Allowlist(), Limits(max_memory=budget))
    count = 1 << 14
    while True:
        data = message(list_(*[one] * count))
        try:
            decoder.check(data)
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

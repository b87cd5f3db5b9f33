"""Each rule of the vetting pass, by a message that breaks it and nothing else."""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace
from decimal import Decimal

import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire.errors import DecodeError, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.message_file import PIECE
from sealwire.pickling.vet import Vetting

DECODER = Decoder(Allowlist(), Limits())
NONE = bytes([op.NONE])
NAN = bytes([op.BINFLOAT]) + struct.pack(">d", float("nan"))
PUT = bytes([op.MEMOIZE])
FROZEN = bytes([op.MARK]) + integer(1) + bytes([op.FROZENSET])


def get(index):
    return bytes([op.BINGET, index])


MALFORMED = {
    "nothing": b"",
    "no protocol": b"N.",
    "protocol 0": b"(lp0\n.",
    "protocol 1": message(NONE, protocol=1),
    "protocol 6": message(NONE, protocol=6),
    "truncated": message(NONE)[:-1],
    "truncated argument": message(bytes([op.BININT, 1, 2])),
    "truncated length": b"\x80\x04" + bytes([op.BINBYTES, 1]),
    "truncated text": message(bytes([op.SHORT_BINUNICODE, 9, 65])),
    "truncated long text": message(bytes([op.BINUNICODE, 9, 0, 0, 0, 65])),
    "truncated bytes": message(bytes([op.SHORT_BINBYTES, 9, 65])),
    "truncated bytearray": message(bytes([op.BYTEARRAY8, 9, 0, 0, 0, 0, 0, 0, 0, 65])),
    "truncated integer": message(bytes([op.LONG1, 9, 1])),
    "truncated name": b"\x80\x02cdatetime",
    "trailing byte": message(NONE) + b"N",
    "second pickle": message(NONE) + message(NONE),
    "two values": message(NONE, NONE),
    "no value": message(),
    "open mark": message(NONE, op.MARK),
    "a mark is no value": message(op.MARK),
    "mark taken from below": message(op.EMPTY_LIST, op.MARK, op.TUPLE1, op.APPENDS),
    "append below a mark": message(op.EMPTY_LIST, op.MARK, NONE, op.APPEND),
    "append below a mark that is taken": message(op.EMPTY_LIST, op.MARK, NONE, op.APPEND, op.TUPLE, op.TUPLE2),
    "setitem below a mark that is taken": message(op.EMPTY_DICT, op.MARK, NONE, NONE, op.SETITEM, op.TUPLE, op.TUPLE2),
    "change of what came again from afar": message(
        op.MARK, op.EMPTY_LIST, PUT, op.EMPTY_DICT, bytes([op.LONG_BINGET]) + bytes(4), NONE, op.APPEND, op.TUPLE
    ),
    "batch without a mark": message(op.EMPTY_LIST, NONE, op.APPENDS),
    "batch without a target": message(op.MARK, NONE, op.APPENDS),
    "pairs without a target": message(op.MARK, NONE, NONE, op.SETITEMS),
    "elements without a target": message(op.MARK, NONE, op.ADDITEMS),
    "batch over a mark": message(op.EMPTY_LIST, op.MARK, op.MARK, NONE, op.APPENDS),
    "setitem underflow": message(op.EMPTY_DICT, NONE, op.SETITEM),
    "tuple underflow": message(NONE, op.TUPLE2),
    "reduce underflow": message(op.EMPTY_TUPLE, op.REDUCE),
    "newobj underflow": message(op.EMPTY_TUPLE, op.NEWOBJ),
    "build underflow": message(NONE, op.BUILD),
    "name underflow": message(text("x"), op.STACK_GLOBAL),
    "key without a value": message(op.EMPTY_DICT, op.MARK, NONE, op.SETITEMS),
    "empty batch of a list": message(op.EMPTY_LIST, op.MARK, op.APPENDS),
    "empty batch of an OrderedDict": message(call("collections", "OrderedDict"), op.MARK, op.SETITEMS),
    "memoize nothing": message(op.MEMOIZE, NONE),
    "memoize a mark": message(op.EMPTY_LIST, op.MARK, op.MEMOIZE, NONE, op.APPENDS),
    "put a mark": message(op.EMPTY_LIST, op.MARK, bytes([op.BINPUT, 0]), NONE, op.APPENDS),
    "put out of order": message(NONE, bytes([op.BINPUT, 1])),
    "put again": message(NONE, bytes([op.BINPUT, 0, op.BINPUT, 0])),
    "long put out of order": message(NONE, bytes([op.LONG_BINPUT, 0, 0, 0, 4])),
    "get nothing": message(get(0)),
    "long get nothing": message(bytes([op.LONG_BINGET, 0, 0, 0, 4])),
    "frame at protocol 2": message(bytes([op.FRAME]) + (2).to_bytes(8, "little"), NONE, protocol=2),
    "frame past the end": message(bytes([op.FRAME]) + (9).to_bytes(8, "little"), NONE),
    "frame past any end": message(bytes([op.FRAME]) + b"\xff" * 8, NONE),
    "frame in a frame": message(
        bytes([op.FRAME]) + (11).to_bytes(8, "little"), bytes([op.FRAME]) + (2).to_bytes(8, "little"), NONE
    ),
    "frame ends in an opcode": message(bytes([op.FRAME]) + (1).to_bytes(8, "little"), integer(7)),
    "frame ends in a leaf": message(bytes([op.FRAME]) + (4).to_bytes(8, "little"), text("abc")),
    "cycle": message(op.EMPTY_LIST, op.MEMOIZE, get(0), op.APPEND),
    "cycle in a batch": message(op.EMPTY_LIST, op.MEMOIZE, op.MARK, get(0), op.APPENDS),
    "cycle of dicts": message(op.EMPTY_DICT, op.MEMOIZE, NONE, get(0), op.SETITEM),
    "cycle of a deque": message(call("collections", "deque", tuple_()), op.MEMOIZE, op.MARK, get(0), op.APPENDS),
    "cycle of an instance": message(
        name("uuid", "UUID"), op.EMPTY_TUPLE, op.NEWOBJ, op.MEMOIZE, get(0), op.TUPLE1, op.BUILD
    ),
    "cycle of a set": message(op.EMPTY_SET, op.MEMOIZE, op.MARK, get(0), op.TUPLE1, op.ADDITEMS),
    "change after use": message(op.EMPTY_LIST, op.MEMOIZE, op.TUPLE1, get(0), NONE, op.APPEND, op.TUPLE2),
    "change of a set after use": message(
        op.EMPTY_SET, op.MEMOIZE, op.TUPLE1, get(0), op.MARK, NONE, op.ADDITEMS, op.TUPLE2
    ),
    "change of a dict by long get": message(
        op.EMPTY_DICT, op.MEMOIZE, bytes([op.LONG_BINGET, 0, 0, 0, 0]), NONE, NONE, op.SETITEM, op.TUPLE2
    ),
    "state twice": message(instance("uuid", "UUID", dict_((text("int"), integer(1)))), dict_(), op.BUILD),
    "duplicate key": message(dict_((text("a"), NONE), (text("a"), NONE))),
    "duplicate of equal keys": message(dict_((integer(1), NONE), (bytes([op.NEWTRUE]), NONE))),
    "duplicate in batches": message(dict_((text("a"), NONE)), op.MARK, text("a"), NONE, op.SETITEMS),
    "duplicate one by one": message(op.EMPTY_DICT, text("a"), NONE, op.SETITEM, text("a"), NONE, op.SETITEM),
    "duplicate element": message(op.EMPTY_SET, op.MARK, integer(5), integer(5), op.ADDITEMS),
    "duplicate in a frozenset": message(op.MARK, integer(5), integer(5), op.FROZENSET),
    "duplicate tuples": message(dict_((tuple_(NONE, integer(3)), NONE), (tuple_(NONE, integer(3)), NONE))),
    "duplicate frozensets": message(dict_((FROZEN, NONE), (FROZEN, NONE))),
    "duplicate long keys": message(dict_((text("a" * 300), NONE), (text("a" * 300), NONE))),
    "duplicate spelt in two ways": message(dict_((integer(5), NONE), (bytes([op.LONG1, 2, 5, 0]), NONE))),
    "duplicate bytes of protocol 2": message(
        dict_((call("_codecs", "encode", text("é"), text("latin1")), NONE), (blob(b"\xe9"), NONE))
    ),
    "the same object twice": message(
        instance("uuid", "UUID", dict_((text("int"), integer(1)))),
        op.MEMOIZE,
        dict_((get(0), NONE), (get(0), NONE)),
        op.TUPLE2,
    ),
    "NaN as a key": message(dict_((NAN, NONE))),
    "NaN in a tuple as a key": message(dict_((tuple_(NAN), NONE))),
    "NaN as an element": message(op.EMPTY_SET, op.MARK, NAN, op.ADDITEMS),
    "a list as a key": message(dict_((list_(NONE), NONE))),
    "a bytearray as a key": message(dict_((bytes([op.BYTEARRAY8]) + bytes(8), NONE))),
    "a deque as a key": message(dict_((call("collections", "deque", tuple_()), NONE))),
    "a dict in a tuple as a key": message(dict_((tuple_(dict_((NONE, NONE))), NONE))),
    "a set as an element": message(op.MARK, op.EMPTY_SET, op.FROZENSET),
    "bytes of protocol 2 that are no Latin-1": message(
        dict_((call("_codecs", "encode", text("€"), text("latin1")), NONE))
    ),
    "lone surrogate": message(text("\ud800")),
    "long text with a lone surrogate": message(text("x" * 70_000 + "\udfff")),
    "a name that is not UTF-8": message(bytes([op.SHORT_BINUNICODE, 1, 255]), text("x"), op.STACK_GLOBAL),
    "a name that is no str": message(text("datetime"), NONE, op.STACK_GLOBAL),
    "a name that is a list": message(op.EMPTY_LIST, text("x"), op.STACK_GLOBAL),
    "a name without an end": b"\x80\x02c" + b"a" * 600 + b"\n" + b"b\n.",
    "call with a leaf": message(name("decimal", "Decimal"), NONE, op.REDUCE),
    "call with a list": message(name("decimal", "Decimal"), op.EMPTY_LIST, op.REDUCE),
    "call without arguments": message(name("decimal", "Decimal"), op.EMPTY_TUPLE, op.REDUCE),
    "defaultdict of no factory": message(call("collections", "defaultdict", name("uuid", "UUID"))),
    "defaultdict of a value": message(call("collections", "defaultdict", NONE)),
    "getattr of something else": message(call("builtins", "getattr", name("zoneinfo", "ZoneInfo"), text("no_cache"))),
    "getattr of another": message(call("builtins", "getattr", name("decimal", "Decimal"), text("_unpickle"))),
    "getattr of a value": message(call("builtins", "getattr", text("x"), text("_unpickle"))),
    "getattr of the name alone": message(call("builtins", "getattr", name("zoneinfo", "ZoneInfo"))),
    "encode with another codec": message(call("_codecs", "encode", text("x"), text("rot13"))),
    "encode with one argument": message(call("_codecs", "encode", text("x"))),
    "encode of bytes": message(call("_codecs", "encode", blob(b"x"), text("latin1"))),
    "UUID with arguments": message(name("uuid", "UUID"), text("x"), op.TUPLE1, op.NEWOBJ),
    **{f"opcode {code:#04x}": message(NONE, code) for code in range(256) if code not in op.OPCODE_NAMES},
}

NOT_ALLOWED = {
    "defaultdict of two factories": message(
        call("collections", "defaultdict", name("builtins", "list"), name("builtins", "list"))
    ),
    "getattr in reverse": message(call("builtins", "getattr", text("_unpickle"), name("zoneinfo", "ZoneInfo"))),
    "another module": message(name("os", "system")),
    "another name": message(name("builtins", "eval")),
    "a dotted name": message(name("uuid", "UUID.__init__")),
    "by GLOBAL": message(b"cos\nsystem\n", protocol=2),
    "by a memoized str": message(text("os") + PUT, text("system"), op.STACK_GLOBAL),
    "a class at the end": message(name("decimal", "Decimal")),
    "a class in a list": message(list_(name("decimal", "Decimal"))),
    "a class in a tuple": message(tuple_(name("decimal", "Decimal"))),
    "a class in a long tuple": message(tuple_(NONE, NONE, name("decimal", "Decimal"))),
    "a class as a key": message(dict_((name("decimal", "Decimal"), NONE))),
    "a class as state": message(instance("uuid", "UUID", name("decimal", "Decimal"))),
    "a class as an argument": message(tuple_(tuple_(NONE, name("decimal", "Decimal")))),
    "a class from the memo": message(name("decimal", "Decimal"), op.MEMOIZE, get(0), op.TUPLE2),
    "a call of a value": message(NONE, op.EMPTY_TUPLE, op.REDUCE),
    "a call of a list": message(op.EMPTY_LIST, op.EMPTY_TUPLE, op.REDUCE),
    "a call of a result": message(call("collections", "OrderedDict"), op.EMPTY_TUPLE, op.REDUCE),
    "a call of a class of instances": message(call("uuid", "UUID", text("x"))),
    "a call of what is only a factory": message(call("builtins", "int", text("1"))),
    "a call of ZoneInfo": message(call("zoneinfo", "ZoneInfo", text("UTC"))),
    "an instance of a value type": message(name("decimal", "Decimal"), op.EMPTY_TUPLE, op.NEWOBJ),
    "an instance of a value": message(NONE, op.EMPTY_TUPLE, op.NEWOBJ),
    "state for a class": message(name("decimal", "Decimal"), dict_((text("x"), NONE)), op.BUILD),
    "state for a granted class": message(name("uuid", "UUID"), tuple_(NONE, dict_((text("x"), NONE))), op.BUILD),
    "state for a result": message(call("collections", "OrderedDict"), dict_((text("x"), NONE)), op.BUILD),
    "state for a list": message(op.EMPTY_LIST, dict_((text("x"), NONE)), op.BUILD),
    "state for a leaf": message(NONE, dict_((text("x"), NONE)), op.BUILD),
    "append to a class": message(name("uuid", "UUID"), NONE, op.APPEND),
    "append to a leaf": message(NONE, NONE, op.APPEND),
    "append to an instance": message(name("uuid", "UUID"), op.EMPTY_TUPLE, op.NEWOBJ, NONE, op.APPEND),
    "append to an OrderedDict": message(call("collections", "OrderedDict"), NONE, op.APPEND),
    "items to a dict": message(op.EMPTY_DICT, op.MARK, NONE, op.APPENDS),
    "items to a leaf": message(NONE, op.MARK, NONE, op.APPENDS),
    "pairs to a list": message(op.EMPTY_LIST, op.MARK, NONE, NONE, op.SETITEMS),
    "pairs to a deque": message(call("collections", "deque", tuple_()), op.MARK, NONE, NONE, op.SETITEMS),
    "pairs to a leaf": message(NONE, op.MARK, NONE, NONE, op.SETITEMS),
    "pair to a list": message(op.EMPTY_LIST, NONE, NONE, op.SETITEM),
    "pair to a leaf": message(NONE, NONE, NONE, op.SETITEM),
    "elements to a list": message(op.EMPTY_LIST, op.MARK, NONE, op.ADDITEMS),
    "elements to a leaf": message(NONE, op.MARK, NONE, op.ADDITEMS),
}


def checks(data):
    """The error of the pass alone, which must be the error of the whole."""
    with pytest.raises(DecodeError) as alone:
        DECODER.check(data)
    with pytest.raises(DecodeError) as whole:
        DECODER.decode(data)
    assert str(alone.value) == str(whole.value)
    return alone.value


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(data):
    assert type(checks(data)) is MalformedPickle


@pytest.mark.parametrize("data", NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_not_allowed(data):
    assert type(checks(data)) is TypeNotAllowed


def test_a_missing_type_is_named():
    text = "the message names a type that is not on the allowlist (%s): %s; if peers may send it: %s"
    remedy = 'types = ["shop:Out.In"] under [allowlist] in the configuration, or Allowlist(Out.In)'
    error = checks(message(name("shop", "Out.In")))
    assert str(error) == text % ("STACK_GLOBAL at byte 16", "shop:Out.In", remedy)
    assert error.name == "shop:Out.In"
    assert str(checks(b"\x80\x02cshop\nOut.In\n.")) == text % ("GLOBAL at byte 2", "shop:Out.In", remedy)


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("exceptions\nZeroDivisionError", "builtins:ZeroDivisionError"),
        ("exceptions\nStandardError", "builtins:Exception"),
        ("exceptions\nIOError", "builtins:OSError"),
        ("shop\nOrder", "shop:Order"),
    ],
)
def test_names_of_python_2_are_advised_as_those_of_today(old, today):
    error = checks(f"\x80\x02c{old}\n.".encode("latin1"))
    assert error.name == old.replace("\n", ":")
    assert f'types = ["{today}"]' in str(error)


def test_cpythons_exceptions_are_advised():
    assert 'types = ["builtins:OSError"]' in str(checks(message(name("builtins", "OSError"))))


def test_no_advice_to_allow_what_attacks_name():
    for module, attack in (("os", "system"), ("builtins", "eval"), ("importlib.util", "find_spec")):
        assert str(checks(message(name(module, attack)))).endswith(f"): {module}:{attack}")
    for old in ("__builtin__\neval", "commands\ngetoutput", "exceptions\nKeyboardInterrupt", "exceptions\nno"):
        assert str(checks(f"\x80\x02c{old}\n.".encode("latin1"))).endswith(f"): {old}".replace("\n", ":"))


@pytest.mark.parametrize("evil", ["x\ny", "\x1b[31m", "\u202e", "x" * 10_000, "\n" * 10_000, '"]\n', "a b", "x..y", ""])
def test_a_missing_type_is_bounded_and_escaped(evil):
    error = checks(message(name(evil, evil)))
    assert type(error) is TypeNotAllowed
    assert str(error).isprintable()
    assert len(error.name) <= 101
    assert len(str(error)) < 500
    assert ("types = " in str(error)) is False


def test_our_own_spelling_of_what_is_used_wrongly():
    assert "zoneinfo.ZoneInfo may not be used like this" in str(
        checks(message(call("zoneinfo", "ZoneInfo", text("UTC"))))
    )


def nested(levels, kind=op.TUPLE1):
    return message(op.EMPTY_TUPLE, *([kind] * levels))


LIMITED = {
    "max_depth": (nested(5), {"max_depth": 4}),
    "max_depth of a batch": (message(list_(list_(list_(NONE)))), {"max_depth": 2}),
    "max_nodes": (message(list_(NONE, NONE)), {"max_nodes": 5}),
    "max_expanded_nodes": (
        message(list_(list_(NONE, NONE, NONE) + PUT, get(0), get(0), get(0))),
        {"max_expanded_nodes": 12},
    ),
    "max_expanded_nodes of the root alone": (message(list_(NONE, NONE, NONE)), {"max_expanded_nodes": 3}),
    "max_memory of lists": (message(list_(*[bytes([op.EMPTY_LIST])] * 99)), {"max_memory": 10_000}),
    "max_memory of dicts": (message(list_(*[bytes([op.EMPTY_DICT])] * 99)), {"max_memory": 10_000}),
    "max_memory of sets": (message(list_(*[bytes([op.EMPTY_SET])] * 99)), {"max_memory": 10_000}),
    "max_memory of text": (message(text("x" * 5000)), {"max_memory": 10_000}),
    "max_memory of keys": (message(dict_(*[(integer(n), NONE) for n in range(99)])), {"max_memory": 10_000}),
    "max_memory of elements": (
        message(op.EMPTY_SET, op.MARK, *[integer(n) for n in range(99)], op.ADDITEMS),
        {"max_memory": 10_000},
    ),
    "max_memory of calls": (message(list_(*[call("collections", "OrderedDict")] * 20)), {"max_memory": 10_000}),
    "max_integer_bits": (message(integer(2**100)), {"max_integer_bits": 100}),
    "max_integer_bits by far": (message(integer(2**9000)), {"max_integer_bits": 100}),
    "max_integer_bits of a negative one": (message(integer(-(2**104))), {"max_integer_bits": 104}),
    "max_string": (message(text("x" * 301)), {"max_string": 300}),
    "max_string of short text": (message(text("x" * 6)), {"max_string": 5}),
    "max_string of short text, later": (message(list_(text("x"), text("x" * 6))), {"max_string": 5}),
    "max_string of short bytes": (message(bytes([op.SHORT_BINBYTES, 6]) + b"x" * 6), {"max_string": 5}),
    "max_string of bytes": (message(blob(b"x" * 301)), {"max_string": 300}),
    "max_string of a bytearray": (
        message(bytes([op.BYTEARRAY8]) + (301).to_bytes(8, "little") + b"x" * 301),
        {"max_string": 300},
    ),
    "max_probes": (message(dict_(*[(integer(n * (2**61 - 1)), NONE) for n in range(1, 99)])), {"max_probes": 8}),
    "max_probes of a set": (
        message(op.MARK, *[integer(n * (2**61 - 1)) for n in range(1, 999)], op.FROZENSET),
        {"max_probes": 8},
    ),
    "max_frame": (message(blob(b"x" * 1300)), {"max_frame": 1200}),
}


@pytest.mark.parametrize(("data", "limit"), LIMITED.values(), ids=LIMITED)
def test_limits(data, limit):
    Decoder(Allowlist(), Limits(max_probes=1024)).check(data)
    with pytest.raises(LimitExceeded, match=f"^{next(iter(limit))}: "):
        Decoder(Allowlist(), replace(Limits(), **limit)).decode(data)


ACCEPTED = {
    "max_depth": (nested(4), {"max_depth": 4}),
    "max_nodes": (message(list_(NONE, NONE)), {"max_nodes": 6}),
    "max_expanded_nodes": (message(list_(NONE, NONE, NONE)), {"max_expanded_nodes": 4}),
    "max_integer_bits": (message(integer(2**99)), {"max_integer_bits": 100}),
    "max_integer_bits, negative": (message(integer(-(2**103))), {"max_integer_bits": 104}),
    "max_string": (message(text("x" * 300)), {"max_string": 300}),
    "max_string of short text": (message(list_(text("x"), text("x" * 5))), {"max_string": 5}),
    "max_frame": (message(blob(b"x" * 1300)), {"max_frame": 1300 + 8 + 52}),
}


@pytest.mark.parametrize(("data", "limit"), ACCEPTED.values(), ids=ACCEPTED)
def test_limits_are_met_exactly(data, limit):
    assert Decoder(Allowlist(), replace(Limits(), **limit)).decode(data) == pickle.loads(data)


def test_a_limit_that_is_met_exactly_is_the_least_that_accepts():
    for data, limit in ACCEPTED.values():
        ((field, value),) = limit.items()
        with pytest.raises(LimitExceeded):
            Decoder(Allowlist(), replace(Limits(), **{field: value - 1})).decode(data)


def far(index):
    return bytes([op.LONG_BINGET]) + index.to_bytes(4, "little")


def batch(*pairs):
    return bytes([op.MARK]) + b"".join(key + value for key, value in pairs) + bytes([op.SETITEMS])


def long_bytearray(size):
    return bytes([op.BYTEARRAY8]) + size.to_bytes(8, "little") + b"x" * size


ONE, TWO, THREE = ((integer(n), NONE) for n in (1, 2, 3))
TWO_BATCHES = message(op.EMPTY_DICT, batch(ONE, TWO), batch(THREE))
SHARED = list_(NONE, NONE, NONE) + PUT

LEAST = {
    # Four bytes for each byte of the message, 88 for each opcode before STOP, and the charges in nodes.py.
    "memory of a leaf": (message(NONE), "max_memory", 4 * 4 + 88),
    "memory of a list": (message(list_(NONE)), "max_memory", 4 * 7 + 88 * 4 + 160),
    "memory of an empty dict": (message(op.EMPTY_DICT), "max_memory", 4 * 4 + 88 + 320),
    "memory of a dict in two batches": (TWO_BATCHES, "max_memory", 4 * 17 + 88 * 11 + 320 + 56 * 6),
    "memory of two dicts": (message(tuple_(dict_(ONE), dict_(ONE))), "max_memory", 2160),
    "memory of a set": (message(op.EMPTY_SET, op.MARK, integer(1), integer(2), op.ADDITEMS), "max_memory", 1236),
    "memory of a frozenset": (message(op.MARK, integer(1), integer(2), op.FROZENSET), "max_memory", 1144),
    "memory of short texts": (message(tuple_(text("x" * 50), text("y" * 90))), "max_memory", 1120),
    "memory of long texts": (message(tuple_(text("x" * 300), text("y" * 500), text("z" * 400))), "max_memory", 6508),
    "memory of short bytes": (message(bytes([op.SHORT_BINBYTES, 200]) + b"x" * 200), "max_memory", 4 * 205 + 88),
    "memory of bytes": (message(tuple_(blob(b"x" * 300), blob(b"y" * 500))), "max_memory", 1384),
    "memory of a bytearray": (message(long_bytearray(300)), "max_memory", 576),
    "memory of a bytearray that a call gets": (
        message(call("decimal", "Decimal", long_bytearray(40))),
        "max_memory",
        3976,
    ),
    "memory of an integer": (message(integer(2**900)), "max_memory", 4 * 118 + 88),
    "nodes of a list in two batches": (message(list_(NONE, NONE), op.MARK, NONE, op.APPENDS), "max_expanded_nodes", 4),
    "nodes of a dict in two batches": (TWO_BATCHES, "max_expanded_nodes", 7),
    "nodes of a dict in a dict": (message(dict_((integer(1), dict_(ONE)))), "max_expanded_nodes", 5),
    "nodes of what comes again": (message(tuple_(SHARED, tuple_(get(0), get(0)))), "max_expanded_nodes", 14),
    "nodes of what comes again from afar": (message(tuple_(SHARED, tuple_(far(0), far(0)))), "max_expanded_nodes", 14),
    "nodes of one that is new and one that comes again": (
        message(tuple_(SHARED, tuple_(list_(NONE), get(0)))),
        "max_expanded_nodes",
        12,
    ),
    "nodes of one that is new and one that comes again from afar": (
        message(tuple_(SHARED, tuple_(list_(NONE), far(0)))),
        "max_expanded_nodes",
        12,
    ),
    "depth of a bytearray in lists": (message(list_(list_(long_bytearray(1)))), "max_depth", 2),
    "nodes of what comes again from afar in each of two": (
        message(tuple_(SHARED, tuple_(far(0)), tuple_(far(0)))),
        "max_expanded_nodes",
        15,
    ),
    "nodes of what comes again in each of two": (
        message(tuple_(SHARED, tuple_(get(0)), tuple_(get(0)))),
        "max_expanded_nodes",
        15,
    ),
    "nodes of a frozenset that comes again, beside a list": (
        message(tuple_(list_(NONE, NONE), FROZEN + PUT, get(0), get(0))),
        "max_expanded_nodes",
        10,
    ),
    "bits of a long integer": (message(integer(2**103)), "max_integer_bits", 104),
    "bits of one longer still": (message(integer(2**2103)), "max_integer_bits", 2104),
    "length of short bytes": (message(bytes([op.SHORT_BINBYTES, 6]) + b"x" * 6), "max_string", 6),
    "length of bytes": (message(blob(b"x" * 301)), "max_string", 301),
}


@pytest.mark.parametrize(("data", "field", "least"), LEAST.values(), ids=LEAST)
def test_the_least_limit_that_accepts(data, field, least):
    Decoder(Allowlist(), replace(Limits(), **{field: least})).check(data)
    with pytest.raises(LimitExceeded):
        Decoder(Allowlist(), replace(Limits(), **{field: least - 1})).check(data)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_picklers_write_is_accepted(protocol):
    shared = [1, 2]
    value = [
        10,
        Decimal("1"),
        shared,
        [shared, (shared, {1: shared})],
        [],
        {},
        [[]],
        {"a": [{}]},
        {1, 2},
        frozenset({3}),
    ]
    assert DECODER.decode(pickle.dumps(value, protocol)) == value
    assert DECODER.decode(message(tuple_(integer(10), b"cdecimal\nDecimal\n" + tuple_(text("1")) + bytes([op.REDUCE]))))
    decoder = Decoder(Allowlist(*shop.TYPES), Limits())
    money = [shop.Money(Decimal(1)), shop.Money(Decimal(2))]
    assert decoder.decode(pickle.dumps(money, protocol)) == money
    many = [[str(number), number] for number in range(30_000)]  # in several frames
    assert DECODER.decode(pickle.dumps(many, protocol)) == many


@pytest.mark.parametrize(("start", "end"), [([op.MARK], op.FROZENSET), ([op.EMPTY_SET, op.MARK], op.ADDITEMS)])
def test_a_class_is_no_element_of_a_set(start, end):
    body = bytes(start) + name("decimal", "Decimal") + bytes([end])
    with pytest.raises(TypeNotAllowed, match="a class is not a value"):
        DECODER.check(message(body))


@pytest.mark.parametrize("again", [get(0), far(0)])
def test_a_class_that_comes_again_is_no_value_either(again):
    called = name("decimal", "Decimal") + PUT + tuple_(text("1")) + bytes([op.REDUCE])
    with pytest.raises(TypeNotAllowed, match="a class is not a value"):
        DECODER.check(message(tuple_(called, again)))


@pytest.mark.parametrize(("size", "frames"), [(PIECE, []), (PIECE + 1, [2])])
def test_frames_longer_than_a_piece_are_noted(size, frames):
    body = blob(bytes(size - 9 - 5 - 1)) + bytes([op.STOP])
    found = []
    data = bytes([op.PROTO, 4, op.FRAME]) + len(body).to_bytes(8, "little") + body
    Vetting(data, DECODER._rules).run(found)
    assert found == frames
    Vetting(data, DECODER._rules).run()


def deque(room, *batches):
    made = call("collections", "deque", bytes([op.EMPTY_TUPLE]), integer(room))
    return message(made, *(bytes([op.MARK]) + integer(1) * count + bytes([op.APPENDS]) for count in batches))


def test_the_batches_of_a_deque_have_room_together():
    DECODER.check(deque(4, 2, 2))
    for batches in ((5,), (2, 3), (3, 1, 1)):
        with pytest.raises(MalformedPickle, match="more items than its maxlen"):
            DECODER.check(deque(4, *batches))


@pytest.mark.parametrize("where", range(0, 9000, 450))
def test_surrogates_are_found_wherever_they_are(where):
    strings = [f"{n:09}" for n in range(1000)]
    good = pickle.dumps(strings, 5)
    assert DECODER.decode(good) == strings
    strings[where // 9] = strings[where // 9][:-1] + "\udcff"
    for form in (bytes, lambda data: memoryview(bytearray(data + bytes(70_000)))[: len(data)]):
        with pytest.raises(MalformedPickle, match="surrogate"):
            DECODER.check(form(pickle.dumps(strings, 5)))


def test_vetting_comes_before_building(tmp_path):
    """The same hostile end makes plain pickle act on it, and leaves no trace here."""
    made = []
    decoder = Decoder(Allowlist(), Limits())

    def count(*parts):
        made.append(parts)

    # Names that count how often they are called, in place of a checked constructor.
    for table in (decoder._direct, decoder._inert):
        table.names["decimal", "Decimal"] = count
    harmless = call("decimal", "Decimal", text("1"))
    decoder.decode(message(harmless))
    assert made == [("1",)]
    mark = tmp_path / "mark"
    hostile = call("os", "mkdir", text(str(mark)))
    data = message(list_(harmless, hostile))
    pickle.loads(data)
    assert mark.exists()
    mark.rmdir()
    for end in (data, message(list_(harmless), 0x31), message(harmless, harmless)):
        with pytest.raises(DecodeError):
            decoder.decode(end)
    assert made == [("1",)]
    assert not mark.exists()

"""Calls, new instances and their state, by a table with one rule for each permission."""

from __future__ import annotations

import pickletools
from typing import Any

import pytest

from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire.errors import LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import opcodes as op
from sealwire.pickling.globals import (
    CALL,
    CALL_EMPTY,
    CALL_ENCODE,
    CALL_GETATTR,
    CALL_REBUILD,
    DEFERRED,
    FACTORY,
    HASHED_BY_PAIR,
    NEW,
    NEW_WITH,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_KEYS,
    TAKES_PAIRS,
    TAKES_STATE,
    UNHASHABLE,
    GlobalRule,
    GlobalTable,
)
from sealwire.pickling.leaves import VettingRules
from sealwire.pickling.nodes import FOUND_GLOBALS, FOUND_OBJECT_KEYS, FOUND_PLACEHOLDERS
from sealwire.pickling.vet import Vetting

M = "m"
PRIME = 2**61 - 1
NONE = bytes([op.NONE])
PUT = bytes([op.MEMOIZE])
EMPTY = bytes([op.EMPTY_TUPLE])
NEWOBJ = bytes([op.NEWOBJ])
BUILD = bytes([op.BUILD])
GET = bytes([op.BINGET, 0])


def rule(of: str, permissions: int, **options: Any) -> GlobalRule:
    options = {"names": ((M, of),), **options}
    return GlobalRule(qualified_name=of, permissions=permissions, load=lambda *_: None, **options)


TABLE = GlobalTable(
    [
        rule("call", CALL, memory=1000, memory_per_byte=10),
        rule("empty", CALL_EMPTY, memory=50),
        rule("new", NEW, memory=300),
        rule("new with", NEW_WITH, memory=300),
        rule("stateful", CALL | CALL_EMPTY | TAKES_STATE, memory=70, memory_per_byte=10),
        rule("deferred", CALL | DEFERRED),
        rule("set", CALL | TAKES_KEYS),
        rule("unhashable", CALL | UNHASHABLE),
        rule("deque", CALL | CALL_EMPTY | TAKES_ITEMS),
        rule("mapping", CALL_EMPTY | TAKES_PAIRS),
        rule("defaultdict", CALL_EMPTY | TAKES_FACTORY, memory=80),
        rule("factory", FACTORY),
        rule("getattr", CALL_GETATTR),
        rule("Outer", 0),
        rule("Other", 0),
        rule("inner", CALL, names=(), members=(((M, "Outer"), "inner"),), memory=20),
        rule("encode", CALL_ENCODE),
        rule("rebuild", CALL_REBUILD),
        rule("rebuilt", CALL, names=(), rebuilt=(((M, "rebuild"), (M, "Outer")),), memory=30),
        rule("Fraction", CALL | HASHED_BY_PAIR),
        rule("named only", 0),
    ]
)


def vetted(data: bytes, **limits: int) -> int:
    return Vetting(data, VettingRules(TABLE, Limits(**limits))).run()


def made(of: str, *arguments: bytes) -> bytes:
    return call(M, of, *arguments)


def attribute(of: str, attribute: str) -> bytes:
    return made("getattr", name(M, of), text(attribute))


def new(of: str, *arguments: bytes) -> bytes:
    return name(M, of) + tuple_(*arguments) + NEWOBJ


def reduce(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes([op.REDUCE])


def sized(opcode: int, width: int, size: int) -> bytes:
    return bytes([opcode]) + size.to_bytes(width, "little") + b"x" * size


def encoded(value: str) -> bytes:
    return made("encode", text(value), text("latin1"))


G, P, K = FOUND_GLOBALS, FOUND_PLACEHOLDERS, FOUND_OBJECT_KEYS
FOUND = {
    "nothing": (tuple_(NONE), 0),
    "a factory": (made("defaultdict", name(M, "factory")), G),
    "a call": (made("call", NONE), G),
    "a call of nothing": (made("empty"), G),
    "an instance": (new("new"), G | P),
    "an instance with arguments": (new("new with", NONE), G | P),
    "a call that takes state": (made("stateful"), G | P),
    "a call that is made at the end": (made("deferred", NONE), G | P),
    "a call that makes keys": (made("set", list_(NONE)), G | K),
    "a call that is a key": (dict_((made("call", NONE), NONE)), G | K),
    "an instance that is a key": (dict_((new("new"), NONE)), G | P | K),
    "a call in a tuple that is a key": (dict_((tuple_(made("call", NONE)), NONE)), G | K),
    "an attribute": (reduce(attribute("Outer", "inner"), tuple_(NONE)), G),
    "bytes": (encoded("x"), G),
    "bytes that are a key": (dict_((encoded("x"), NONE)), G),
    "a call by another one": (made("rebuild", name(M, "Outer"), NONE), G),
    "placeholders, then a name": (tuple_(new("new"), made("empty")), G | P),
    "keys, then a name": (tuple_(dict_((made("call", NONE), NONE)), made("empty")), G | K),
    "keys, then placeholders": (tuple_(dict_((made("call", NONE), NONE)), new("new")), G | P | K),
    "keys, then a call that makes placeholders": (
        tuple_(dict_((made("call", NONE), NONE)), made("deferred", NONE)),
        G | P | K,
    ),
    "placeholders, then keys": (tuple_(new("new"), dict_((made("call", NONE), NONE))), G | P | K),
    "placeholders, then a call that makes keys": (tuple_(new("new"), made("set", list_(NONE))), G | P | K),
}


@pytest.mark.parametrize(("data", "found"), FOUND.values(), ids=FOUND)
def test_what_is_found(data: bytes, found: int) -> None:
    assert vetted(message(data)) == found


CALLED, TUPLE, LIST, DICT, COPIED = 200, 140, 160, 320, 128
MEMORY = {
    "a name": (reduce(name(M, "empty"), EMPTY), CALLED + 50),
    "a call": (made("call", NONE), CALLED + 1000 + TUPLE + 16),
    "two calls": (tuple_(made("empty"), made("call", NONE)), TUPLE * 2 + 16 * 3 + CALLED * 2 + 1050),
    "a call of texts": (made("call", text("abc"), text("x")), CALLED + 1000 + TUPLE + 32 + 4 * 10),
    "a call of bytes": (made("call", blob(b"x" * 30)), CALLED + 1000 + TUPLE + 16 + 30 * (10 - 3)),
    "a call of short bytes": (made("call", sized(op.SHORT_BINBYTES, 1, 30)), CALLED + 1000 + TUPLE + 16 + 30 * 10),
    "a call of long bytes": (made("call", sized(op.BINBYTES8, 8, 700)), CALLED + 1000 + TUPLE + 16 + 700 * (10 - 3)),
    "a call of long text": (made("call", sized(op.BINUNICODE, 4, 700)), CALLED + 1000 + TUPLE + 16 + 700 * (10 + 2)),
    "a call of longer text": (made("call", sized(op.BINUNICODE8, 8, 700)), CALLED + 1000 + TUPLE + 16 + 700 * 12),
    "a call of a long integer": (made("call", sized(op.LONG4, 4, 700)), CALLED + 1000 + TUPLE + 16 + 700 * 10),
    "a call of a short integer": (made("call", integer(9)), CALLED + 1000 + TUPLE + 16),
    "a call of a float": (made("call", bytes([op.BINFLOAT, *range(1, 9)])), CALLED + 1000 + TUPLE + 16),
    "a call of an integer": (made("call", integer(2**63)), CALLED + 1000 + TUPLE + 16 + 9 * 10),
    "a call of a bytearray": (
        made("call", sized(op.BYTEARRAY8, 8, 30)),
        CALLED + 1000 + TUPLE * 2 + 16 + 30 * (10 - 3),
    ),
    "a call of bytes of protocol 2": (
        made("call", encoded("x" * 30)),
        CALLED * 2 + 1000 + TUPLE * 2 + 16 * 3 + 30 * 4 + 30 * 10,
    ),
    "a call of a list": (made("call", list_(NONE, NONE)), CALLED + 1000 + TUPLE + 16 + LIST + 2 * COPIED),
    "a call of two lists": (
        made("call", list_(NONE, NONE), list_(NONE)),
        CALLED + 1000 + TUPLE + 32 + LIST * 2 + 3 * COPIED,
    ),
    "a call of a dict": (
        made("call", dict_((integer(1), NONE))),
        CALLED + 1000 + TUPLE + 16 + DICT + 2 * 56 + 2 * COPIED,
    ),
    "an instance": (new("new"), CALLED + 300),
    "an instance with arguments": (new("new with", text("x")), CALLED + 300 + TUPLE + 16),
    "an instance with state": (instance(M, "new", tuple_(text("x"))), CALLED + 300 + TUPLE + 16),
    "a call with state": (made("stateful") + list_(NONE) + BUILD, CALLED + 70 + LIST),
    "a call with state in a tuple": (
        made("stateful") + tuple_(text("xyz"), list_(NONE)) + BUILD,
        CALLED + 70 + TUPLE + 32 + LIST + COPIED + 30,
    ),
    "a call with a leaf as state": (made("stateful") + text("xyz") + BUILD, CALLED + 70),
    "a factory": (made("defaultdict", name(M, "factory")), CALLED + 80 + TUPLE + 16),
    "bytes of protocol 2": (encoded("xyz"), CALLED + TUPLE + 32 + 12),
    "an attribute": (reduce(attribute("Outer", "inner"), tuple_(text("xy"))), CALLED + 20 + TUPLE * 2 + 48 + 8),
    "a call by another one": (made("rebuild", name(M, "Outer"), text("xy")), CALLED + 30 + TUPLE + 32),
    "a tuple that is a key": (dict_((tuple_(NONE, NONE), NONE)), DICT + 2 * 56 + TUPLE + 32 + 140 + 2 * 100),
    "a tuple that is a key of two dicts": (
        tuple_(dict_((tuple_(NONE) + PUT, NONE)), dict_((GET, NONE))),
        2 * (DICT + 2 * 56) + TUPLE * 2 + 48 + 140 + 100,
    ),
    "a frozenset in a tuple that is a key": (
        dict_((tuple_(bytes([op.MARK]) + integer(1) + bytes([op.FROZENSET])), NONE)),
        DICT + 2 * 56 + TUPLE + 16 + 420 + 168 + 2 * (140 + 100),
    ),
}


@pytest.mark.parametrize(("body", "objects"), MEMORY.values(), ids=MEMORY)
def test_the_memory_of(body: bytes, objects: int) -> None:
    data = message(body)
    opcodes = sum(1 for _ in pickletools.genops(data)) - 2  # without PROTO and STOP
    least = 4 * len(data) + 88 * opcodes + objects
    vetted(data, max_memory=least)
    with pytest.raises(LimitExceeded, match=r"^max_memory: "):
        vetted(data, max_memory=least - 1)


def test_the_memory_of_large_bytes() -> None:
    """They are not in the data that is read."""
    size, placeholder = 100_000, sized(op.BINBYTES8, 8, 0)
    data = message(made("call", placeholder))
    buffers = {data.index(placeholder): bytes(size)}
    least = 4 * len(data) + size * (1 + 10) + 88 * 7 + CALLED + 1000 + TUPLE + 16
    Vetting(data, VettingRules(TABLE, Limits(max_memory=least)), buffers).run()
    with pytest.raises(LimitExceeded, match=r"^max_memory: "):
        Vetting(data, VettingRules(TABLE, Limits(max_memory=least - 1)), buffers).run()


SHARED = list_(NONE, NONE, NONE) + PUT
UNFOLDED = {
    "a call": (made("call", NONE), 3),
    "a call of nothing": (tuple_(made("empty")), 2),
    "a call of a list": (made("call", list_(NONE, NONE)), 5),
    "a call of what is shared": (tuple_(SHARED, made("call", GET, GET)), 15),
    "an instance": (tuple_(new("new")), 2),
    "an instance with arguments": (new("new with", NONE, NONE), 4),
    "an instance with shared arguments": (tuple_(SHARED, new("new with", GET)), 11),
    "an instance with state": (instance(M, "new", list_(NONE)), 3),
    "a call with state": (made("stateful") + tuple_(NONE) + BUILD, 3),
    "a call with shared state": (tuple_(SHARED, made("stateful", NONE) + GET + BUILD), 1 + 4 + 3 + 4),
    "a call with a leaf as state": (made("stateful") + NONE + BUILD, 2),
    "a factory": (tuple_(made("defaultdict", name(M, "factory")), NONE), 3),
    "bytes of protocol 2": (tuple_(encoded("x")), 2),
    "a call by another one": (tuple_(made("rebuild", name(M, "Outer"), NONE, NONE), NONE), 5),
    "a call by another one, of what is shared": (tuple_(SHARED, made("rebuild", name(M, "Outer"), GET, NONE)), 11),
    "a call by another one, of nothing": (tuple_(made("rebuild", name(M, "Outer"))), 2),
    "a call by another one, of a list": (
        tuple_(made("rebuild", name(M, "Outer"), list_(NONE, NONE), NONE), NONE),
        1 + (1 + 3 + 1) + 1,
    ),
    "an attribute": (reduce(attribute("Outer", "inner"), tuple_(NONE)), 3),
    "items after the call": (made("deque") + bytes([op.MARK]) + NONE * 3 + bytes([op.APPENDS]), 4),
    "a dict after the call": (made("mapping") + integer(1) + NONE + bytes([op.SETITEM]), 3),
}


@pytest.mark.parametrize(("body", "nodes"), UNFOLDED.values(), ids=UNFOLDED)
def test_the_expanded_nodes_of(body: bytes, nodes: int) -> None:
    vetted(message(body), max_expanded_nodes=nodes)
    with pytest.raises(LimitExceeded, match=r"^max_expanded_nodes: the message"):
        vetted(message(body), max_expanded_nodes=nodes - 1)


DEPTH = {
    "a call": (made("call", NONE), 2),
    "a call of a list": (made("call", list_(NONE)), 3),
    "an instance with arguments": (new("new with", list_(NONE)), 3),
    "an instance with state": (instance(M, "new", list_(list_(NONE))), 3),
    "a call with state": (made("stateful") + list_(NONE) + BUILD, 2),
    "a call by another one": (made("rebuild", name(M, "Outer"), list_(NONE)), 2),
    "lists of which the first is deeper": (tuple_(list_(list_(NONE)), list_(NONE), NONE), 3),
    "lists of which the last is deeper": (tuple_(NONE, list_(NONE), list_(list_(NONE))), 3),
    "a list whose items come in order of depth": (
        bytes([op.EMPTY_LIST]) + list_(list_(NONE)) + bytes([op.APPEND]) + list_(NONE) + bytes([op.APPEND]),
        3,
    ),
}


@pytest.mark.parametrize(("body", "depth"), DEPTH.values(), ids=DEPTH)
def test_the_depth_of(body: bytes, depth: int) -> None:
    vetted(message(body), max_depth=depth)
    with pytest.raises(LimitExceeded, match=r"^max_depth: "):
        vetted(message(body), max_depth=depth - 1)


MALFORMED = {
    "a call of nothing that needs arguments": made("call"),
    "a call with arguments that takes none": made("empty", NONE),
    "a leaf as arguments": reduce(name(M, "empty"), NONE),
    "a leaf as arguments of a call": reduce(name(M, "call"), NONE),
    "a list as arguments": reduce(name(M, "call"), list_(NONE)),
    "a class as an argument": made("call", name(M, "Outer")),
    "a class as the argument of a call that takes state": made("stateful", name(M, "Outer")),
    "a value for a factory": made("defaultdict", NONE),
    "a name that is no factory": made("defaultdict", name(M, "Outer")),
    "a factory and a value": made("defaultdict", name(M, "factory"), NONE),
    "an attribute of another class": attribute("Other", "inner"),
    "another attribute": attribute("Outer", "other"),
    "an attribute of the function itself": attribute("getattr", "inner"),
    "an attribute and a default": made("getattr", name(M, "Outer"), text("inner"), NONE),
    "an attribute without a name": made("getattr", name(M, "Outer")),
    "an attribute by bytes": made("getattr", name(M, "Outer"), blob(b"inner")),
    "a rebuilt class that is another": made("rebuild", name(M, "Other"), NONE),
    "a rebuilt value": made("rebuild", NONE),
    "nothing to rebuild": made("rebuild"),
    "the arguments of encode for another function": made("empty", text("x"), text("latin1")),
    "the arguments of encode in a list": reduce(name(M, "encode"), list_(text("x"), text("latin1"))),
    "encode with another codec": made("encode", text("x"), text("latin-1")),
    "encode with more": made("encode", text("x"), text("latin1"), NONE),
    "encode with less": made("encode", text("x")),
    "encode of nothing": made("encode"),
    "encode of a list": made("encode", list_(NONE), text("latin1")),
    "encode of an integer": made("encode", integer(1), text("latin1")),
    "encode by a list": made("encode", text("x"), list_(NONE)),
    "encode of a class": made("encode", name(M, "Outer"), text("latin1")),
    "an instance with arguments that takes none": new("new", NONE),
    "an instance with a leaf as arguments": name(M, "new with") + NONE + NEWOBJ,
    "an instance with a list as arguments": name(M, "new with") + list_(NONE) + NEWOBJ,
    "an instance with a class as its argument": new("new with", name(M, "Outer")),
    "state twice": made("stateful") + NONE + BUILD + NONE + BUILD,
    "state after use": tuple_(made("stateful") + PUT, GET + NONE + BUILD),
    "an unhashable result as a key": dict_((made("unhashable", NONE), NONE)),
    "an unhashable result in a tuple as a key": dict_((tuple_(made("unhashable", NONE)), NONE)),
    "a bytearray in a tuple as a key": dict_((tuple_(sized(op.BYTEARRAY8, 8, 1)), NONE)),
    "the same result twice as a key": tuple_(made("call", NONE) + PUT, dict_((GET, NONE), (GET, NONE))),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPickle):
        vetted(message(body))


NOT_ALLOWED = {
    "a call of what can only be named": made("named only", NONE),
    "a call of nothing of what can only be named": made("named only"),
    "a call of a class of instances": made("new"),
    "an instance of what can be called": new("call"),
    "an instance with arguments of what can be called": new("call", NONE),
    "an instance of a value": EMPTY + EMPTY + NEWOBJ,
    "a call of a value": reduce(EMPTY, EMPTY),
    "a call of a list": reduce(list_(NONE), EMPTY),
    "a call of a result": reduce(made("empty"), EMPTY),
    "an instance of an instance": new("new") + EMPTY + NEWOBJ,
    "state of a call that takes none": made("empty") + NONE + BUILD,
    "state of an instance that had arguments": new("new with", NONE) + NONE + BUILD,
    "state of a value": NONE + NONE + BUILD,
    "state of a list": list_(NONE) + NONE + BUILD,
    "state that is a class": new("new") + name(M, "Outer") + BUILD,
    "a class among the arguments": made("call", NONE, name(M, "Outer")),
    "a class among those of a call by another one": made("rebuild", name(M, "Outer"), name(M, "Outer")),
    "two classes as arguments of a call": made("call", name(M, "Outer"), name(M, "Outer")),
    "items of a call that takes none": made("empty") + NONE + bytes([op.APPEND]),
    "an unknown name": name(M, "unknown") + EMPTY + bytes([op.REDUCE]),
    "a name of another module": name("n", "call") + tuple_(NONE) + bytes([op.REDUCE]),
    "a class as the whole message": name(M, "Outer"),
    "arguments of a class as the whole message": tuple_(name(M, "Outer")),
    "arguments of a class in a list": list_(tuple_(name(M, "Outer"))),
}


@pytest.mark.parametrize("body", NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_not_allowed(body: bytes) -> None:
    with pytest.raises(TypeNotAllowed):
        vetted(message(body))


UNDERFLOWS = {
    "a call": (name(M, "call"), EMPTY + bytes([op.MARK]), bytes([op.REDUCE])),
    "an instance": (name(M, "new"), bytes([op.MARK]) + EMPTY, NEWOBJ),
    "state": (new("new"), bytes([op.MARK]) + NONE, BUILD),
    "an instance without arguments": (b"", name(M, "new"), NEWOBJ),
    "an instance of nothing": (b"", b"", NEWOBJ),
    "state of nothing": (b"", NONE, BUILD),
    "a call of nothing": (b"", NONE, bytes([op.REDUCE])),
}


@pytest.mark.parametrize("parts", UNDERFLOWS.values(), ids=UNDERFLOWS)
def test_nothing_is_taken_from_below_a_mark_or_the_stack(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedPickle, match="takes more from the stack"):
        vetted(message(*parts))


def test_the_first_rule_of_a_table_is_found_in_each_way() -> None:
    inner = rule("inner", CALL, names=(), members=(((M, "Outer"), "inner"),))
    rebuilt = rule("rebuilt", CALL, names=(), rebuilt=(((M, "rebuild"), (M, "Outer")),))
    others = rule("getattr", CALL_GETATTR), rule("rebuild", CALL_REBUILD), rule("Outer", 0)
    for first, data in (
        (rule("call", CALL), made("call", NONE)),
        (inner, reduce(attribute("Outer", "inner"), tuple_(NONE))),
        (rebuilt, made("rebuild", name(M, "Outer"), NONE)),
    ):
        rules = VettingRules(GlobalTable([first, *others]), Limits())
        assert Vetting(message(data), rules).run() == G
        assert Vetting(message(data, protocol=2), rules).run() == G


def test_names_of_python_2_are_those_of_the_table_at_protocol_2_alone() -> None:
    rules = VettingRules(GlobalTable([rule("int", CALL, names=(("builtins", "int"),))]), Limits())
    for of in ("long", "int", "float"):
        for protocol in (2, 3):
            data = message(b"c__builtin__\n" + of.encode() + b"\n", tuple_(NONE), op.REDUCE, protocol=protocol)
            if protocol == 2 and of != "float":
                assert Vetting(data, rules).run() == G
            else:
                with pytest.raises(TypeNotAllowed):
                    Vetting(data, rules).run()


def test_arguments_can_be_memoized_before_an_instance() -> None:
    for of, arguments in (("new with", tuple_(NONE)), ("new", EMPTY)):
        made = name(M, of) + arguments + PUT + NEWOBJ
        assert vetted(message(made)) == G | P
        assert vetted(message(made + PUT, GET, op.TUPLE2)) == G | P


def test_an_instance_can_be_memoized() -> None:
    twice = tuple_(new("new") + PUT, GET)
    assert vetted(message(twice)) == G | P
    assert vetted(message(new("new"), text("x"), PUT, op.TUPLE2)) == G | P
    with pytest.raises(MalformedPickle):
        vetted(message(new("new") + PUT, bytes([op.BINGET, 1]), op.TUPLE2))


def deque(room: bytes, *batches: int) -> bytes:
    items = (bytes([op.MARK]) + NONE * count + bytes([op.APPENDS]) for count in batches)
    return made("deque", EMPTY, room) + b"".join(items)


@pytest.mark.parametrize("room", [3, 300, 70_000, 2**40])
def test_a_deque_takes_no_more_items_than_it_has_room_for(room: int) -> None:
    written = integer(room) if room not in (300, 70_000) else bytes([op.BININT]) + room.to_bytes(4, "little")
    if room == 300:
        written = bytes([op.BININT2]) + room.to_bytes(2, "little")
    vetted(message(deque(written, 3)))
    if room < 1000:
        vetted(message(deque(written, room - 1, 1)))
        for batches in ((room + 1,), (room, 1), (1, room)):
            with pytest.raises(MalformedPickle, match="more items than its maxlen"):
                vetted(message(deque(written, *batches)))
    # A length that is no int is for the constructor to refuse, and so are other numbers of arguments.
    vetted(message(deque(NONE, 5)))
    vetted(message(deque(list_(NONE), 5)))
    vetted(message(made("call", EMPTY, integer(1))))
    vetted(message(made("deque", EMPTY, integer(1), NONE) + bytes([op.MARK]) + NONE * 5 + bytes([op.APPENDS])))


def fractions(*pairs: tuple[bytes, bytes], of: str = "Fraction") -> bytes:
    return message(list_(*(made(of, first, second) for first, second in pairs)))


def test_the_two_integers_of_fractions_are_charged_as_keys() -> None:
    # Of one hash, and each weighs 1 + 2.
    pairs = [(integer(3 + PRIME * n * 7), integer(7)) for n in range(8)]
    unfolded = 1 + 8 * 4
    cost = 8 * 7 * 3
    vetted(fractions(*pairs), max_expanded_nodes=cost)
    with pytest.raises(LimitExceeded, match="hashing and comparing"):
        vetted(fractions(*pairs), max_expanded_nodes=cost - 1)
    honest = [(integer(n), integer(7)) for n in range(100, 120)]
    vetted(fractions(*honest), max_expanded_nodes=1 + 20 * 4)
    for other in (
        fractions(*pairs, of="call"),
        fractions(*((first, NONE) for first, _ in pairs)),
        fractions(*((text("x"), second) for _, second in pairs)),
        fractions(*((list_(NONE), second) for _, second in pairs[:4])),
        fractions(*((first, list_(NONE)) for first, _ in pairs[:4])),
        fractions(pairs[0], *[pairs[0]] * 7),
        message(list_(*(made("Fraction", first, second, second) for first, second in pairs[:6]))),
    ):
        vetted(other, max_expanded_nodes=unfolded)


def test_what_a_call_copies_is_compared_again() -> None:
    keys = [tuple_(integer(n * PRIME)) for n in range(1, 9)]
    whole = dict_(*((key, NONE) for key in keys)) + PUT
    hashing, comparing = 8, 8 * 7 * 2
    for calls in range(3):
        cost = hashing + comparing * (1 + calls)
        data = message(list_(whole, *[made("call", GET)] * calls))
        vetted(data, max_expanded_nodes=cost)
        with pytest.raises(LimitExceeded, match="hashing and comparing"):
            vetted(data, max_expanded_nodes=cost - 1)

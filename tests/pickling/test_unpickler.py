"""Failures after vetting, and the sources of the bytes."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire import Codec
from sealwire.errors import DecodeError, InvalidValue, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.placeholders import placeholder_class
from sealwire.pickling.resolve import methods
from sealwire.pickling.unpickler import LARGE

DECODER = Decoder(Allowlist(), Limits())
LONG = text("x" * LARGE)


def large(data):
    """The same in a mutable buffer that is read where it is."""
    return memoryview(bytearray(b"head" + data))[4:]


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, large])
def test_text_that_is_not_utf_8(form):
    for data in (
        message(bytes([op.SHORT_BINUNICODE, 1, 255])),
        message(list_(LONG, bytes([op.SHORT_BINUNICODE, 1, 255]))),
    ):
        with pytest.raises(MalformedPickle, match="UTF-8"):
            DECODER.decode(form(data))


def test_an_unhashable_element_in_a_list_that_becomes_a_set():
    with pytest.raises(InvalidValue, match=r"^a key that is not hashable"):
        DECODER.decode(message(call("builtins", "set", list_(list_(integer(1))))))
    for wrong in ((), (text("a"),), (list_(b"N"), list_(b"N"))):
        with pytest.raises(DecodeError, match=r"items are not a list|other arguments"):
            DECODER.decode(message(call("builtins", "set", *wrong)))


def test_an_unhashable_element_that_is_made_at_the_end():
    uuid = instance("uuid", "UUID", dict_((text("int"), integer(1))))
    counter = call("collections", "Counter", dict_((text("a"), integer(1))))
    data = message(tuple_(dict_((uuid, integer(1))), call("builtins", "set", list_(counter))))
    with pytest.raises(InvalidValue):
        DECODER.decode(data)


def test_a_key_whose_value_is_not_hashable():
    decoder = Decoder(Allowlist(), Limits())
    # As a class may be that somebody allows.
    made = placeholder_class(lambda state: [state])
    decoder._inert.names["uuid", "UUID"] = made
    decoder._methods = methods([made])
    with pytest.raises(InvalidValue, match="not hashable"):
        decoder.decode(message(dict_((instance("uuid", "UUID", integer(1)), integer(1)))))


@pytest.mark.parametrize("data", [None, 5, "text", [1]])
def test_what_is_not_bytes_like(data):
    with pytest.raises(TypeError, match="bytes"):
        DECODER.decode(data)


def test_too_large_before_anything_is_read():
    with pytest.raises(LimitExceeded, match=r"^max_frame: the message has 20000000 bytes, 16777164 are allowed$"):
        DECODER.decode(bytes(20_000_000))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_large_buffer_with_names(protocol):
    value = ["x" * LARGE, {1, 2}, 1j, bytearray(b"z" * LARGE), b"y" * LARGE]
    assert DECODER.decode(large(pickle.dumps(value, protocol))) == value


def test_a_large_buffer_with_global_outside_a_frame():
    assert DECODER.decode(large(message(list_(LONG, b"ccollections\nOrderedDict\n)R")))) == ["x" * LARGE, {}]


def test_a_large_buffer_with_keys():
    """Keys are short str in alike dicts, and everything else."""
    value = ["x" * LARGE, [{"a": 1, "b": n} for n in range(3)], {("t", n): b"" for n in range(2000)}, {"key" * 200: 2}]
    assert DECODER.decode(large(pickle.dumps(value, 5))) == value


def test_an_altered_buffer_finds_no_names():
    """Changing a large buffer between the two passes reaches no class, either."""
    good = bytearray(message(list_(LONG, text("builtins"), text("eval"), integer(1))))
    hostile = message(list_(LONG, text("builtins"), text("eval") + bytes([op.STACK_GLOBAL, op.NONE])))
    assert len(good) == len(hostile)

    class Racing(Decoder):
        def check(self, data, large_buffers=None, frames=None):
            found = super().check(data, large_buffers, frames)
            good[:] = hostile
            return found

    with pytest.raises(TypeNotAllowed):
        Racing(Allowlist(), Limits()).decode(good)


def test_nesting_beyond_what_is_left_of_the_stack():
    decoder = Decoder(Allowlist(), Limits(max_depth=500))
    decoder._twin = None  # which takes nothing from Python's stack
    uuid = instance("uuid", "UUID", dict_((text("int"), integer(1))))
    data = message(uuid, *[op.TUPLE1] * 490)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        with pytest.raises(LimitExceeded, match=r"^max_depth: "):
            decoder.decode(data)
    finally:
        sys.setrecursionlimit(limit)


def test_memory_that_is_not_there(monkeypatch):
    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(pickle, "loads", load)
    with pytest.raises(LimitExceeded, match=r"^max_memory: "):
        Decoder(Allowlist(), Limits()).decode(message(integer(1)))


def test_a_reference_to_a_name_that_was_called():
    data = message(
        name("collections", "deque"),
        op.MEMOIZE,
        tuple_(tuple_(), integer(3)),
        op.REDUCE,
        bytes([op.BINGET, 0]),
        tuple_(tuple_(), integer(4)),
        op.REDUCE,
        op.TUPLE2,
    )
    first, second = DECODER.decode(data)
    assert (first.maxlen, second.maxlen) == (3, 4)
    assert DECODER.decode(message(blob(b"x"))) == b"x"


CODEC = Codec(Allowlist(*shop.TYPES))


def test_no_memory_for_the_vetting_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("sealwire.pickling.unpickler.elide", exhausted)
    with pytest.raises(LimitExceeded, match="max_memory: there is not enough memory"):
        CODEC.decode(memoryview(bytearray(pickle.dumps(bytes(100_000), 5))))

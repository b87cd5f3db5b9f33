"""Failures after vetting, and the sources of the bytes."""

from __future__ import annotations

import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pydantic
import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire import Codec
from sealwire.errors import DecodeError, InvalidValue, LimitExceeded, MalformedPickle, TypeNotAllowed
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling import Allowlist, Decoder, Encoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.placeholders import placeholder_class
from sealwire.pickling.resolve import methods
from sealwire.pickling.unpickler import LARGE, _readable

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


WHOLE = bytes(range(256)) * (LARGE // 256) + b"more"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bytearray(WHOLE[: LARGE - 1]), bytes),
        (memoryview(WHOLE)[1:LARGE], bytes),
        (bytearray(WHOLE[:LARGE]), memoryview),
        (bytearray(WHOLE), memoryview),
        (memoryview(bytearray(WHOLE)).cast("i"), memoryview),
        (memoryview(WHOLE)[1:], memoryview),
        (memoryview(WHOLE)[::-1], bytes),
        (memoryview(WHOLE)[-10::-1], bytes),
    ],
    ids=range(8),
)
def test_a_message_is_read_where_it_is_if_it_is_large(data, kind):
    found = _readable(data)
    assert type(found) is kind
    assert found == memoryview(data).tobytes()
    assert memoryview(found).format == "B"


def test_a_view_of_bytes_is_these_bytes():
    assert _readable(memoryview(WHOLE)) is WHOLE
    assert _readable(memoryview(WHOLE).cast("i")) is WHOLE


@pytest.mark.parametrize("size", [12, LARGE])
def test_views_of_any_form(size):
    value = bytes(range(256)) * (size // 256) + bytes(max(size % 256 - 8, 0))
    data = message(blob(value))
    apart = bytearray(2 * len(data))
    apart[::2] = data
    for form in (data, bytearray(data), memoryview(data), memoryview(data).cast("i"), memoryview(apart)[::2]):
        assert Decoder(Allowlist(), Limits()).decode(form) == value


def test_the_largest_message():
    data = message(blob(bytes(5000)))
    assert Decoder(Allowlist(), Limits(max_frame=len(data) + FRAME_OVERHEAD)).decode(data) == bytes(5000)
    with pytest.raises(LimitExceeded, match=r"^max_frame: "):
        Decoder(Allowlist(), Limits(max_frame=len(data) + FRAME_OVERHEAD - 1)).decode(data)


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


class Holder(msgspec.Struct):
    content: list[shop.Frozen]


class Choice(pydantic.BaseModel):
    content: dict[int, str] | dict[str, int]


ALLOWLIST = Allowlist(*shop.TYPES, Choice, Holder)
MADE = [*shop.VALUES, Choice(content={1: "a"}), Holder([shop.Frozen("a", 1)]), [{shop.Point(1)}, shop.order()]]
STANDARD = [
    1j, b"bytes", bytearray(b"x"), {1, "a"}, frozenset([2]), Decimal("1.5"), Fraction(1, 3), deque([1], 3),
    OrderedDict(a=1), Counter("abca"), defaultdict(list, {"a": [1]}), defaultdict(Decimal), [{1}, [OrderedDict()]],
]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_way_to_make_a_value(protocol: int) -> None:
    """As they are, and beside keys that are objects, for whose sake no call is made while the message is read."""
    decoder = Decoder(ALLOWLIST, Limits())
    for value in (*STANDARD, *MADE):
        assert decoder.decode(pickle.dumps(value, protocol)) == value
        pair = ({shop.Frozen("key", 1): shop.Color.RED}, value)
        made = decoder.decode(pickle.dumps(pair, protocol))
        assert made == pair
        assert type(made[1]) is type(value)
    for error in shop.ERRORS[: -1 if protocol == 2 else None]:  # Python 2 has no FileNotFoundError
        (made,) = decoder.decode(pickle.dumps([error], protocol))
        assert (type(made), made.args, made.__dict__) == (type(error), error.args, error.__dict__)


class Custom:
    """A type that is allowed with functions for it."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts


def test_a_users_code_gets_values_and_never_what_stands_for_them() -> None:
    seen = []

    def load(parts: list[Any]) -> Custom:
        seen.append(parts.copy())
        return Custom(parts)

    allowlist = Allowlist(shop.Frozen).register(Custom, dump=lambda value: (value.parts,), load=load)
    decoder = Decoder(allowlist, Limits())
    part = shop.Frozen("a", 1)
    for value in ([Custom([part])], [Custom([{part}]), {part: 1}]):
        encoded = Encoder(allowlist, Limits(), decoder).encode_checked(value)
        assert isinstance(encoded, bytes)
        seen.clear()
        decoder.decode(encoded)
        assert seen == [value[0].parts]


BAD = call("decimal", "Decimal", text("sNaN"))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (list_(integer(1), BAD), "$[1]"),
        (dict_((text("number"), list_(BAD))), "$.number[0]"),
        (dict_((text("nowhere"), list_(BAD))), "$.<value 0>[0]"),
        (tuple_(instance("uuid", "UUID", dict_((text("int"), integer(1)))), BAD), "$[1]"),
        (list_(dict_((instance("uuid", "UUID", dict_((text("int"), integer(1)))), BAD))), "$[0].<value 0>"),
    ],
    ids=["list", "declared", "undeclared", "instances", "keys"],
)
def test_an_error_has_the_path_to_a_value_and_names_only_declared_fields(value: bytes, path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Decoder(ALLOWLIST, Limits()).decode(message(value))
    assert str(caught.value).startswith(f"{path}: decimal.Decimal: ")


@dataclass
class Changing:
    """Changes one of its parts when it is made."""

    kept: bytes
    changed: bytearray

    def __post_init__(self) -> None:
        self.changed[0] += 1


def encode(value: object, **limits: int) -> bytes:
    """Encode as it is done if the decoder must be asked."""
    allowlist = Allowlist(Changing, shop.Frozen)
    decoder = Decoder(allowlist, Limits(**limits))
    encoded = Encoder(allowlist, Limits(), decoder).encode_checked(value)
    return encoded if isinstance(encoded, bytes) else b"".join(encoded)


@pytest.mark.parametrize(
    "value",
    [
        [b"x" * LARGE, bytearray(LARGE), "y" * LARGE, b"z" * 2 * LARGE],
        {b"x" * LARGE: b"y" * LARGE, b"y" * LARGE: b"x" * LARGE},
        Changing(b"x" * LARGE, bytearray(LARGE)),
        [Changing(b"x", bytearray(LARGE)), Changing(b"x" * LARGE, bytearray(3))],
        [Decimal("1.5"), b"x" * LARGE],
        ({shop.Frozen("a", 1): b"x" * LARGE}, bytearray(LARGE)),
    ],
    ids=range(6),
)
def test_large_bytes_are_encoded_as_they_were(value: Any) -> None:
    expected = pickle.dumps(value, 5)
    assert encode(value) == expected
    assert pickle.dumps(value, 5) == expected


@pytest.mark.parametrize(
    ("value", "limits", "error"),
    [
        ([b"x" * LARGE, bytearray(LARGE)], {"max_memory": LARGE}, "max_memory"),
        ([b"x" * LARGE, {float("nan"): 1}], {}, "NaN"),
        ([b"x" * LARGE, shop.Frozen(5, 1)], {}, "name: expected str"),
        ([bytearray(LARGE), Changing(bytearray(LARGE), bytearray(1))], {}, "kept: expected bytes"),
    ],
    ids=range(4),
)
def test_large_bytes_beside_what_is_refused(value: Any, limits: dict[str, int], error: str) -> None:
    with pytest.raises(DecodeError, match=error):
        encode(value, **limits)

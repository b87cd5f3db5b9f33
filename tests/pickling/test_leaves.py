"""Leaves that are used as keys: the vetting pass gives each the value that the unpickler will build."""

from __future__ import annotations

import itertools
import pickle
import struct

import pytest

from pickling.assembler import blob, dict_, integer, list_, message, name, text
from sealwire import Allowlist, Codec, LimitExceeded, Limits, MalformedPickle
from sealwire.errors import DecodeError, TypeNotAllowed
from sealwire.pickling import Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.unpickler import LARGE
from sealwire.pickling.vet import Vetting

CODEC = Codec()
RULES = Decoder(Allowlist(), Limits())._rules
KEYS = {
    "LONG1": (integer(2**70), 2**70),
    "LONG4": (integer(2**3000), 2**3000),
    "BINUNICODE": (text("x" * 300), "x" * 300),
    "BINBYTES": (blob(b"x"), b"x"),
}


@pytest.mark.parametrize(("key", "value"), KEYS.values(), ids=KEYS)
def test_keys(key: bytes, value: object) -> None:
    assert CODEC.decode(message(dict_((key, b"N"), (integer(1), b"N")))) == {value: None, 1: None}
    with pytest.raises(MalformedPickle, match="a key occurs twice"):
        CODEC.decode(message(dict_((key, b"N"), (key, b"N"))))


def sized(opcode: int, width: int, content: bytes) -> bytes:
    return bytes([opcode]) + len(content).to_bytes(width, "little") + content


def long_text(content: bytes) -> bytes:
    return sized(op.BINUNICODE, 4, content)


def float_(value: float) -> bytes:
    return bytes([op.BINFLOAT]) + struct.pack(">d", value)


LEAVES = [
    *(bytes([opcode]) for opcode in (op.NONE, op.NEWTRUE, op.NEWFALSE, op.EMPTY_TUPLE)),
    *(bytes([op.BININT1, value]) for value in (0, 1, 2, 5, 255)),
    *(bytes([op.BININT2]) + value.to_bytes(2, "little") for value in (0, 1, 5, 255, 256, 0x0102, 0xFFFF)),
    *(
        bytes([op.BININT]) + value.to_bytes(4, "little", signed=True)
        for value in (0, 5, 256, 0x0102, -1, -2, 0x01020304, 2**31 - 1, -(2**31))
    ),
    *(
        sized(opcode, width, content)
        for opcode, width in ((op.LONG1, 1), (op.LONG4, 4))
        for content in (b"", b"\x05", b"\xff", b"\x05\0", b"\4\3\2\1", b"\xff\0", b"\xfe\xff\xff", b"\1\2\3" * 20)
    ),
    *map(float_, (0.0, -0.0, 1.0, 5.0, -1.0, 0.5, 65535.0, float("inf"), 1e300)),
    *(
        sized(opcode, width, content)
        for opcode, width in ((op.SHORT_BINUNICODE, 1), (op.BINUNICODE, 4), (op.BINUNICODE8, 8))
        for content in (b"", b"a", b"ab", "é€😀".encode(), b"x" * 200)
    ),
    *(
        sized(opcode, width, content)
        for opcode, width in ((op.SHORT_BINBYTES, 1), (op.BINBYTES, 4), (op.BINBYTES8, 8))
        for content in (b"", b"a", b"ab", "é".encode(), b"\xff\0", b"x" * 200)
    ),
]


@pytest.mark.filterwarnings("ignore::BytesWarning")  # of text beside bytes, with -b: the equality is the point
def test_leaves_are_equal_keys_as_they_are_in_python() -> None:
    values = [pickle.loads(message(leaf)) for leaf in LEAVES]
    first = integer(2**99)
    for (one, left), (other, right) in itertools.combinations(zip(LEAVES, values, strict=True), 2):
        # The third keeps both from being compared as text.
        data = message(dict_((first, b"N"), (one, b"N"), (other, b"N")))
        if left == right:
            with pytest.raises(MalformedPickle, match="a key occurs twice"):
                Vetting(data, RULES).run()
        else:
            Vetting(data, RULES).run()


@pytest.mark.parametrize("leaf", [b"x" * LARGE, b"y" * (LARGE + 1)], ids=["x", "y"])
def test_large_bytes_as_keys(leaf: bytes) -> None:
    other = b"z" * LARGE
    for keys, is_accepted in (((leaf, other), True), ((leaf, leaf), False), ((leaf, b""), True)):
        data = memoryview(bytearray(message(dict_(*((blob(key), b"N") for key in keys)))))
        if is_accepted:
            assert CODEC.decode(data) == dict.fromkeys(keys)
        else:
            with pytest.raises(MalformedPickle, match="a key occurs twice"):
                CODEC.decode(data)


@pytest.mark.parametrize("max_bits", [95, 96, 97, 100, 103, 104])
def test_the_bits_of_an_integer(max_bits: int) -> None:
    """An integer with more leading bytes than it needs is refused without being read."""
    rules = Decoder(Allowlist(), Limits(max_integer_bits=max_bits))._rules
    for size in range(10, 17):
        for value in (5, 2 ** (max_bits - 1), 2**max_bits - 1, 2**max_bits, -(2**max_bits) + 1, -(2**max_bits)):
            try:
                content = value.to_bytes(size, "little", signed=True)
            except OverflowError:
                continue
            for leaf in (sized(op.LONG1, 1, content), sized(op.LONG4, 4, content)):
                if value.bit_length() <= max_bits and size * 8 <= max_bits + 8:
                    Vetting(message(leaf), rules).run()
                else:
                    with pytest.raises(LimitExceeded, match=r"^max_integer_bits: "):
                        Vetting(message(leaf), rules).run()


def test_where_lone_surrogates_are_and_where_there_only_seem_to_be() -> None:
    """Their first byte, 0xed, also begins other characters, and is in numbers and bytes."""
    korean, lone = "\ud7ff".encode(), "\ud800".encode("utf-8", "surrogatepass")
    assert korean[0] == lone[0] == 0xED
    for before in (b"", b"x", b"x" * 100):
        for between in (b"", b"x", b"x" * 251, b"x" * 5000):
            for after in (b"", b"x"):
                good, bad = before + korean + between + korean + after, before + korean + between + lone + after
                others = (text("x"), integer(0xED), blob(b"\xed"), text("y" * 30))
                Vetting(message(list_(*others, long_text(good), *others, long_text(good), *others)), RULES).run()
                for strings in (
                    (long_text(bad), long_text(good)),
                    (long_text(good), long_text(bad)),
                    (long_text(bad),),
                ):
                    with pytest.raises(MalformedPickle, match="surrogate"):
                        Vetting(message(list_(*others, *strings, *others)), RULES).run()


def test_names_in_each_form() -> None:
    for opcode, width in ((op.SHORT_BINUNICODE, 1), (op.BINUNICODE, 4), (op.BINUNICODE8, 8)):
        for module, of in (("decimal", "Decimal"), ("collections", "deque")):
            parts = sized(opcode, width, module.encode()), sized(opcode, width, of.encode()), bytes([op.STACK_GLOBAL])
            made = b"".join(parts) + (b"\x8c\x011\x85R" if of == "Decimal" else b")R")
            Vetting(message(made), RULES).run()
    for wrong in (blob(b"decimal"), integer(1), b"N", b"]"):
        with pytest.raises(MalformedPickle, match="a str was expected"):
            Vetting(message(wrong, text("Decimal"), op.STACK_GLOBAL, b")R"), RULES).run()


@pytest.mark.parametrize("size", [1, 254, 255, 256, 257, 1000])
def test_the_length_of_a_name(size: int) -> None:
    for module, of in ((b"m" * size, b"n"), (b"m", b"n" * size)):
        error = TypeNotAllowed if size < 256 else MalformedPickle
        with pytest.raises(DecodeError) as raised:
            Vetting(message(b"c" + module + b"\n" + of + b"\n", b")R", b"(" * 1000), RULES).run()
        assert type(raised.value) is error
    with pytest.raises(MalformedPickle):
        Vetting(message(b"cdecimal\nDecimal"), RULES).run()
    with pytest.raises(TypeNotAllowed):
        Vetting(message(name("m" * size, "n" * size), b")R"), RULES).run()

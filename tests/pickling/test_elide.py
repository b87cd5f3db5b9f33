"""Large bytes are left out of what is vetted; nothing else changes."""

from __future__ import annotations

import pickle
import random
import re
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire import Allowlist, Codec, DecodeError, LimitExceeded, Limits, MalformedPickle
from sealwire.pickling import Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.elide import LARGE, elide
from sealwire.pickling.vet import Vetting

WIDE = Limits(max_frame=1 << 28, max_string=1 << 28, max_memory=1 << 30)
DECODER = Decoder(Allowlist(), WIDE)
VALUES: list[Any] = [
    b"x" * LARGE,
    bytearray(LARGE),
    [b"x" * LARGE, bytearray(LARGE + 1), b"y" * LARGE],
    [b"x" * LARGE, "y" * LARGE, list(range(100_000)), bytearray(LARGE)],
    {b"x" * LARGE: 1, b"y" * LARGE: (b"z" * LARGE,)},
    {"a": b"x" * LARGE, "b": {"c": bytearray(LARGE), "d": None}, "e": [b"y" * LARGE] * 3},
    [uuid.UUID(int=1), b"x" * LARGE, uuid.UUID(int=2)],
    frozenset([b"x" * LARGE, b"y" * (LARGE + 7)]),
    [bytes([op.FRAME]) * LARGE, bytes([op.BINBYTES8]) * LARGE],
]


LENGTHS = re.compile(b"[" + re.escape(bytes((op.FRAME, op.BINBYTES, op.BINBYTES8, op.BYTEARRAY8))) + b"]")
"""Opcodes that a length follows."""


def view(data: bytes) -> memoryview:
    """As a large frame has it: part of a buffer that can be written to."""
    return memoryview(bytearray(b"head" + data + b"tag"))[4:-3]


def verdict(decoder: Decoder, data: Any) -> Any:
    try:
        return decoder.decode(data)
    except DecodeError as error:
        return type(error)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("protocol", [4, 5])
def test_what_is_left_out(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    short, large_buffers = elide(view(data), 1 << 28)
    assert all(len(each) >= LARGE for each in large_buffers.values())
    extra = len(short) + sum(map(len, large_buffers.values())) - len(data)
    assert 0 <= extra <= 4 * len(large_buffers)  # for a length of eight bytes instead of four
    assert len(short) < len(data) // 3 or value is VALUES[3] or (protocol == 4 and value is VALUES[1])
    assert DECODER.decode(view(data)) == DECODER.decode(data) == value


class Watched:
    """A message of which few places are looked at: eliding must be quicker than the pass that it spares."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._looks = 0

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, place: Any) -> Any:
        self._looks += 1
        assert self._looks < 100
        return self._data[place]


HEAD = bytes((op.PROTO, 5))
SIZE = 0x010203
"""A little more than LARGE."""


def large(opcode: int, size: int = SIZE) -> tuple[bytes, bytes, bytes]:
    """An opcode, its length and its content."""
    return bytes((opcode,)), size.to_bytes(4 if opcode == op.BINBYTES else 8, "little"), bytes((opcode,)) * size


def frame(size: int) -> bytes:
    return bytes((op.FRAME,)) + size.to_bytes(8, "little") + bytes((op.NONE,)) * size


def small(count: int) -> bytes:
    """Opcodes outside of frames."""
    return bytes((op.NONE,)) * count


LEFT_OUT: dict[str, list[bytes | tuple[bytes, bytes, bytes]]] = {
    "the first bytes": [HEAD, large(op.BINBYTES8), b"."],
    "the last bytes": [HEAD, large(op.BINBYTES8)],
    "the least": [HEAD, large(op.BINBYTES, LARGE), b"."],
    "each opcode": [HEAD, large(op.BINBYTES), large(op.BINBYTES8), large(op.BYTEARRAY8), large(op.BINBYTES), b"."],
    "after a frame": [HEAD, frame(0x0102), large(op.BINBYTES), b"."],
    "after frames": [HEAD, frame(3), frame(0), large(op.BINBYTES8), frame(5), large(op.BINBYTES8), frame(1), b"."],
    "after the most opcodes": [HEAD, small(3), large(op.BINBYTES), small(3), large(op.BINBYTES), small(3), b"."],
    "after a frame and opcodes": [HEAD, small(3), frame(7), small(3), large(op.BYTEARRAY8), b"."],
    "after opcodes of two bytes": [HEAD, bytes((op.BINGET, 1, op.MEMOIZE, op.BINGET, 2)), large(op.BINBYTES), b"."],
}
STAYS = {
    "nothing": HEAD,
    "no more than PROTO and STOP": HEAD + b".",
    "opcodes without an end": HEAD + small(2),
    "a frame past the end": HEAD + frame(9)[:-1],
    "bytes that are smaller": HEAD + b"".join(large(op.BINBYTES, LARGE - 1)) + b".",
    "bytes after one that is smaller": HEAD + b"".join(large(op.BINBYTES, 16) + large(op.BINBYTES)) + b".",
    "bytes past the end": HEAD + b"".join(large(op.BINBYTES, SIZE))[:-1],
    "bytes after too many opcodes": HEAD + small(4) + b"".join(large(op.BINBYTES)) + b".",
    "bytes after another opcode": HEAD + bytes((op.STOP,)) + b"".join(large(op.BINBYTES)) + b".",
}


@pytest.mark.parametrize("parts", LEFT_OUT.values(), ids=LEFT_OUT)
def test_bytes_that_are_left_out(parts: list[bytes | tuple[bytes, bytes, bytes]]) -> None:
    data = short = b""
    large_buffers = {}
    for part in parts:
        if isinstance(part, bytes):
            data += part
            short += part
        else:
            opcode, length, content = part
            data += opcode + length + content
            large_buffers[len(short)] = content
            short += opcode + bytes(len(length))
    message: Any = Watched(data)
    assert elide(message, SIZE) == (short, large_buffers)


@pytest.mark.parametrize("data", STAYS.values(), ids=STAYS)
def test_bytes_that_stay(data: bytes) -> None:
    message: Any = Watched(data)
    assert elide(message, SIZE) == (data, {})


def test_equal_large_keys_are_found() -> None:
    key = b"x" * LARGE
    one, other = pickle.dumps({key: 1, key[:-1] + b"y": 2}, 5), key[:-1] + b"y"
    twice = one.replace(other, key)
    assert len(twice) == len(one)
    for data in (twice, view(twice)):
        with pytest.raises(MalformedPickle, match="twice"):
            DECODER.decode(data)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1])
def test_limits_are_kept(size: int) -> None:
    data = pickle.dumps([b"x" * size] * 2, 5)
    for limits in ({"max_string": size - 1}, {"max_memory": size}, {"max_frame": len(data)}):
        decoder = Decoder(Allowlist(), Limits(**limits))
        for form in (data, view(data)):
            with pytest.raises(LimitExceeded, match=next(iter(limits))):
                decoder.decode(form)


def test_many_short_opcodes_are_not_followed() -> None:
    """Each of them costs as much as a kilobyte that is copied."""
    data = bytes((op.PROTO, 4)) + bytes((op.NONE,)) * 1_000_000 + bytes((op.STOP,))
    short, large_buffers = elide(view(data), 1 << 28)
    assert (short, large_buffers) == (data, {})


def splice(source: random.Random, data: bytes) -> bytes:
    """With pieces of it cut out, repeated, or a byte changed near where the large ones begin."""
    marks = [found.start() for found in LENGTHS.finditer(data, 0, len(data) - 9)]
    made = bytearray(data)
    for _ in range(source.randint(1, 3)):
        at = max(0, source.choice(marks) + source.randint(-4, 10))
        what = source.randrange(4)
        if what == 0:
            made[at : at + 1] = bytes((source.randrange(256),))
        elif what == 1:
            del made[at : at + source.randint(1, 9)]
        elif what == 2:
            made[at:at] = made[at : at + source.randint(1, 9)]
        else:
            made[at:at] = bytes((source.choice((op.MEMOIZE, op.NONE, op.MARK, op.BINGET, op.FRAME, op.BINBYTES)),))
    return bytes(made)


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 3, 8]))
def test_it_says_the_same_of_every_mutant(seed: int, number: int) -> None:
    source = random.Random(seed)
    small = pickle.dumps(VALUES[number], 5).replace(b"x" * 8, b"\0" * 8)
    data = splice(source, small)
    whole = verdict(DECODER, data)
    assert verdict(DECODER, view(data)) == whole
    try:
        Vetting(data, DECODER._rules).run()
    except DecodeError:
        assert isinstance(whole, type)


def test_the_codec_takes_views() -> None:
    value = {"a": b"x" * LARGE, "b": list(range(1000))}
    assert Codec().decode(view(pickle.dumps(value, 5))) == value

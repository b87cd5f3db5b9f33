"""Large bytes are pieces of their own: the message is the same, the limits hold, and little is copied."""

from __future__ import annotations

import pickle
import tracemalloc
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sealwire import Allowlist, Codec, EncodeError, Limits, SealwireError
from sealwire.pickling import opcodes as op
from sealwire.pickling.pickle_writer import PieceWriter

MIB = 1 << 20
LARGE = 65_536  # from here on CPython's pickler writes bytes as they are


@dataclass
class Scaled:
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.values *= 2


@dataclass
class Emptied:
    data: bytearray

    def __post_init__(self) -> None:
        self.data.clear()


WIDE = Limits(max_frame=1 << 28, max_string=1 << 28, max_memory=1 << 30)
CODEC = Codec(Allowlist(np.ndarray, Scaled, Emptied), limits=WIDE)

VALUES: dict[str, Any] = {
    "bytes": b"x" * LARGE,
    "bytes that look like a frame": b"\x95" + (LARGE - 9).to_bytes(8, "little") + bytes(LARGE),
    "a bytearray": bytearray(b"x" * LARGE),
    "bytes below the size": [b"x" * (LARGE - 1), b"y" * LARGE],
    "text": ["é" * LARGE, b"y" * LARGE, "x" * LARGE],
    "an array": np.arange(MIB / 8),
    "an array and text": {"a": np.arange(MIB / 8), "b": "x" * MIB, "c": list(range(100_000))},
    "many": [bytes([n]) * LARGE for n in range(20)],
    "short ones between": [b"a", b"x" * LARGE, None, b"y" * LARGE, bytearray(LARGE), [], bytearray(LARGE)],
    "after a header's look-alike": [b"\x8e" + LARGE.to_bytes(8, "little"), b"z" * LARGE, uuid.UUID(int=1)],
    "keys": {b"x" * LARGE: 1, b"y" * LARGE: 2, ("a", b"x" * (LARGE + 1)): 3},
    "shared": [[b"x" * LARGE] * 3, uuid.UUID(int=1)],
    "a long integer": [1 << 14_000, b"x" * LARGE],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_the_message_is_the_same(value: Any) -> None:
    for each in (value, [value, uuid.UUID(int=1)]):  # the latter is asked about in any case
        data = CODEC.encode(each)
        assert data == pickle.dumps(each, 5)
        pieces = CODEC.encode_pieces(each)
        assert (b"".join(pieces) if isinstance(pieces, list) else pieces) == data
    assert isinstance(pieces, list)
    file = PieceWriter(WIDE)
    pickle.Pickler(file, 5).dump(value)
    assert b"".join(file.pieces) == pickle.dumps(value, 5)
    assert pickle.dumps(pickle.loads(b"".join(file.building_message), buffers=file.buffers), 5) == pickle.dumps(
        value, 5
    )
    assert len(b"".join(file.elided)) < len(data)
    elide = b"".join(file.elided)
    assert list(file.large_buffers.values()) == file.buffers
    assert {elide[offset] for offset in file.large_buffers} <= {op.BINBYTES, op.BINBYTES8, op.BYTEARRAY8}


@pytest.mark.parametrize("value", [b"x" * 100, b"x" * LARGE, b""], ids=len)
def test_a_memoryview_is_encoded_as_its_bytes(value: bytes) -> None:
    twice = bytes(byte for byte in value for _ in "ab")
    for view in (memoryview(value), memoryview(bytearray(value)), memoryview(twice)[::2]):
        for given, expected in ((view, value), ({"a": [view]}, {"a": [value]})):
            data = CODEC.encode(given)
            assert CODEC.decode(data) == pickle.loads(data) == expected
    grid = memoryview(np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3)))
    assert CODEC.decode(CODEC.encode(grid)) == bytes(range(6))


def test_the_faulty_part_is_not_the_memoryview() -> None:
    with pytest.raises(EncodeError, match=r"^\$\.b: .*object is not on the allowlist"):
        CODEC.encode({"a": memoryview(b"x"), "b": object()})


LIMITS = {
    "max_frame": ({"max_frame": MIB}, bytes(MIB)),
    "max_string": ({"max_string": MIB - 1}, bytes(MIB)),
    "max_memory": ({"max_memory": MIB}, bytes(MIB)),
    "max_memory of many": ({"max_memory": 4 * MIB}, [bytes(MIB)] + [bytes([n]) * MIB for n in range(4)]),
}


@pytest.mark.parametrize(("limits", "value"), LIMITS.values(), ids=LIMITS)
def test_limits(limits: dict[str, int], value: Any) -> None:
    wide = {"max_frame": 1 << 28, "max_string": 1 << 28, "max_memory": 1 << 30}
    codec = Codec(Allowlist(np.ndarray), limits=Limits(**wide | limits))
    made = [value, np.frombuffer(value, "u1")] if isinstance(value, bytes) else [value]
    for each in (*made, [value, uuid.UUID(int=1)]):
        with pytest.raises(EncodeError, match=next(iter(limits))):
            codec.encode(each)


SHARING = {
    "an array": np.zeros(MIB // 8),
    "one that is read only": np.frombuffer(bytes(MIB)),
    "one with a step": np.zeros(MIB // 4)[::2],
    "bytes": [bytes(MIB), uuid.UUID(int=1)],
    "a bytearray": [bytearray(MIB), uuid.UUID(int=1)],
    "a memoryview": memoryview(bytes(MIB)),
}


@pytest.mark.parametrize("value", SHARING.values(), ids=SHARING)
def test_memory_is_charged_as_decode_does(value: Any) -> None:
    """Buffers that are set aside count the same: encode accepts what decode accepts."""
    data = pickle.dumps(value, 5) if not isinstance(value, memoryview) else CODEC.encode(value)
    verdicts = []
    for budget in range(MIB // 2, 6 * MIB, MIB // 16):
        codec = Codec(Allowlist(np.ndarray), limits=Limits(max_memory=budget))
        accepted = []
        for function, argument in ((codec.decode, data), (codec.encode, value)):
            try:
                function(argument)
            except SealwireError as error:
                accepted.append("max_memory" not in str(error))
            else:
                accepted.append(True)
        assert accepted[0] is accepted[1]
        verdicts += accepted
    assert not verdicts[0]
    assert verdicts[-1]


def test_what_code_does_to_its_parts_is_not_sent() -> None:
    """A constructor that changes what it is given changes a copy."""
    value = Scaled(np.ones(MIB))
    pieces = CODEC.encode_pieces(value)
    assert isinstance(pieces, list)
    assert pickle.loads(b"".join(pieces)).values[0] == value.values[0] == 2
    emptied = Emptied(bytearray())
    emptied.data = bytearray(MIB)
    assert len(pickle.loads(CODEC.encode(emptied)).data) == MIB


def test_what_is_sent_is_not_changed_by_who_sends_it() -> None:
    for value in (np.zeros(MIB), bytearray(8 * MIB)):
        pieces = CODEC.encode_pieces(value)
        value[:1] = b"x" if isinstance(value, bytearray) else 1
        assert not any(pickle.loads(b"".join(pieces))[:8])


COPIES = {
    "an array": (np.zeros(2 * MIB), 1),
    "bytes": (bytes(16 * MIB), 0),
    "a bytearray": (bytearray(16 * MIB), 1),
    "a memoryview": (memoryview(bytes(16 * MIB)), 1),
}


@pytest.mark.parametrize(("value", "copies"), COPIES.values(), ids=COPIES)
def test_copies(value: Any, copies: int) -> None:
    size = 16 * MIB
    received = memoryview(bytearray(CODEC.encode(value)))
    for function, most in (
        (lambda: CODEC.encode_pieces(value), copies),
        (lambda: CODEC.decode(received), 1),
    ):
        tracemalloc.start()
        try:
            function()
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken < most * size + MIB

"""NumPy: round trips of every dtype that has bytes alone, and what a hostile peer makes of arrays."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pickling.assembler import blob, call, dict_, integer, list_, message, name, text, tuple_
from sealwire import (
    Allowlist,
    Codec,
    ConfigurationError,
    DecodeError,
    EncodeError,
    InvalidValue,
    LimitExceeded,
    Limits,
    TypeNotAllowed,
)
from sealwire.pickling import Decoder
from sealwire.pickling import opcodes as op
from sealwire.pickling.adapters.arrays import MAX_EMPTY

CODEC = Codec(Allowlist(np.ndarray, np.generic))
DUMPS = (pickle.dumps, pickle._dumps)  # the Python one
RECORD = np.dtype(
    [("a", ">i4"), ("b", "U3", (2,)), ("c", [("x", "?"), ("y", "M8[25us]")]), ("d", "V3"), ("e", "S4")], align=True
)
SPARSE = np.dtype({"names": ["b", "a"], "formats": ["u2", "f8"], "offsets": [9, 1], "itemsize": 20})
_HERE, _THERE = (b"numpy._core", b"numpy.core")[:: 1 if np.__version__[0] != "1" else -1]
NUMBERS = "?bhilqBHILQefdgFDG"

CUBE = np.arange(24.0).reshape(2, 3, 4)
ARRAYS: list[Any] = [
    *[np.array([0, 1, 1], code) for code in NUMBERS],
    *[np.array([0, 1, 1], f"{order}{code}") for order in "<>" for code in ("i2", "u8", "f4", "c16")],
    CUBE, CUBE.T, CUBE.transpose(1, 0, 2), CUBE[:, ::2], CUBE[::-1], np.asfortranarray(CUBE),
    np.array(3.5), np.zeros((0, 3)), np.zeros((2, 0), order="F"), np.zeros(0, "S3"), np.zeros((1,) * 32),
    np.array(["a", "é\U0001f600", ""]), np.array(["a"], ">U3"), np.array([b"a", b""]), np.zeros(3, "V5"),
    np.zeros(3, "V0"), np.array(["2020-01-01", "NaT"], "M8[s]"), np.array([1, 2], ">m8[3h]"),
    np.array(["NaT"], "M8[D]"),
    np.zeros(3, RECORD), np.zeros((2, 2), RECORD)["c"], np.ones(3, SPARSE), np.zeros(2, np.dtype([])),
    np.zeros(2, [("a", "i4", (2, 3)), ("b", RECORD, (2,))]),
]  # fmt: skip
SCALARS: list[Any] = [
    *[np.dtype(code).type(1) for code in NUMBERS],
    np.str_("aé\U0001f600"), np.str_(""), np.bytes_(b"ab"), np.bytes_(b""), np.void(b"abc"), np.zeros(1, RECORD)[0],
    np.datetime64("2020-01-01"), np.datetime64("NaT", "s"), np.timedelta64(3, "h"), np.float64("nan"),
]  # fmt: skip
TYPES: list[Any] = [np.dtype("f8"), np.dtype(">U3"), RECORD, SPARSE, np.dtype(("i4", (2,))), np.dtype("m8[7D]")]


def forms(value: Any) -> list[bytes]:
    """Every pickle of a value: ours, those of both of CPython's picklers, and as NumPy 1 names things."""
    made = [CODEC.encode(value), *(dumps(value, protocol) for dumps in DUMPS for protocol in range(2, 6))]
    # The one's names are shorter than the other's, so that a framed message cannot be changed like this.
    return made + [data.replace(_HERE, _THERE) for data in made if data[1] < 4]


def loads(data: bytes) -> Any:
    return pickle.loads(data.replace(_THERE, _HERE) if data[1] < 4 else data)


def same(one: Any, other: Any) -> None:
    assert np.dtype(one.dtype.str) == np.dtype(other.dtype.str)  # long and long long are one dtype
    assert one.dtype.names == other.dtype.names
    assert one.dtype.fields == other.dtype.fields
    assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes() or (one == other).all()  # not what is between the fields


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype.str}{value.shape}")
def test_arrays(value: np.ndarray) -> None:
    for data in forms(value):
        found = CODEC.decode(data)
        assert type(found) is np.ndarray
        same(found, value)
        assert found.flags.writeable
        assert found.flags.f_contiguous == loads(data).flags.f_contiguous
    assert isinstance(pickle.loads(CODEC.encode([value]))[0], np.ndarray)


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_scalars(value: np.generic) -> None:
    for data in forms(value):
        found = CODEC.decode(data)
        same(found, value)
        assert type(found) is np.dtype(value.dtype.str).type or value.dtype.names
        assert repr(found) == repr(loads(data))


@pytest.mark.parametrize("value", TYPES, ids=str)
def test_dtypes(value: np.dtype[Any]) -> None:
    for data in forms(value):
        found = CODEC.decode(data)
        assert (found, found.str, found.fields, found.itemsize) == (value, value.str, value.fields, value.itemsize)
        assert Codec(Allowlist(np.dtype)).decode(data) == value


def test_read_only_stays_so() -> None:
    value = np.frombuffer(bytes(100), np.uint8)
    assert not CODEC.decode(CODEC.encode(value)).flags.writeable


def test_what_is_between_fields_is_not_sent() -> None:
    """NumPy leaves there whatever was in memory, and would send it."""
    for count in (1, 4):
        value = np.frombuffer(bytearray(b"\xaa" * 40 * count), SPARSE)
        value["a"] = value["b"] = 3
        for each in (value, value.reshape(count, 2), value[::-1], value[0], np.asfortranarray(value.reshape(2, count))):
            data = CODEC.encode(each)
            assert b"\xaa" not in data
            assert CODEC.decode(data).dtype == SPARSE
            assert (CODEC.decode(data) == each).all()


def test_shared_stays_shared() -> None:
    first, second, table = CODEC.decode(CODEC.encode([CUBE, CUBE, {"cube": CUBE}]))
    assert first is second is table["cube"]


def test_scalars_as_keys() -> None:
    value = {np.int64(1): "a", np.str_("b"): np.float32(2), (np.datetime64("2020-01-01"), 3): None}
    assert CODEC.decode(CODEC.encode(value)) == value
    for key in (np.float64("nan"), np.datetime64("NaT", "s")):
        with pytest.raises(EncodeError, match="NaN as a key"):
            CODEC.encode({key: 1})


@dataclass
class Sample:
    name: str
    values: NDArray[np.float64]
    mask: np.ndarray | None = None
    weight: np.float32 | None = None
    matrix: np.ndarray[tuple[int, int], np.dtype[np.integer[Any]]] | None = None
    either: NDArray[np.float32 | np.bool_] | None = None
    whatever: NDArray[Any] | None = None


def sample(**changes: Any) -> Sample:
    return Sample(**{"name": "a", "values": np.zeros(3)} | changes)


SAMPLES = Codec(Allowlist(np.ndarray, np.generic, Sample))


def test_fields() -> None:
    good = sample(
        mask=np.zeros(3, "M8[s]"), weight=np.float32(2), matrix=np.zeros((2, 2), np.int16), either=np.zeros(3, "?"),
        whatever=np.zeros(3, RECORD),
    )  # fmt: skip
    found = SAMPLES.decode(SAMPLES.encode(good))
    for field in ("values", "mask", "matrix", "either", "whatever"):
        same(getattr(found, field), getattr(good, field))


WRONG = {
    "$.values": {"values": np.zeros(3, np.float32)},
    "$.mask": {"mask": [1]},
    "$.weight": {"weight": np.float64(1)},
    "$.matrix": {"matrix": np.zeros(3, int)},
    "$.either": {"either": np.zeros(3)},
}


@pytest.mark.parametrize(("path", "changes"), WRONG.items(), ids=WRONG)
def test_wrong_fields(path: str, changes: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=rf"^\{path}: .*: expected "):
        SAMPLES.encode(sample(**changes))
    with pytest.raises(InvalidValue, match=rf"^\{path}: .*: expected "):
        SAMPLES.decode(pickle.dumps(sample(**changes)))


@dataclass
class Vague:
    values: np.ndarray[Any, int]


def test_an_annotation_that_says_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"Vague\.values: .*cannot be checked"):
        Codec(Allowlist(np.ndarray, Vague))


def test_types_that_cannot_be_allowed() -> None:
    for cls in (np.ma.MaskedArray, np.matrix, np.recarray, np.memmap, np.record, np.object_, np.dtypes.Float64DType):
        with pytest.raises(ConfigurationError, match=r"register an adapter|allow numpy\.dtype"):
            Allowlist(cls)
    with pytest.raises(ConfigurationError, match=r"allow the class numpy\.ndarray|value of type"):
        Allowlist(NDArray[np.float64])


def test_what_is_not_on_the_list() -> None:
    with pytest.raises(EncodeError, match=r"\$: numpy\.ndarray is not on the allowlist"):
        Codec().encode(CUBE)
    with pytest.raises(TypeNotAllowed):
        Codec().decode(pickle.dumps(CUBE))
    codec = Codec(Allowlist(np.float64, np.signedinteger))
    assert codec.decode(codec.encode([np.float64(1.5), np.int8(3)])) == [1.5, 3]
    for value in (np.float32(1), np.uint8(1), CUBE):
        with pytest.raises(EncodeError, match="is not on the allowlist"):
            codec.encode([value])
        with pytest.raises(TypeNotAllowed):
            codec.decode(pickle.dumps([value]))


UNSENDABLE = {
    "objects": (np.array([object()]), r"\$\[0\]: numpy\.ndarray of dtype object: .*Python objects.*cannot be sent"),
    "objects in a structure": (np.zeros(1, [("a", "O")]), r"of dtype .*cannot be sent"),
    "an object in a scalar": (np.zeros(1, [("a", "O")])[0], r"numpy\.void of dtype .*cannot be sent"),
    "an object dtype": (np.dtype("O"), "ObjectDType is not on the allowlist"),
    "a masked array": (np.ma.array([1, 2], mask=[0, 1]), r"MaskedArray is not on the allowlist"),
    "metadata": (np.zeros(1, np.dtype("f8", metadata={"a": 1})), "metadata are not accepted"),
    "titles": (np.zeros(1, [(("title", "a"), "f8")]), "titles are not accepted"),
    "overlap": (np.zeros(1, {"names": ["a", "b"], "formats": ["u4", "u2"], "offsets": [0, 2]}), "overlap"),
    "a record": (np.rec.array([(1,)], dtype=[("a", "i4")]), "is not on the allowlist"),
    "a surrogate": (np.array(["\ud800"]), "surrogate"),
    "no bool": (np.full(9, 2, np.uint8).view(bool), "neither 0 nor 1"),
}


@pytest.mark.parametrize(("value", "reason"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent(value: Any, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason):
        CODEC.encode([value])
    with pytest.raises(DecodeError):
        CODEC.decode(pickle.dumps([value], 5) if reason != "objects" else b"")


# Pickles by hand

NONE, TRUE, FALSE = bytes([op.NONE]), bytes([op.NEWTRUE]), bytes([op.NEWFALSE])
BUILD, PUT = bytes([op.BUILD]), bytes([op.MEMOIZE])


def get(index: int) -> bytes:
    return bytes([op.BINGET, index])


def dtype(
    code: str,
    order: str = "<",
    sub: bytes = NONE,
    names: bytes = NONE,
    fields: bytes = NONE,
    size: int = -1,
    more: tuple[bytes, ...] = (),
    flags: int = 0,
) -> bytes:
    state = tuple_(integer(3 + len(more)), text(order), sub, names, fields, integer(size), integer(-1), integer(flags),
                   *more)  # fmt: skip
    return call("numpy", "dtype", text(code), FALSE, TRUE) + state + BUILD


def record(size: int, *fields: tuple[str, bytes, int]) -> bytes:
    named = dict_(*[(text(key), tuple_(part, integer(offset))) for key, part, offset in fields])
    return dtype(f"V{size}", "|", NONE, tuple_(*[text(key) for key, _, _ in fields]), named, size)


F8, U1, BOOL = dtype("f8"), dtype("u1", "|"), dtype("b1", "|")
FIRST = tuple_(F8, integer(0))


def shape(*lengths: int) -> bytes:
    return tuple_(*map(integer, lengths))


def mutable(data: bytes) -> bytes:
    return bytes([op.BYTEARRAY8]) + len(data).to_bytes(8, "little") + data


def from_buffer(*arguments: bytes) -> bytes:
    return call("numpy._core.numeric", "_frombuffer", *arguments)


def view(data: bytes, kind: bytes, *lengths: int, order: str = "C", axes: bytes | None = None) -> bytes:
    more = () if axes is None else (axes,)
    return from_buffer(mutable(data), kind, shape(*lengths), text(order), *more)


def built(data: bytes, kind: bytes, *lengths: int) -> bytes:
    nothing = call("numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), shape(0), blob(b"b"))
    return nothing + tuple_(integer(1), shape(*lengths), kind, FALSE, blob(data)) + BUILD


def scalar(kind: bytes, data: bytes) -> bytes:
    return call("numpy._core.multiarray", "scalar", kind, blob(data))


def test_by_hand() -> None:
    """The parts of the table of attacks are good by themselves."""
    for made in (view(bytes(16), F8, 2), built(bytes(16), F8, 2)):
        same(CODEC.decode(message(made)), np.zeros(2))
    assert CODEC.decode(message(scalar(F8, bytes(8)))) == 0.0
    made = record(12, ("a", F8, 4), ("b", BOOL, 0))
    assert CODEC.decode(message(view(bytes(24), made, 2))).dtype.names == ("a", "b")


def moment(name_: bytes, *numbers: int, metadata: bytes = NONE, code: str = "M8") -> bytes:
    """A datetime64 of one unit."""
    unit = tuple_(blob(name_), *map(integer, numbers))
    return view(bytes(8), dtype(code, more=(tuple_(metadata, unit),)), 1)


def structure(*fields: tuple[str, bytes, int], size: int = 8) -> bytes:
    """One item of such a record."""
    return view(bytes(size), record(size, *fields), 1)


def odd(names: bytes, *fields: tuple[bytes, bytes], size: int = 8) -> bytes:
    """One item of a record with such names and fields."""
    return view(bytes(size), dtype(f"V{size}", "|", NONE, names, dict_(*fields), size), 1)


def subarray(size: int, kind: bytes, *lengths: int) -> bytes:
    return dtype(f"V{size}", "|", tuple_(kind, shape(*lengths)), size=size)


ATTACKS = {
    "a huge shape without data": view(b"", F8, 2**40),
    "a huge shape without data, built": built(b"", F8, 2**40),
    "a shape that overflows": view(b"", F8, 2**32, 2**32),
    "a shape that overflows to the right size": view(bytes(8), F8, 2**63 + 1, 2**61),
    "a shape that overflows with zero": view(b"", F8, 2**62, 2**62, 0),
    "rows without end and without columns": view(b"", F8, 2**60, 0),
    "items without bytes": view(b"", dtype("V0", "|", size=0), 2**60),
    "characters without bytes": view(b"", dtype("U0", size=0), 2**20),
    "more data than the shape": view(bytes(16), F8, 1),
    "less data than the shape": built(bytes(15), F8, 2),
    "a negative length": view(bytes(8), F8, -1),
    "two negative lengths": view(bytes(8), F8, -1, -1),
    "too many dimensions": view(bytes(8), F8, *[1] * 33),
    "an inferred length": view(bytes(16), F8, -1, 2),
    "a length that is a bool": from_buffer(mutable(bytes(8)), F8, tuple_(TRUE), text("C")),
    "an order that is none": view(bytes(8), F8, 1, order="A"),
    "K without axes": view(bytes(8), F8, 1, order="K"),
    "axes twice": view(bytes(8), F8, 1, 1, order="K", axes=shape(0, 0)),
    "axes beyond": view(bytes(8), F8, 1, 1, order="K", axes=shape(0, 9)),
    "a buffer that is text": from_buffer(text("x" * 8), F8, shape(1), text("C")),
    "a buffer that is an array": from_buffer(view(bytes(8), F8, 1), F8, shape(1), text("C")),
    "a buffer by a name": from_buffer(name("numpy", "dtype"), F8, shape(1), text("C")),
    "a dtype that is text": view(bytes(8), text("f8"), 1),
    "a dtype that is an object": view(bytes(8), dtype("O8", "|"), 1),
    "objects in a state": built(bytes(8), dtype("O8", "|"), 1),
    "an object scalar": scalar(dtype("O8", "|"), bytes(8)),
    "an object in a structure": structure(("a", dtype("O8", "|"), 0)),
    "an object in a subarray": structure(("a", subarray(8, dtype("O8", "|"), 1), 0)),
    "an itemsize bomb": view(b"", dtype("U2147483648", size=2**33), 0),
    "an itemsize bomb without data": view(b"", dtype("S2147483647", "|", size=2**31 - 1), 0),
    "an itemsize of its own": view(bytes(8), dtype("S8", "|", size=1), 8),
    "an itemsize for a number": view(bytes(8), dtype("f8", size=1), 8),
    "a negative itemsize": view(bytes(8), dtype("V8", "|", size=-8), 1),
    "a size that is none": view(bytes(3), dtype("f3"), 1),
    "a kind that is none": view(bytes(8), dtype("t8"), 1),
    "a string of a dtype": view(bytes(8), dtype("f8,O"), 1),
    "a structure in a string": view(bytes(8), dtype("i4,i4"), 1),
    "a dtype without state": view(bytes(8), call("numpy", "dtype", text("f8"), FALSE, TRUE), 1),
    "a dtype of a class": view(bytes(8), call("numpy", "dtype", name("numpy", "ndarray"), FALSE, TRUE), 1),
    "an order of bytes that is none": view(bytes(8), dtype("f8", "!"), 1),
    "a field beyond its item": structure(("a", F8, 1)),
    "a field before its item": structure(("a", F8, -8)),
    "a field far beyond": structure(("a", F8, 2**63)),
    "fields that overlap": structure(("a", F8, 0), ("b", U1, 3)),
    "a field that is text": structure(("a", text("O"), 0)),
    "a name twice": odd(tuple_(text("a"), text("a")), (text("a"), FIRST), size=16),
    "a field that is not named": odd(tuple_(), (text("a"), FIRST)),
    "a name that is a number": odd(tuple_(integer(1)), (integer(1), FIRST)),
    "a title": odd(tuple_(text("a")), (text("a"), tuple_(F8, integer(0), text("t")))),
    "an offset that is a bool": odd(tuple_(text("a")), (text("a"), tuple_(U1, TRUE))),
    "a subarray at the top": view(bytes(8), subarray(8, U1, 8), 1),
    "a subarray that overflows": structure(("a", subarray(8, U1, 2**32, 2**32), 0)),
    "a subarray without bytes": structure(("a", subarray(0, U1, 2**60, 0), 0)),
    "a subarray of another size": structure(("a", subarray(8, U1, 9), 0)),
    "a unit that is none": moment(b"x]", 1, 1, 1),
    "a unit of no length": moment(b"s", 0, 1, 1),
    "a unit that divides by zero": moment(b"s", 1, 0, 1),
    "a unit of a number": moment(b"s", 1, 1, 1, code="f8"),
    "metadata of a date": moment(b"s", 1, 1, 1, metadata=dict_((text("a"), NONE))),
    "metadata": view(bytes(8), dtype("f8", more=(dict_((text("a"), NONE)),)), 1),
    "a bool that counts as 255": view(b"\xff" * 300, BOOL, 300),
    "a bool in a structure": view(b"\0\2", record(2, ("a", BOOL, 1)), 1),
    "a bool in a subarray": view(b"\0\2", record(2, ("a", subarray(2, BOOL, 2), 0)), 1),
    "a bool far in": view(bytes(3 << 20) + b"\2", BOOL, (3 << 20) + 1),
    "a scalar bool": scalar(BOOL, b"\2"),
    "no character": view(b"\xff\xff\xff\xff", dtype("U1", size=4), 1),
    "no character, in a structure": view(b"\0" + b"\xff" * 8, record(9, ("a", dtype("U2", ">", size=8), 1)), 1),
    "a lone surrogate": scalar(dtype("U1", size=4), b"\x00\xd8\0\0"),
    "a scalar of many items": scalar(F8, bytes(16)),
    "a scalar without data": scalar(F8, b""),
    "state twice": built(bytes(8), F8, 1) + NONE + BUILD,
    "_reconstruct of another class": call("numpy._core.multiarray", "_reconstruct", name("numpy", "dtype"), shape(0),
                                          blob(b"b")),
    "_reconstruct with a shape": call("numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), shape(2**40),
                                      blob(b"d")),
    "_reconstruct without state": call("numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), shape(0),
                                       blob(b"b")),
    "the class itself": name("numpy", "ndarray"),
    "the class, called": call("numpy", "ndarray", shape(2**28)),
    "an array as a key": dict_((view(bytes(8), F8, 1), NONE)),
    "a built array as a key": dict_((built(bytes(8), F8, 1), NONE)),
    "a structure as a key": dict_((scalar(record(8, ("a", F8, 0)), bytes(8)), NONE)),
    "load": call("numpy", "load", text("/etc/passwd")),
    "frombuffer": call("numpy", "frombuffer", blob(b"x")),
    "fromfile": call("numpy", "fromfile", text("/etc/passwd")),
    "runstring": call("numpy.testing._private.utils", "runstring", text("1"), dict_()),
    "_array_from_buffer of NumPy's own": call("numpy.core.multiarray", "fromstring", blob(b"x")),
}  # fmt: skip


@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS)
def test_attacks(data: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(message(data, protocol=5))


def test_flags_are_not_taken_over() -> None:
    """Those of objects make NumPy count references in the bytes."""
    found = CODEC.decode(message(view(bytes(8), dtype("V8", "|", size=8, flags=0x3F), 1), protocol=5))
    assert not found.dtype.hasobject
    assert found.dtype.flags == np.dtype("V8").flags


def test_wrong_types_everywhere() -> None:
    """Each argument and each part of a state in turn is something else."""
    others = [NONE, TRUE, integer(5), integer(-(2**70)), text("x"), blob(b"x"), list_(NONE), tuple_(NONE), dict_(),
              view(bytes(16), F8, 2), F8, call("decimal", "Decimal", text("1"))]  # fmt: skip
    good = {
        ("numpy._core.numeric", "_frombuffer"): ([mutable(bytes(8)), F8, shape(1), text("C")], []),
        ("numpy._core.multiarray", "scalar"): ([F8, blob(bytes(8))], []),
        ("numpy", "dtype"): (
            [text("f8"), FALSE, TRUE],
            [integer(3), text("<"), NONE, NONE, NONE, integer(-1), integer(-1), integer(0)],
        ),
        ("numpy._core.multiarray", "_reconstruct"): (
            [name("numpy", "ndarray"), shape(0), blob(b"b")],
            [integer(1), shape(1), F8, FALSE, blob(bytes(8))],
        ),
    }
    refused = 0
    for (module, function), (arguments, state) in good.items():
        parts = [*arguments, *state]
        for index in range(len(parts)):
            for other in others:
                changed = [*parts[:index], other, *parts[index + 1 :]]
                data = call(module, function, *changed[: len(arguments)])
                if state:
                    data += tuple_(*changed[len(arguments) :]) + BUILD
                try:
                    found = CODEC.decode(message(data, protocol=5))
                except DecodeError:
                    refused += 1
                else:
                    assert isinstance(found, np.ndarray | np.generic | np.dtype)
                    CODEC.encode(found)
    assert refused > 200


def test_a_bytearray_that_an_array_uses_is_not_moved() -> None:
    """Otherwise the array would look at memory that is somebody else's by now."""
    array = from_buffer(get(0), F8, shape(10), text("C"))
    data = message(list_(mutable(bytes(80)) + PUT, array), protocol=5)
    buffer, array = CODEC.decode(data)
    with pytest.raises(BufferError):
        buffer.extend(bytes(1 << 20))
    assert array.sum() == 0


SHARED = {
    "built": call("numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), shape(0), blob(b"b"))
    + tuple_(integer(1), shape(10_000), get(1), FALSE, get(0)) + BUILD,
    "scalars": call("numpy._core.multiarray", "scalar", dtype("S10000", "|", size=10_000), get(0)),
    "views, which are looked at": from_buffer(get(0), get(1), shape(10_000), text("C")),
}  # fmt: skip


@pytest.mark.parametrize("one", SHARED.values(), ids=SHARED)
def test_bytes_that_many_share_are_charged_each_time(one: bytes) -> None:
    decoder = Decoder(Allowlist(np.ndarray, np.generic), Limits(max_memory=1 << 20))
    beginning = blob(bytes(10_000)) + PUT, BOOL + PUT
    assert len(decoder.decode(message(list_(*beginning, one, one)))) == 4
    with pytest.raises(LimitExceeded, match="max_memory"):
        decoder.decode(message(list_(*beginning, *[one] * 200)))


MANY = {
    "views": view(bytes(8), F8, 1),
    "built": built(bytes(8), F8, 1),
    "scalars": scalar(F8, bytes(8)),
    "structures": scalar(record(2, ("a", U1, 0), ("b", U1, 1)), b"ab"),
    "dtypes": F8,
    "without bytes": view(b"", F8, 0, MAX_EMPTY // 8),
    "a large itemsize": view(b"", dtype(f"S{MAX_EMPTY}", "|", size=MAX_EMPTY), 0),
}


@pytest.mark.parametrize("one", MANY.values(), ids=MANY)
def test_the_memory_that_is_charged_is_more_than_is_taken(one: bytes) -> None:
    budget = 1 << 20
    decoder = Decoder(Allowlist(np.ndarray, np.generic), Limits(max_memory=budget))
    count = 1 << 12
    while True:
        data = message(list_(*[one] * count), protocol=5)
        try:
            decoder.check(data)
            break
        except LimitExceeded:
            count = count * 9 // 10
    decoder.decode(message(list_(one), protocol=5))
    tracemalloc.start()
    try:
        decoder.decode(data)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < budget


def test_many_fields() -> None:
    fields = [(f"f{n}", "u1") for n in range(4096)]
    value = np.zeros(2, fields)
    same(CODEC.decode(CODEC.encode(value)), value)
    with pytest.raises(EncodeError, match="4096"):
        CODEC.encode(np.zeros(2, [*fields, ("last", "u1")]))


def test_limits() -> None:
    codec = Codec(Allowlist(np.ndarray), limits=Limits(max_string=1000))
    with pytest.raises(EncodeError, match="max_string"):
        codec.encode(np.zeros(200))
    for protocol in range(2, 6):
        with pytest.raises(LimitExceeded, match="max_string"):
            codec.decode(pickle.dumps(np.zeros(200), protocol))


def test_numpy_is_not_imported() -> None:
    code = "import sys, sealwire; sealwire.Codec(sealwire.Allowlist(ValueError)); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("kind", ["m8", "M8[Y]"])
def test_numpy_scalars_that_have_no_hash(kind: str) -> None:
    """By NumPy's version some raise, and not a TypeError."""
    codec = Codec(Allowlist(np.generic))
    scalar = np.array([2**63 - 1]).view(kind)[0]
    dumped = pickle.dumps(scalar, 4)
    head, body = dumped[:2], dumped[11:-1]
    data = head + b"}" + body + b"Ns."
    assert codec.decode(head + b"]" + body + b"a.") == [scalar]
    try:
        hash(scalar)
    except (ValueError, OverflowError):
        with pytest.raises(InvalidValue, match="cannot be hashed"):
            codec.decode(data)
    else:
        assert list(codec.decode(data)) == [scalar]


def test_datetimes_that_cannot_be_printed() -> None:
    codec = Codec(Allowlist(np.ndarray, np.generic))
    numbers = np.array([5, -(2**63)], "i8")  # the second is NaT
    for unit in ("[7D]", "[3Y]", "[2147483647as]", "[D]"):
        for order in "<>":
            good = numbers.astype(f"{order}i8").view(f"{order}M8{unit}")
            assert repr(codec.decode(pickle.dumps(good))) == repr(good)
            if unit == "[D]":
                continue
            for bad in (2**63 - 1, 1 - 2**63):
                value = np.array([5, bad], f"{order}i8").view(f"{order}M8{unit}")
                for each in (value, value[1], np.array([(value[1],)], [("at", value.dtype)])):
                    with pytest.raises(InvalidValue, match="out of the range of its unit"):
                        codec.decode(pickle.dumps(each))
    assert repr(codec.decode(pickle.dumps(numbers[1:].view("M8")))) == "array(['NaT'], dtype=datetime64)"
    with pytest.raises(InvalidValue, match="out of the range of its unit"):
        codec.decode(pickle.dumps(numbers.view("M8")))


def test_subarrays_of_subarrays_are_checked() -> None:
    codec = Codec(Allowlist(np.ndarray))
    for kind, bad in (("U1", b"\xff\xff\xff\x7f"), ("?", b"\x02"), ("M8[7D]", b"\xff" * 7 + b"\x7f")):
        dtype = np.dtype([("x", (np.dtype((kind, (2,))), (3,)))])
        assert repr(codec.decode(pickle.dumps(np.zeros(2, dtype)))) == repr(np.zeros(2, dtype))
        value = np.frombuffer(bytearray(bytes(2 * dtype.itemsize - len(bad)) + bad), dtype)
        with pytest.raises(InvalidValue, match=r"numpy\.ndarray: a "):
            codec.decode(pickle.dumps(value))


@pytest.mark.parametrize("value", [np.float64(1.5), np.arange(3)], ids=["scalar", "array"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_advice_of_a_message_can_be_followed(value: Any, protocol: int) -> None:
    """The message names a function of NumPy's, which no allowlist can have."""
    data = pickle.dumps(value, protocol)
    with pytest.raises(TypeNotAllowed) as caught:
        Codec(Allowlist()).decode(data)
    advised = re.findall(r'types = \["numpy:(\w+)"\]', str(caught.value))
    assert np.array_equal(Codec(Allowlist(*(getattr(np, each) for each in advised))).decode(data), value)

"""Plain data is written as CPython's pickler writes it, without asking it."""

from __future__ import annotations

import gc
import pickle
import random
import threading
from typing import Any

import pytest

from sealwire.codec import Codec
from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

SOURCE = random.Random(11)
WORDS = [f"word{n}" for n in range(70_000)]
EDGES = [edge + step for bits in range(64) for edge in (1 << bits, -(1 << bits)) for step in (-1, 0, 1)]


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


PLAIN = {
    "a request": {
        "op": "get",
        "id": 12345,
        "tags": ["a", "b"],
        "flag": True,
        "x": 1.5,
        "none": None,
        "é": "\ud7ff\ue000",
    },
    "integers": [number for number in EDGES if -(1 << 63) <= number < 1 << 63],
    "floats": [0.0, -0.0, 1.5, float("inf"), float("nan"), 5e-324, *(SOURCE.gauss(0, 1e9) for _ in range(99))],
    "strs": ["x" * size for size in (0, 1, 255, 256, 257, 4000, 65_535)],
    "other strs": ["é" * size for size in (1, 127, 128, 200, 32_767)],
    "bytes": [bytes(size) for size in (0, 1, 255, 256, 257, 4000, 65_535)],
    "tuples": [(), *(tuple(range(size)) for size in range(1, 7)), ((1, ("a",)), "a")],
    "empty": [[], {}, (), "", b""],
    "lists": [list(range(size)) for size in (1, 2, 999, 1000, 1001, 1999, 2000, 2001)],
    "dicts": [dict.fromkeys(WORDS[:size], 1) for size in (1, 2, 999, 1000, 1001, 2000, 2001)],
    "many dicts": [{"id": n, "name": f"item{n}", "price": n * 1.5} for n in range(5000)],
    "one str again and again": ["again"] * 3000,
    "strs met again": [*WORDS[:300], *WORDS[:300], *WORDS, *WORDS[-300:], *WORDS[250:260]],
    "bytes met again": [each for each in (b"x" * 9, b"y" * 999) for _ in range(2)],
    "frames": ["x" * 60_000, 1, "y" * 60_000, ["z" * 5000] * 9, *(str(n) * 100 for n in range(2000))],
    "deep lists": nested(50, lambda value: [value]),
    "deep tuples": nested(50, lambda value: (1, 2, value, value if type(value) is int else 0)),
    "deep dicts": nested(50, lambda value: {"a": 1, "b": value}),
}


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A codec whose survey cannot pickle: what it is sure of is written natively."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(pickle, "dumps", fail)
        return Codec()


def written(codec: Codec, value: object) -> Any:
    return codec._encoder.encode_surely(value)


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_the_bytes_are_those_of_the_pickler(codec: Codec, value: object) -> None:
    assert written(codec, value) == pickle.dumps(value, 5)


def test_values_after_one_another_have_nothing_in_common(codec: Codec) -> None:
    """After large and small ones, doubts and errors."""
    values = [*PLAIN.values(), [["x"], "\ud800"], [*WORDS, object()], ["x" * 65_536]] * 3
    SOURCE.shuffle(values)
    for value in values:
        if any(value is each for each in PLAIN.values()):
            assert written(codec, value) == pickle.dumps(value, 5)
        else:
            assert written(codec, value) is None


def test_threads_share_a_codec(codec: Codec) -> None:
    wrong: list[object] = []

    def write(value: object) -> None:
        data = pickle.dumps(value, 5)
        wrong.extend(value for _ in range(20) if written(codec, value) != data)

    threads = [threading.Thread(target=write, args=(PLAIN[name],)) for name in ("a request", "dicts", "many dicts")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_finalizer_changes_a_value_meanwhile(codec: Codec) -> None:
    """Of what is garbage, when there is no room for the next bytes."""
    value = [[f"{n}" * 50] for n in range(500)]
    data = pickle.dumps(value, 5)

    class Changes:
        def __del__(self) -> None:
            value.clear()

    write, thresholds = codec._encoder.encode_surely, gc.get_threshold()
    assert write(["first"]) is not None  # with room for a small value
    gc.disable()
    try:
        garbage: Any = Changes()
        garbage.itself = garbage
        del garbage
        gc.set_threshold(1)
        gc.enable()
        assert write(value) == data
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
        gc.collect()


inner: list[Any] = [1]


@pytest.mark.parametrize(
    "value",
    [
        [inner, inner], {"a": inner, "b": [inner]}, [(1, inner), (2, inner)], [{}, {"a": {1}}], [bytearray(1)], [],
        [1 << 63], {1: 2}, {"a": 1, b"a": 2}, ["x" * 65_536], [bytes(65_536)], nested(51, lambda each: [each]), {},
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_all_else_is_left_to_the_pickler(codec: Codec, value: object) -> None:
    assert written(codec, value) is None
    assert written(Codec(), value) == pickle.dumps(value, 5)

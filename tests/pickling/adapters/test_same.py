"""Values that are equal, and those that are the same."""

from __future__ import annotations

import copy
import datetime
import math
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pickling import shop
from sealwire.pickling.adapters.same import same
from support.titles import title

LOCK = threading.Lock()
UTC = datetime.UTC
HERE = datetime.timezone(datetime.timedelta(hours=1))


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    "value",
    [
        *shop.VALUES, [1, [2.0]], (1, "a"), {1: [2], "a": {}}, {1, 2.5}, frozenset((1, (2,))), 0.0, math.nan,
        complex(1, math.nan), b"x", bytearray(b"x"), OrderedDict(a=[1]), defaultdict(list, a=[1]), deque([1], 2),
        Counter("aab"), Decimal("1.50"), datetime.datetime(2027, 1, 1, tzinfo=UTC), np.array([[1.0], [2.0]]),
        shop.Temperature(3.5), ValueError("x", [1]), int,
    ],
    ids=title,
)  # fmt: skip
def test_a_copy_is_the_same(value: Any) -> None:
    assert same(value, copy.deepcopy(value))


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (1, True), (1, 1.0), ([1], [True]), ((1,), (1.0,)), ({1: "a"}, {True: "a"}), ({"a": 1}, {"a": True}),
        ({"a": 1}, {"b": 1}), ({"a": 1}, {}), ({1}, {1.0}), ([1], [1, 2]), ([1], (1,)), (deque([1], 2), deque([1], 3)),
        (1.5, 2.5), ("a", "b"), (0.5, math.nan), (Decimal("1.5"), Decimal("1.50")),
        (shop.Frozen("a", 1), shop.Frozen("a", True)), (shop.Color.RED, shop.Color.GREEN),
        (datetime.datetime(2027, 1, 1, 1, tzinfo=UTC), datetime.datetime(2027, 1, 1, 2, tzinfo=HERE)),
        (OrderedDict(a=1), OrderedDict(a=True)), (defaultdict(list), defaultdict(dict)), (int, float),
        (LOCK, threading.Lock()), (Named("LOCK"), Named("UTC")),
    ],
    ids=title,
)  # fmt: skip
def test_equal_is_not_the_same(value: Any, other: Any) -> None:
    assert not same(value, other)
    assert not same(other, value)


def test_an_int_for_a_float() -> None:
    for value, other in ((1, 1.0), ([1, {"a": (2,)}], [1.0, {"a": (2.0,)}]), (shop.Point(1, 2), shop.Point(1, 2.0))):
        assert same(value, other, promoted=True)
        assert not same(value, other)
    assert not same(True, 1.0, promoted=True)
    assert not same(2**60 + 1, float(2**60), promoted=True)
    assert not same(1.0, 1, promoted=True)

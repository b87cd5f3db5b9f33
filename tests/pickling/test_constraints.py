"""The constraints of msgspec.Meta: a struct's constructor checks none, and so does any class."""

from __future__ import annotations

import datetime
import pickle
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from sealwire import Allowlist, Codec, InvalidValue
from sealwire.pickling.constraints import constraint

Meta = msgspec.Meta


class Struct(msgspec.Struct):
    count: Annotated[int, Meta(gt=0, lt=100)] = 1
    rate: Annotated[float, Meta(ge=0, le=1)] = 0.5
    price: Annotated[Decimal, Meta(multiple_of=1)] = Decimal(1)
    code: Annotated[str, Meta(pattern="^[a-z]+$", min_length=2, max_length=4)] = "ab"
    tags: list[Annotated[str, Meta(min_length=1)]] = []
    pair: Annotated[tuple[int, ...], Meta(max_length=2)] | None = None
    local: Annotated[datetime.datetime, Meta(tz=False)] = datetime.datetime(2027, 1, 1)
    aware: Annotated[datetime.time, "a remark", Meta(tz=True)] = datetime.time(1, tzinfo=datetime.UTC)
    free: Annotated[datetime.datetime | None, Meta(description="any")] = None


@dataclass
class Data:
    count: Annotated[int, Meta(gt=0)]


CODEC = Codec(Allowlist(Struct, Data))


@pytest.mark.parametrize(
    "value", [Struct(), Struct(99, 1, Decimal(3), "abcd", ["x"], (1, 2)), Struct(rate=0.0), Data(1)], ids=repr
)
def test_accepted(value: Any) -> None:
    assert CODEC.decode(pickle.dumps(value, 5)) == CODEC.decode(CODEC.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Struct(0), "count"), (Struct(100), "count"), (Struct("x"), "count"), (Struct(rate=-0.1), "rate"),
        (Struct(rate=1.5), "rate"), (Struct(rate=float("nan")), "rate"), (Struct(price=Decimal("1.5")), "price"),
        (Struct(code="a"), "code"), (Struct(code="abcde"), "code"), (Struct(code="AB"), "code"),
        (Struct(tags=["a", ""]), r"tags\[1\]"), (Struct(pair=(1, 2, 3)), "pair"),
        (Struct(local=datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)), "local"),
        (Struct(aware=datetime.time(1)), "aware"), (Data(0), "count"),
    ],
    ids=repr,
)  # fmt: skip
def test_refused(value: Any, path: str) -> None:
    with pytest.raises(InvalidValue, match=rf"^\$\.{path}: .*expected .*, got "):
        CODEC.decode(pickle.dumps(value, 5))


def test_without_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert constraint(["a remark"]) is None
    monkeypatch.delitem(__import__("sys").modules, "msgspec")
    assert constraint([Meta(gt=0)]) is None


class Numbers(msgspec.Struct):
    price: Annotated[Decimal, Meta(gt=0, multiple_of=0.5)] = Decimal(1)
    size: Annotated[int | float, Meta(multiple_of=0.5)] = 1
    count: Annotated[int, Meta(ge=2)] = 2


NUMBERS = Codec(Allowlist(Numbers))


def test_numbers_that_cannot_be_compared_or_divided_are_refused() -> None:
    for price in ("NaN", "Infinity", "0.25"):
        with pytest.raises(InvalidValue, match=r"^\$\.price: .*got decimal.Decimal"):
            NUMBERS.decode(pickle.dumps(Numbers(price=Decimal(price))))
    with pytest.raises(InvalidValue, match=r"^\$\.count: .*got bool"):
        NUMBERS.decode(pickle.dumps(Numbers(count=True)))
    for good in (Numbers(Decimal("1E+6144")), Numbers(Decimal("2.5")), Numbers(size=10**4000), Numbers(size=2.5)):
        assert NUMBERS.decode(pickle.dumps(good)) == good

"""The powers that each kind of type gives to a peer, as `sealwire allowlist check` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from sealwire.pickling.allowlist import Allowlist


@dataclass(frozen=True)
class Frozen:
    number: int


@dataclass
class Checked:
    number: int

    def __post_init__(self) -> None:
        assert self.number >= 0


class Failure(Exception):
    pass


class Refusal(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)


class Point(msgspec.Struct):
    number: int


class CheckedPoint(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        assert self.number >= 0


class Model(pydantic.BaseModel):
    number: int


class ModelWithMore(pydantic.BaseModel):
    number: int

    def model_post_init(self, context: Any, /) -> None:
        assert self.number >= 0


class Plain:
    pass


@pytest.mark.parametrize(
    ("cls", "notes"),
    [
        (Frozen, []),
        (Checked, ["runs __post_init__ on values that a peer chose"]),
        (Failure, ["puts any accepted values into its arguments"]),
        (Refusal, ["runs __init__ on values that a peer chose"]),
        (Point, []),
        (CheckedPoint, ["runs __post_init__ on values that a peer chose"]),
        (Model, []),
        (ModelWithMore, ["runs model_post_init on values that a peer chose"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_notes(cls: type, notes: list[str]) -> None:
    assert list(Allowlist(cls).adapters[0].notes()) == notes


def test_notes_of_a_registered_class() -> None:
    allowlist = Allowlist()
    allowlist.register(Plain, dump=lambda _: (), load=Plain)
    assert list(allowlist.adapters[0].notes()) == ["runs load on values that a peer chose"]

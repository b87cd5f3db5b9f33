"""pydantic models: defaults, and validation that is always deep."""

from __future__ import annotations

import decimal
import pickle
import uuid
from typing import Any

import pydantic
import pytest

from sealwire import Allowlist, Codec, ConfigurationError, InvalidValue


class Priced(pydantic.BaseModel):
    price: float = 0


OWN = Codec(Allowlist(Priced))


def test_a_default_that_is_an_int_of_a_float_field() -> None:
    """Pydantic does not validate defaults, and takes an int for a float where it validates."""
    for value in (Priced(), Priced(price=2.5), Priced(price=3)):
        for data in (OWN.encode(value), *(pickle.dumps(value, protocol) for protocol in range(2, 6))):
            found = OWN.decode(data)
            assert (found, type(found.price)) == (value, type(value.price))


def test_a_model_is_always_validated_deeply() -> None:
    with pytest.raises(ConfigurationError, match="always validates a model deeply"):
        Allowlist().allow(Lax, validate="shallow")


class Lax(pydantic.BaseModel):
    """Defaults that are not of their annotated types, which pydantic does not mind."""

    rate: float = 1
    name: str = None  # type: ignore[assignment]  # as people write it
    items: list[int] = pydantic.Field(default=[])
    token: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)


def test_defaults_that_a_model_does_not_validate() -> None:
    codec = Codec(Allowlist(Lax))
    shared: list[int] = []
    value = Lax()
    value.__dict__["items"] = shared
    for protocol in range(2, 6):
        got, other = codec.decode(pickle.dumps([value, shared], protocol))
        assert (got, type(got.rate), got.name, got.model_fields_set) == (value, int, None, set())
        assert got.items is other
        assert got.items is not Lax.model_fields["items"].default
    state = pickle.dumps(value, 3)
    assert codec.decode(state) == value
    with pytest.raises(InvalidValue, match=r"\.rate: "):
        codec.decode(state.replace(b"K\1", b"\x88"))


class Measured(pydantic.BaseModel):
    weight: float = 0
    series: list[float] = pydantic.Field(default_factory=list)
    counts: list[int] = [1]
    extra: dict[str, tuple[float, ...]] = {}


def test_an_int_in_a_float_field_stays_an_int() -> None:
    """Type checkers take it, model_construct leaves it there, and validation would make a float of it."""
    codec = Codec(Allowlist(Measured))
    value = Measured.model_construct(weight=3, series=[1, 2.5], extra={"a": (1, 2.0)})
    for data in (codec.encode(value), pickle.dumps(value, 5)):
        found = codec.decode(data)
        assert repr(found) == repr(value)
        assert found.model_fields_set == value.model_fields_set


@pytest.mark.parametrize("counts", [[True], [decimal.Decimal(1)], [1.0]], ids=repr)
def test_a_default_is_matched_by_type(counts: list[Any]) -> None:
    """A list that equals the default is no default: pydantic sees it."""
    value = Measured()
    value.__dict__["counts"] = counts
    with pytest.raises(InvalidValue, match=r"^\$\.counts: "):
        Codec(Allowlist(Measured)).decode(pickle.dumps(value, 5))

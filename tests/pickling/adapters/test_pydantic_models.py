"""pydantic models: defaults, and validation that is always deep."""

from __future__ import annotations

import decimal
import enum
import pickle
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import pydantic
import pytest

from sealwire import Allowlist, Codec, ConfigurationError, EncodeError, InvalidValue


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
    name: str = None  # as people write it
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


class Bounded(pydantic.BaseModel):
    name: Annotated[str, pydantic.Field(max_length=3)] = ""
    counts: dict[str, list[int]] = {}
    either: int | str = 1

    @pydantic.model_validator(mode="after")
    def _not_bad(self) -> Bounded:
        if self.name == "bad":
            raise ValueError("the secret")
        return self


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 5}, ".name: expected Annotated[str, MaxLen(max_length=3)], got int (string_type)"),
        ({"name": "secret"}, ".name: expected Annotated[str, MaxLen(max_length=3)], got str (string_too_long)"),
        ({"counts": {"secret": ["x"]}}, ".counts: expected dict[str, list[int]], got str inside it (int_type)"),
        ({"either": [1]}, ".either: expected int | str, got list (int_type)"),
        ({"name": "bad"}, ": pydantic does not accept these values (value_error)"),
    ],
)
def test_what_pydantic_does_not_accept(fields: dict[str, Any], message: str) -> None:
    """The field, what was wanted, and the type of what came, but not the value."""
    codec = Codec(Allowlist(Bounded))
    with pytest.raises(EncodeError) as caught:
        codec.encode(Bounded.model_construct(**fields))
    path = message.partition(":")[0]
    assert str(caught.value) == f"${path}: {__name__}.Bounded{message}"


class Arbitrary:
    """A class that pydantic knows nothing of."""


class Color(enum.Enum):
    RED = 1


class Part(pydantic.BaseModel):
    number: int = 0


class Recursive(pydantic.BaseModel):
    value: Arbitrary | list[Recursive] | None = None
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Arbitrary, f"{__name__}.Arbitrary is not on the allowlist; allow it as well"),
        (Arbitrary | None, f"{__name__}.Arbitrary is not on the allowlist; allow it as well"),
        (dict[str, list[Arbitrary]], f"{__name__}.Arbitrary is not on the allowlist; allow it as well"),
        (Part, f"{__name__}.Part is not on the allowlist; allow it as well"),
        (Color, f"{__name__}.Color is not on the allowlist; allow it as well"),
        (Callable[[], int], "Callable[[], int] is not a value that can be sent; annotate it with types of values, or"),
        (type[int], "type[int] is not a value that can be sent"),
        (Iterable[int], "Iterable[int] is not a value that can be sent"),
    ],
)
def test_a_field_that_no_message_can_have(monkeypatch: pytest.MonkeyPatch, annotation: Any, message: str) -> None:
    """It is refused when the codec is made, not at the first message."""
    model = pydantic.create_model(
        "Holder", __config__={"arbitrary_types_allowed": True}, __module__=__name__, field=(annotation, None)
    )
    monkeypatch.setattr(sys.modules[__name__], "Holder", model, raising=False)
    with pytest.raises(ConfigurationError) as caught:
        Codec(Allowlist(model))
    assert str(caught.value).startswith(f"{__name__}.Holder.field: ")
    assert message in str(caught.value)


def test_a_field_in_a_recursive_model() -> None:
    with pytest.raises(ConfigurationError, match=r"Recursive.value: .*Arbitrary is not on the allowlist"):
        Codec(Allowlist(Recursive))


def test_a_field_of_a_class_with_an_adapter() -> None:
    """It works as the error advises."""
    allowlist = Allowlist(Recursive).register(Arbitrary, dump=lambda _: (), load=Arbitrary)
    codec = Codec(allowlist)
    assert type(codec.decode(codec.encode(Recursive(value=Arbitrary()))).value) is Arbitrary

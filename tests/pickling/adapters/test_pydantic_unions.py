"""Unions of pydantic that contain themselves."""

from __future__ import annotations

import pickle
from collections import Counter
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic_core import core_schema
from typing_extensions import TypeAliasType, TypedDict

from sealwire import Allowlist, Codec, LimitExceeded
from sealwire.pickling.adapters.pydantic_unions import tries_of_fields


class Sum(TypedDict):
    left: Term
    right: Term
    kind: Literal["sum"]


class Product(TypedDict):
    left: Term
    right: Term
    kind: Literal["product"]


class Told(TypedDict):
    inner: Apart
    kind: Literal["told"]


class Kept(TypedDict):
    inner: Apart
    kind: Literal["kept"]


Term = TypeAliasType("Term", int | Sum | Product)
Apart = TypeAliasType("Apart", "Annotated[Told | Kept, pydantic.Field(discriminator='kind')] | None")
Lists = TypeAliasType("Lists", "Texts | list[Lists]")
Texts = TypeAliasType("Texts", "list[str] | list[Lists | None] | None")
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | float | None")
Pair = TypeAliasType("Pair", list[int] | list[str])


class Node(pydantic.BaseModel):
    inner: Node | Other | None = None


class Other(pydantic.BaseModel):
    inner: Node | Other | None = None


class Model(pydantic.BaseModel):
    term: Term = 1
    maybe: Term | None = None
    apart: Apart = None
    json_value: Json = None
    own_json: pydantic.JsonValue = None
    lists: Lists = None
    pair: Pair = pydantic.Field(default_factory=list)
    pairs: list[Pair] = pydantic.Field(default_factory=list)
    node: Node | Other | None = None


CODEC = Codec(Allowlist(Model, Node, Other))


def repeated(depth: int, value: Any, wrap: Any) -> Any:
    for _ in range(depth):
        value = wrap(value)
    return value


class Unusual(pydantic.BaseModel):
    value: int = 1

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.chain_schema([handler(source)])


def test_fields_with_a_search() -> None:
    assert tries_of_fields(Unusual) == {"value": 1}
    assert tries_of_fields(Model) == dict.fromkeys(Model.model_fields, 1) | {"term": 2, "maybe": 2, "lists": 3}
    assert tries_of_fields(Node) == {"inner": 1}
    assert tries_of_fields(Free) == {}


class Free(pydantic.BaseModel):
    value: Any = None


def test_copies_of_what_is_shared_are_charged() -> None:
    """pydantic would make 2**19 dicts of 300 bytes, in place of 19."""
    codec = Codec(Allowlist(Model, Node, Other, Free))
    shared = repeated(19, 1, lambda x: {"a": x, "b": x})
    for value in (Model.model_construct(json_value=shared), Model.model_construct(own_json=shared)):
        with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
            codec.decode(pickle.dumps(value, 5))
    kept = Free.model_construct(value=shared)  # as it is, without a copy
    assert codec.decode(pickle.dumps(kept, 5)).value["a"]["b"] is not None


@pytest.mark.parametrize("field", ["term", "maybe"])
def test_a_deep_search_is_refused_before_it_begins(field: str) -> None:
    """It would take two to the power of 40 steps, or more than this machine has time for."""
    for deep in (
        repeated(40, 1, lambda x: {"left": x, "right": 2, "kind": "product"}),
        repeated(12, 1, lambda x: {"left": x, "right": x, "kind": "product"}),
    ):
        value = Model.model_construct(**{field: deep})
        with pytest.raises(LimitExceeded, match="max_expanded_nodes: checking"):
            CODEC.decode(pickle.dumps(value, 5))


def test_others_are_accepted() -> None:
    value = Model(
        term=repeated(6, 1, lambda x: {"left": x, "right": 2, "kind": "product"}),
        apart=repeated(20, None, lambda x: {"inner": x, "kind": "kept"}),
        json_value=repeated(30, 1, lambda x: [{"x": x}]),
        own_json=repeated(20, 1, lambda x: [{"x": x}]),
        pairs=[[1, 2], ["x"]] * 100,
        node=repeated(20, None, lambda x: Other(inner=x)),
    )
    assert CODEC.decode(CODEC.encode(value)) == value


class Keyed(pydantic.BaseModel):
    sets: set[frozenset[int]] = pydantic.Field(default_factory=set)
    dicts: dict[tuple[int, ...], int] = pydantic.Field(default_factory=dict)
    counts: Counter[int] = pydantic.Field(default_factory=Counter)
    decimals: set[Decimal] = pydantic.Field(default_factory=set)


PRIME = 2**61 - 1
KEYS = {
    "of one hash": {"sets": {frozenset(n * PRIME for n in range(k * 30, k * 30 + 30)) for k in range(30)}},
    "wide": {"dicts": {(n, *[2**14_000] * 30): 1 for n in range(20)}},
    "wide in a Counter": {"counts": Counter(2**14_000 + n for n in range(50))},
    "wide objects": {"decimals": {Decimal(f"1E+6{n}") for n in range(99)}},
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_copies_are_charged(name: str) -> None:
    """pydantic hashes and compares the keys of one shared dict or set again for each model that has it."""
    codec = Codec(Allowlist(Keyed))
    one = Keyed.model_construct(**KEYS[name])
    assert codec.decode(pickle.dumps(one)) == one
    fields = {field: getattr(one, field) for field in Keyed.model_fields}
    models = [Keyed.model_construct(**fields) for _ in range(2000)]
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: checking"):
        codec.decode(pickle.dumps(models))

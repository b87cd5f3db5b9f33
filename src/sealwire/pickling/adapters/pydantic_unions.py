"""The cost of pydantic's validation, which keeps no results.

pydantic validates a value by each member of a union: for a dict that may be of two TypedDicts, whose parts may be of
both again, it takes 2**depth steps, in one call. A union with a discriminator takes one. What is shared is validated,
and copied, each time that it is met; and so are the keys of a dict or set hashed and compared.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

from sealwire.pickling.adapters.pydantic_schemas import INSTANCES, Schemas, nodes, of_fields, reached
from sealwire.pickling.globals import LEAVES
from sealwire.pickling.type_checks import cost_of_keys

_KINDS: Final = {"typed-dict": "dict"}
"""Schemas that take containers of the same type."""
_KEYED: Final = (dict, set, frozenset)
_CONTAINERS: Final = (*_KEYED, list, tuple, deque)
_COPY: Final = 8
"""Steps for a container itself, so that copies of shared ones take no more memory than so many that are not."""


def tries_of_fields(cls: Any) -> dict[str, int]:
    """Return the members of a union that are tried for one container, for the fields whose values are copied.

    It is one for unions that do not contain themselves.
    """
    schemas, references = of_fields(cls)
    copied = [name for name, field in cls.model_fields.items() if field.annotation is not Any]
    return {name: _tries(schemas[name], references) if name in schemas else 1 for name in copied}


def cost(value: Any, tries: int, known: dict[int, int]) -> int:
    """Return the steps of validating a value."""
    if not isinstance(value, _CONTAINERS):
        return 1
    if id(value) not in known:
        parts: Any = value.values() if isinstance(value, dict) else value
        of_parts = len(parts)
        if not LEAVES.issuperset(map(type, parts)):
            of_parts = sum(cost(part, tries, known) for part in parts)
        of_keys = cost_of_keys(value) if isinstance(value, _KEYED) else 0
        known[id(value)] = tries * (_COPY + of_parts + of_keys)
    return known[id(value)]


def _tries(schema: Any, references: Schemas) -> int:
    names = reached(schema, references)
    if not any(name in reached(references[name], references) for name in names):
        return 1
    inside = [schema, *(references[name] for name in names)]
    unions = [node for each in inside for node in nodes(each, INSTANCES) if node["type"] == "union"]
    return max((max(_kinds(union, references).values()) for union in unions), default=1)


def _kinds(schema: Mapping[str, Any], references: Schemas) -> Counter[str]:
    """Return the number of members of a union for each type of container that they take."""
    while schema["type"] in ("definition-ref", "nullable"):
        schema = references[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    if schema["type"] != "union":
        return Counter((_KINDS.get(schema["type"], schema["type"]),))
    kinds = Counter[str]()
    for choice in schema["choices"]:
        kinds += _kinds(choice[0] if isinstance(choice, tuple) else choice, references)
    return kinds

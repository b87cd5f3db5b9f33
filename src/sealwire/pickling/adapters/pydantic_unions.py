"""The cost of pydantic's validation, which keeps no results.

pydantic validates a value by each member of a union: for a dict that may be of two TypedDicts, whose parts may be of
both again, it takes 2**depth steps, in one call. A union with a discriminator takes one. What is shared is validated,
and copied, each time that it is met; and so are the keys of a dict or set hashed and compared.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sealwire.pickling.globals import LEAVES
from sealwire.pickling.type_checks import cost_of_keys

_INSTANCES: Final = frozenset(("model", "dataclass"))
"""Schemas of instances, which were validated when they were made."""
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
    schema = cls.__pydantic_core_schema__
    references = {node["ref"]: node for node in _nodes(schema, frozenset()) if "ref" in node}
    copied = [name for name, field in cls.model_fields.items() if field.annotation is not Any]
    try:
        while schema["type"] != "model-fields":
            schema = references[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
        return {name: _tries(schema["fields"][name], references) for name in copied}
    except KeyError:  # a schema that the class makes itself
        return dict.fromkeys(copied, 1)


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


def _nodes(schema: Any, closed: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and those inside it, except those inside of these types."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
            if schema["type"] in closed:
                return
        for name, part in schema.items():
            if name not in ("metadata", "serialization"):
                yield from _nodes(part, closed)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _nodes(part, closed)


def _tries(schema: Any, references: Mapping[str, Any]) -> int:
    reached = _reached(schema, references)
    if not any(name in _reached(references[name], references) for name in reached):
        return 1
    inside = [schema, *(references[name] for name in reached)]
    unions = [node for each in inside for node in _nodes(each, _INSTANCES) if node["type"] == "union"]
    return max((max(_kinds(union, references).values()) for union in unions), default=1)


def _reached(schema: Any, references: Mapping[str, Any]) -> set[str]:
    """Return the names of all schemas that a schema refers to, outside of instances."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        for node in _nodes(waiting.pop(), _INSTANCES):
            name = node.get("schema_ref", "")
            if name in references and name not in found:
                found.add(name)
                waiting.append(references[name])
    return found


def _kinds(schema: Mapping[str, Any], references: Mapping[str, Any]) -> Counter[str]:
    """Return the number of members of a union for each type of container that they take."""
    while schema["type"] in ("definition-ref", "nullable"):
        schema = references[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    if schema["type"] != "union":
        return Counter((_KINDS.get(schema["type"], schema["type"]),))
    kinds = Counter[str]()
    for choice in schema["choices"]:
        kinds += _kinds(choice[0] if isinstance(choice, tuple) else choice, references)
    return kinds

"""Reads the schemas that pydantic makes of models: core schemas, as pydantic-core documents them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.pickling.annotations import Types, annotation_text

Schemas = Mapping[str, Any]
"""Schemas by name: of a model's fields, or those that other schemas refer to."""

INSTANCES: Final = frozenset(("model", "dataclass"))
"""Schemas of instances, which were validated when they were made."""
_OF_CLASSES: Final = INSTANCES | {"is-instance", "enum"}
"""Schemas that take instances of one class."""
_OF_NO_VALUES: Final = frozenset(("callable", "is-subclass", "generator"))
"""Schemas of functions, classes and iterators, which no message has."""


def nodes(schema: Any, closed: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and those inside it, except those inside of these types."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
            if schema["type"] in closed:
                return
        for name, part in schema.items():
            if name not in ("metadata", "serialization"):
                yield from nodes(part, closed)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from nodes(part, closed)


def of_fields(cls: Any) -> tuple[Schemas, Schemas]:
    """Return the schemas of a model's fields, none if the class makes its own, and those that they refer to."""
    schema = cls.__pydantic_core_schema__
    references = {node["ref"]: node for node in nodes(schema, frozenset()) if "ref" in node}
    try:
        while schema["type"] != "model-fields":
            schema = references[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    except KeyError:
        return {}, references
    return schema["fields"], references


def reached(schema: Any, references: Schemas) -> set[str]:
    """Return the names of all schemas that a schema refers to, outside of instances."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        for node in nodes(waiting.pop(), INSTANCES):
            name = node.get("schema_ref", "")
            if name in references and name not in found:
                found.add(name)
                waiting.append(references[name])
    return found


def check_fields(cls: Any, qualified_name: str, types: Types) -> None:
    """Check that messages can have instances of each class that a model's fields name.

    pydantic itself takes any class (``arbitrary_types_allowed``), functions and classes.

    Raises:
        ConfigurationError: A field needs what no message can have.
    """
    fields, references = of_fields(cls)
    for name, field in fields.items():
        owner = f"{qualified_name}.{name}"
        for schema in (field, *(references[each] for each in reached(field, references))):
            for node in nodes(schema, INSTANCES):
                if node["type"] in _OF_NO_VALUES:
                    annotation = annotation_text(cls.model_fields[name].annotation)
                    raise ConfigurationError(
                        f"{owner}: {annotation} is not a value that can be sent; annotate it with types of values, or "
                        "register an adapter"
                    )
                if node["type"] in _OF_CLASSES and isinstance(node["cls"], type):
                    types.check(node["cls"], owner)

"""Replies as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def any_integer() -> Iterator[None]:
    """Convert integers of any size to text: Python refuses those of more than 4,300 digits by default.

    The codec has bounded those of replies already.
    """
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(digits)


def as_json(value: Any) -> Any:
    """Return ``value`` made of types that JSON has, as the help of ``sealwire call`` says."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if (names := _field_names(value)) is not None:
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: as_json(item) for key, item in value.items()}
        return [[as_json(key), as_json(item)] for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return [as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        # In an order that does not change from run to run.
        return sorted(map(as_json, value), key=json.dumps)
    return str(value)


def _field_names(value: Any) -> list[str] | None:
    """Return the names of the fields of a dataclass, attrs class, msgspec struct or pydantic model."""
    cls = type(value)
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    if hasattr(cls, "__attrs_attrs__"):
        return [field.name for field in cls.__attrs_attrs__]
    for names in ("__struct_fields__", "__pydantic_fields__"):
        if hasattr(cls, names):
            return list(getattr(cls, names))
    return None

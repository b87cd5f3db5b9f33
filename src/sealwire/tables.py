"""Tables of a configuration file, whose options are checked as they are read. All raise ConfigurationError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sealwire.errors import ConfigurationError


def only(table: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
    """Refuse options that are not known; ``prefix``: of their names, for the message."""
    for option in table:
        if option not in known:
            raise ConfigurationError(f"unknown key {prefix + option!r}; expected {', '.join(known)}")


def typed(table: Mapping[str, Any], option: str, kind: type, form: str, default: Any = None) -> Any:
    """The value of an option, of exactly that type; ``form``: for the message."""
    value = table.get(option, default)
    if type(value) is not kind:
        raise ConfigurationError(f"{option}: expected {form}, not a TOML value of type {type(value).__name__}")
    return value


def path(table: Mapping[str, Any], option: str) -> str:
    """A path that is not empty."""
    value: str = typed(table, option, str, "a path as a string")
    if not value:
        raise ConfigurationError(f"{option}: expected a path as a string, not an empty one")
    return value


def strings(table: Mapping[str, Any], option: str) -> list[str] | None:
    """A list of strings; None where there is no such option."""
    if option not in table:
        return None
    values: list[str] = typed(table, option, list, "a list of strings")
    if not all(type(value) is str for value in values):
        raise ConfigurationError(f"{option}: expected a list of strings")
    return values

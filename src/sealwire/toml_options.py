"""Checked reading of the options in a TOML table. All functions raise ConfigurationError."""

from __future__ import annotations

import codecs
import os
import tomllib
from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any, Final

from sealwire.errors import ConfigurationError

_TYPES: Final = {
    str: "a string",
    int: "an integer",
    float: "a float",
    bool: "a boolean",
    list: "an array",
    dict: "a table",
    datetime: "a date and time",
    date: "a date",
    time: "a time",
}
_SYNTAX_REMEDIES: Final = {
    "Invalid value": 'a text or a path stands in quotes, as in "server.pem"',
    "Unescaped '\\'": "write each backslash twice, or the text in single quotes",
    "Illegal character '\\n'": "a quote is missing at the end of the line",
}
"""What to do about mistakes, by words of tomllib."""


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises ConfigurationError with the file's name and the reason."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise ConfigurationError(f"the path of a configuration file must be a str or a Path, not {type(path).__name__}")
    name = os.fsdecode(path)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL, or half of a surrogate pair
        raise ConfigurationError(f"{name!a} cannot be the path of a file") from None
    try:
        return parse_toml(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return the tables of a TOML document. Raises ConfigurationError with the reason."""
    problem = encoding_problem(content)
    if problem is not None:
        raise ConfigurationError(f"not valid TOML: {problem}")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        remedy = next((f"; {remedy}" for words, remedy in _SYNTAX_REMEDIES.items() if words in str(error)), "")
        raise ConfigurationError(f"not valid TOML: {error}{remedy}") from None


def encoding_problem(content: bytes) -> str | None:
    """Return the reason, and the remedy, if the content of a file is not text that TOML accepts; None if it is."""
    if content.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark (BOM); save it as UTF-8 without one"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        return "not UTF-8 text but UTF-16; save it as UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"not UTF-8 text, in line {line}; save it as UTF-8"
    return None


def reject_unknown(table: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    """Refuse options other than ``known``; ``prefix`` stands before their names in the message."""
    for option in table:
        if option not in known:
            near = get_close_matches(option.lower(), known, n=1, cutoff=0.75)
            expected = f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}"
            raise ConfigurationError(f"unknown key {prefix + option!r}; {expected}")


def type_name(value: object) -> str:
    """Return the type of a value with its article, by TOML's name for it."""
    return _TYPES.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def get_typed(table: Mapping[str, Any], option: str, kind: type, form: str, default: Any = None) -> Any:
    """Return the value of an option, of exactly this type; ``form`` describes it in the message."""
    value = table.get(option, default)
    if type(value) is not kind:
        raise ConfigurationError(f"{option}: expected {form}, not {type_name(value)}")
    return value


def path(table: Mapping[str, Any], option: str) -> str:
    """Return the value of an option that is a path, and not empty."""
    value: str = get_typed(table, option, str, "a path as a string")
    if not value:
        raise ConfigurationError(f"{option}: expected a path as a string, not an empty one")
    return value


def strings(table: Mapping[str, Any], option: str) -> list[str] | None:
    """Return the value of an option that is a list of strings; None if it is missing."""
    if option not in table:
        return None
    values: list[str] = get_typed(table, option, list, "a list of strings")
    if not all(type(value) is str for value in values):
        raise ConfigurationError(f"{option}: expected a list of strings")
    return values

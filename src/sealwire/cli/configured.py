"""What a configuration file says of messages, without the certificates and keys that the rest of it names."""

from __future__ import annotations

import inspect
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sealwire.encoding import Codec
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist
from sealwire.pickling.adapters import Adapter


def find_modules_here() -> None:
    """Let modules be imported from the current directory: ``python -m`` does that, the installed script does not."""
    sys.path.insert(0, os.getcwd())


def read_tables(config: Path) -> dict[str, Any]:
    """The configuration file as TOML. Raises OSError, ConfigurationError."""
    try:
        return tomllib.loads(config.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{config}: not valid TOML: {error}") from None


def codec_of(config: Path) -> Codec:
    """By the tables ``[allowlist]`` and ``[limits]``; imports the modules of the types.

    Raises OSError, ConfigurationError.
    """
    tables = read_tables(config)
    try:
        limits = Limits.from_table(tables.get("limits", {}))
        return Codec(Allowlist.from_table(tables.get("allowlist", {})), limits=limits)
    except ConfigurationError as error:
        raise ConfigurationError(f"{config}: {error}") from None


def remarks(adapter: Adapter, *, shallow: bool = False) -> Iterator[str]:
    """What a peer can do with values of a type, beyond sending them with the fields that are declared."""
    if shallow:
        yield "puts anything into the containers of its fields (shallow)"
    anything = [name for name, hint in adapter.fields.items() if hint is Any or hint is object]
    if anything:
        yield f"puts any accepted value into {', '.join(anything)}"
    yield from adapter.notes()
    if hasattr(adapter.cls, "__del__"):
        yield "runs __del__ when an instance goes"


def fields_of(adapter: Adapter) -> str:
    """The declared fields, as in the class."""
    return ", ".join(f"{name}: {inspect.formatannotation(hint)}" for name, hint in adapter.fields.items())

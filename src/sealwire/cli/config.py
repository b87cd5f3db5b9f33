"""The parts of a configuration file that concern messages; certificates and keys are not read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from sealwire.codec import Codec
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist
from sealwire.pickling.adapters import Adapter
from sealwire.toml_options import read_toml

APP_DIR: Final = "sealwire.app_dir"
"""What has in the context of a command the directory in which it looks for modules."""


def import_from_here(directory: Path | None = None) -> None:
    """Make modules in a directory importable, by default that of ``--app-dir``, as ``python -m`` does."""
    ctx = click.get_current_context(silent=True)
    there = None if ctx is None else ctx.meta.get(APP_DIR)
    sys.path.insert(0, os.path.abspath(directory or there or "."))


def load_codec(config: Path) -> Codec:
    """Return the codec of the tables ``[allowlist]`` and ``[limits]``; the modules of its types are imported.

    Raises ConfigurationError.
    """
    tables = read_toml(config)
    try:
        limits = Limits.from_table(tables.get("limits", {}))
        return Codec(Allowlist.from_table(tables.get("allowlist", {})), limits=limits)
    except ConfigurationError as error:
        raise ConfigurationError(f"{config}: {error}") from None


def peer_effects(adapter: Adapter, *, shallow: bool = False) -> Iterator[str]:
    """Describe the effects that a peer has with a type, beyond choosing values for its declared fields."""
    if adapter.fills:
        yield "may leave out fields that have a default"
    if shallow:
        yield "puts anything into the containers of its fields (shallow)"
    unchecked = [name for name, hint in adapter.fields.items() if hint is Any or hint is object]
    if unchecked:
        yield f"puts any accepted value into {', '.join(unchecked)}"
    yield from adapter.notes()
    if hasattr(adapter.cls, "__del__"):
        yield "runs __del__ when an instance is deleted"

"""What the targets share: choices out of an input's bytes, and calls that may fail in the ways that they promise."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # only what is imported after this module is instrumented
    from sealwire.errors import SealwireError

CORPORA = Path(__file__).parent / "corpus"
LONGEST_MESSAGE = 2000
"""Characters of an error's text, at most: a log has to take it."""


class Source:
    """The bytes of an input, taken from the front; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def bytes(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def number(self, most: int, size: int = 1) -> int:
        """Return a number from 0 to ``most``, out of ``size`` bytes."""
        return int.from_bytes(self.bytes(size)) % (most + 1)

    def choice(self, *options: Any) -> Any:
        return options[self.number(len(options) - 1)]

    def block(self, most: int = 255) -> bytes:
        """Return bytes that follow their number."""
        return self.bytes(self.number(most, 1 if most < 256 else 2))

    def rest(self) -> bytes:
        return self.bytes(len(self._data))


def refusal(*errors: type[SealwireError], of: Callable[[], Any], quotes_user: bool = False) -> SealwireError | None:
    """Call a function; return its error of one of these types, None without one. Any other error is a finding.

    The text must be one that a log can take, unless it may quote what the user has written in a file.
    """
    try:
        of()
    except errors as error:
        found = error
    else:
        return None
    text = str(found)
    assert text, f"{type(found).__name__} without a text"
    assert quotes_user or len(text) <= LONGEST_MESSAGE, f"a text of {len(text)} characters"
    assert quotes_user or text.isprintable(), f"a text with control characters: {text!r}"
    return found


def load(target: str) -> ModuleType:
    """Return the module of a target."""
    return importlib.import_module(f"fuzz.{target}")


def seeds(target: ModuleType) -> list[bytes]:
    """Return the seeds of a target."""
    found = target.SEEDS
    return list(found() if callable(found) else found)


def corpus(target: str) -> list[Path]:
    """Return the files of a target's corpus in the repository."""
    return sorted(path for path in (CORPORA / target).glob("*") if path.is_file())

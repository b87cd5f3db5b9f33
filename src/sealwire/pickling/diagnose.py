"""Finds the part of a value that cannot be encoded, for the path in an EncodeError."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from sealwire.errors import DecodeError, EncodeError, InvalidValue
from sealwire.pickling.adapters import Adapter
from sealwire.pickling.allowlist import Allowlist, not_allowed

_MAPPINGS: Final = frozenset((dict, OrderedDict, defaultdict, Counter))
_SEQUENCES: Final = frozenset((list, tuple, deque, set, frozenset))
_MAX_NAME: Final = 64
"""Characters of a key that is shown in a path; a longer one is data rather than a name."""
_FEW_PARTS: Final = 16
"""Parts of a container that are examined one by one."""
_MAX_PATH: Final = 160


def find_unencodable(
    value: object, allowlist: Allowlist, max_depth: int, attempt: Callable[[object], object]
) -> tuple[str, str]:
    """Find the first part of a value that cannot be encoded.

    Args:
        value: The value.
        allowlist: The types that can be encoded.
        max_depth: As in Limits.
        attempt: Encodes one part, and raises EncodeError or DecodeError if it cannot.

    Returns:
        The path to the part, and the reason; ``("$", "")`` if each part can be encoded by itself.
    """
    search = _Search(allowlist, max_depth, attempt)
    path, why = search.visit(value, "$", 1) or ("$", "")
    if len(path) > _MAX_PATH:
        path = f"{path[: _MAX_PATH // 2]} … {path[-_MAX_PATH // 2 :]}"
    return path, why


class _Search:
    def __init__(self, allowlist: Allowlist, max_depth: int, attempt: Callable[[object], object]) -> None:
        self._allowlist = allowlist
        self._max_depth = max_depth
        self._attempt = attempt
        self._open: set[int] = set()
        self._good: set[int] = set()

    def visit(self, value: Any, path: str, depth: int) -> tuple[str, str] | None:
        """Return the path and reason of the first fault in ``value``, which is ``depth`` levels down, or None."""
        kind = type(value)
        if kind not in self._allowlist:
            return path, not_allowed(value)
        adapter = self._allowlist.adapter(kind)
        if adapter is None and kind not in _MAPPINGS and kind not in _SEQUENCES:
            return self._try(value, path)
        identity = id(value)
        if identity in self._open:
            return path, "a cycle: it contains itself"
        if identity in self._good:
            return None
        if depth > self._max_depth:
            return path, f"nested deeper than max_depth ({self._max_depth} levels)"
        self._open.add(identity)
        try:
            parts = list(_parts(value, path) if adapter is None else _fields(adapter, value, path))
        except Exception as error:  # from a user's own code: a property, or an adapter's dump
            return path, f"cannot be taken apart ({type(error).__name__})"
        for part_path, part in self._narrowed(parts):
            found = self.visit(part, part_path, depth + 1)
            if found is not None:
                return found
        self._open.remove(identity)
        self._good.add(identity)
        return self._try_shell(value, path) if adapter is None else self._try(value, path)

    def _narrowed(self, parts: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return few of many parts, the first faulty one among them, which is found by bisection."""
        if len(parts) <= _FEW_PARTS:
            return parts
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            if self._try([part for _, part in parts[low:middle]], "") is None:
                low = middle
            else:
                high = middle
        return parts[low:high]

    def _try(self, value: object, path: str) -> tuple[str, str] | None:
        try:
            self._attempt(value)
        except (EncodeError, DecodeError) as error:
            if isinstance(error, InvalidValue):
                return path + error.path[1:], error.args[0]
            return path, str(error)
        except Exception as error:  # from a user's own code, as above
            return path, f"cannot be taken apart ({type(error).__name__})"
        return None

    def _try_shell(self, value: Any, path: str) -> tuple[str, str] | None:
        """Try a container without its values: its keys, its factory, its attributes."""
        kind = type(value)
        if kind is list or kind is tuple or kind is deque:
            return None
        if kind is OrderedDict and vars(value):
            return path, "an OrderedDict with attributes of its own"
        if kind in _MAPPINGS:
            shell = value.copy()
            for key in shell:
                shell[key] = None
            value = shell
        return self._try(value, path)


def _fields(adapter: Adapter, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    for segment, part in adapter.parts(value):
        yield path + segment, part


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if type(value) not in _MAPPINGS:
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
        return
    for index, (key, item) in enumerate(value.items()):
        # Keys come from the value as well; only one that looks like a name is shown.
        is_name = type(key) is str and key.isidentifier() and key.isascii() and len(key) <= _MAX_NAME
        yield f"{path}.<key {index}>", key
        yield (f"{path}.{key}" if is_name else f"{path}.<value {index}>"), item

"""Checks messages in parts: each part when it is taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from sealwire.handler_parts import PartsOfMessage

Check = Callable[[Any], None]
"""Raises if a part is not acceptable."""


class _Checked(PartsOfMessage):
    def __init__(self, parts: Any, check: Check) -> None:
        self._parts = parts
        self._check = check
        self._refusal: Exception | None = None

    def _checked(self, part: Any) -> Any:
        try:
            self._check(part)
        except Exception as error:
            self._refusal = error
            raise
        return part

    def _go_on(self) -> None:
        """Raise the error of a part again: a handler that ignores it must not take the parts before for the whole."""
        if self._refusal is not None:
            raise self._refusal


class _CheckedParts(_Checked, Iterator[Any]):
    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self._go_on()
        return self._checked(next(self._parts))


class _AsyncCheckedParts(_Checked, AsyncIterator[Any]):
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._go_on()
        return self._checked(await anext(self._parts))


def checked_parts(parts: Any, check: Check) -> PartsOfMessage:
    """Return an iterator over the same parts, or an async iterator if they are one.

    Args:
        parts: An iterable or async iterable.
        check: Called with each part when it is taken. An error that it raises is raised by the iterator, then and each
            time after.

    Raises:
        TypeError: ``parts`` is neither.
    """
    return _AsyncCheckedParts(aiter(parts), check) if hasattr(parts, "__aiter__") else _CheckedParts(iter(parts), check)

"""The base of context managers that close themselves at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose end calls ``close``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the object."""
        raise NotImplementedError

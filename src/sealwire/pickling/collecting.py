"""Finds the types that a handler's signature needs on an allowlist: those it names, and those in their fields.

Annotations are read as they are read to compile checks (:mod:`.annotations`), so that both understand the same of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sealwire.errors import ConfigurationError
from sealwire.pickling.adapters import Adapter, adapter_for, qualified_name
from sealwire.pickling.annotations import Types


class Collector(Types):
    """Collects types that are not on an allowlist yet.

    Args:
        standard: The standard value types that are accepted.
        refused: Those that are switched off.
        covered: The adapters of the list, by the exact types of their values.

    Attributes:
        found: The adapters of the types that were found, in order, each with the place of the annotation.
    """

    def __init__(self, standard: Iterable[type], refused: Iterable[type], covered: Mapping[type, Adapter]) -> None:
        super().__init__(standard, covered, self._fields_of, self._narrow)
        self._covered = dict(covered)
        self._refused = frozenset(refused)
        self._place = ""
        self._is_lenient = False
        self._unread: deque[Adapter] = deque()
        self.found: dict[Adapter, str] = {}

    def collect(self, annotation: Any, place: str, module: str) -> None:
        """Find the types that values of an annotation may have, which a function in ``module`` has.

        Raises:
            ConfigurationError: One of them cannot be allowed, or is not a type of values; the error has the place.
        """
        self._read(annotation, place, None, module)
        while self._unread:
            adapter = self._unread.popleft()
            self._is_lenient = adapter.checks_itself
            for name, annotation in adapter.annotations().items():
                self._read(annotation, f"{adapter.qualified_name}.{name}", adapter.cls)
            self._is_lenient = False

    def _read(self, annotation: Any, place: str, cls: type | None, module: str = "builtins") -> None:
        self._place = place
        try:
            self.check(annotation, place, cls, module)
        except ConfigurationError:
            if not self._is_lenient:
                raise

    def is_configured(self, cls: type) -> bool:
        """Find a class, and return True if it is on the list now."""
        self._find(cls)
        return cls in self._covered

    def subclasses(self, cls: type) -> frozenset[type]:
        """Return the types of a message that are this class or a subclass of it; the class itself is found first."""
        self._find(cls)
        return super().subclasses(cls).union(each for each in self._covered if issubclass(each, cls))

    def _find(self, cls: type) -> None:
        if cls in self._covered or cls in self.all:
            return
        if cls in self._refused:
            raise ConfigurationError(
                f"{self._place}: {qualified_name(cls)} is a standard value type, and its group is switched off by "
                "`without`"
            )
        try:
            adapter = adapter_for(cls)
        except ConfigurationError as error:
            # A base class of types on the list is not a type of values itself.
            if self._is_lenient or super().subclasses(cls) or any(issubclass(each, cls) for each in self._covered):
                return
            raise ConfigurationError(f"{self._place}: {error}") from None
        self._covered.update(dict.fromkeys(adapter.value_types, adapter))
        self._covered[cls] = adapter
        self.found[adapter] = self._place
        self._unread.append(adapter)

    def _fields_of(self, cls: type) -> Mapping[str, Any]:
        return self._covered[cls].fields

    def _narrow(self, cls: type, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        return self._covered[cls].argument_check(arguments)

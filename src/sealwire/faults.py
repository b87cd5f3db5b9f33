"""Faults that a service defines itself: :class:`Refuse`, and the classes that a client raises for them.

A refusal is an answer, not a failure: the handler's own words for the client, under a code of the application's. The
wire has no more than the code and the text, so that one class serves at both ends::

    class OutOfStock(Refuse):
        code = 64

    raise OutOfStock("no nails until Monday")  # in a handler

    security = Security.from_files(..., faults=[OutOfStock])  # the client's: send_request raises OutOfStock
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, overload

from sealwire.errors import ConfigurationError, RemoteError
from sealwire.wire.frames import APPLICATION_CODES, MAX_FAULT_TEXT

_RANGE: Final = f"{APPLICATION_CODES.start} to {APPLICATION_CODES.stop - 1}"


class Refuse(RemoteError):
    """A handler raises this to refuse a request: the client gets a RemoteError with exactly this code and text.

    A derived class may have a ``code`` of its own, and is raised with the text alone. One that was received from
    another server does not refuse anything: if it leaves a handler, that handler has failed, as with any other
    exception.

    Args:
        code: A code of the application, 64 to 255 (docs/protocol.md, section 3).
        text: The text for the client, at most 1,024 bytes of UTF-8. The client escapes control characters in it.

    Raises:
        ConfigurationError: The code or the text cannot be sent.

    Attributes:
        code: As given, or the class's.
        text: As given.
        received: True if a client received it from a server.
    """

    received = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "code" in vars(cls):
            _checked_code(vars(cls)["code"], f"{cls.__qualname__}.code")

    @overload
    def __init__(self, code: int, text: str) -> None: ...

    @overload
    def __init__(self, text: str, /) -> None: ...

    def __init__(self, code: int | str, text: str | None = None) -> None:
        own: int | None = getattr(type(self), "code", None)
        name = type(self).__qualname__
        if text is None and own is None:
            raise ConfigurationError(
                f"{name} needs a code and a text: {name}({APPLICATION_CODES.start}, 'why'), or a class with a code"
            )
        given, words = (own, code) if text is None else (code, text)
        number = _checked_code(given, f"the code of {name}")
        if own is not None and number != own:
            raise ConfigurationError(f"{name} has the code {own}; raise it with a text alone")
        super().__init__(number, _checked_text(words, name))

    def __str__(self) -> str:
        return super().__str__() if self.received else f"fault {self.code}: {self.text}"

    def __reduce__(self) -> Any:
        return _made, (type(self), self.code, self.text), vars(self)


class FaultClasses:
    """The exceptions that a client raises for faults of the application.

    Args:
        classes: Classes derived from Refuse or RemoteError, each with a ``code`` of its own.

    Raises:
        ConfigurationError: A class cannot stand for a fault.
    """

    __slots__ = ("_classes",)

    def __init__(self, classes: Iterable[type[RemoteError]] = ()) -> None:
        if isinstance(classes, type | str) or not isinstance(classes, Iterable):
            raise ConfigurationError("faults must be a list of classes derived from sealwire.Refuse")
        self._classes: Final[dict[int, type[RemoteError]]] = {}
        for cls in classes:
            code = _code_of(cls)
            other = self._classes.setdefault(code, cls)
            if other is not cls:
                raise ConfigurationError(f"faults: {other.__qualname__} and {cls.__qualname__} both have code {code}")

    def error(self, code: int, text: str) -> RemoteError:
        """Return the exception to raise for a FAULT."""
        cls = self._classes.get(code)
        if cls is None:
            return RemoteError(code, text)
        made = _made(cls, code, text)
        if isinstance(made, Refuse):
            made.received = True
        return made


def _made(cls: type[RemoteError], code: int, text: str) -> RemoteError:
    """Return an exception of the class, without its constructor: escapes may have made the text too long for it."""
    made = cls.__new__(cls, code, text)
    RemoteError.__init__(made, code, text)
    return made


def _code_of(cls: Any) -> int:
    if not isinstance(cls, type) or not issubclass(cls, RemoteError):
        name = getattr(cls, "__qualname__", None) or f"a value of type {type(cls).__name__}"
        raise ConfigurationError(f"faults: {name} is not derived from sealwire.Refuse")
    if cls.__init__ not in (Refuse.__init__, RemoteError.__init__) or cls.__new__ is not RemoteError.__new__:
        raise ConfigurationError(
            f"faults: {cls.__qualname__} has a constructor of its own, and a FAULT has no more than code and text; "
            "make the text where it is raised"
        )
    code = getattr(cls, "code", None)
    return _checked_code(code, f"faults: {cls.__qualname__}.code")


def _checked_code(code: object, name: str) -> int:
    if not isinstance(code, int) or isinstance(code, bool) or code not in APPLICATION_CODES:
        found = code if isinstance(code, int) else f"a value of type {type(code).__name__}"
        raise ConfigurationError(f"{name} must be a number from {_RANGE}, not {found}; the others are Sealwire's own")
    return int(code)


def _checked_text(text: object, name: str) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"the text of {name} must be a str, not a value of type {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"the text of {name} has half of a surrogate pair, which is not UTF-8") from None
    if size > MAX_FAULT_TEXT:
        raise ConfigurationError(
            f"the text of {name} has {size} bytes of UTF-8, and at most {MAX_FAULT_TEXT} can be sent; shorten it, or "
            "return what has to be said as a reply"
        )
    return text

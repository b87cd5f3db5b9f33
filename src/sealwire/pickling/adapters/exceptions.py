"""Exceptions, by the arguments that they declare."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import MISSING, built
from sealwire.pickling.annotations import Types, hints
from sealwire.pickling.checks import Check, Mismatch
from sealwire.pickling.grants import CALL, CALL_EMPTY, TAKES_STATE, Grant

MAX_ARGUMENTS: Final = 64
"""Of an exception whose constructor does not say how many it takes."""
_KEYWORDS: Final[dict[type, tuple[str, ...]]] = {ImportError: ("name", "path"), AttributeError: ("name",)}
"""Attributes that CPython's own exceptions are pickled with, and that their constructors take by keyword."""


class ExceptionAdapter(Adapter):
    """Made again from ``args`` by the class's own constructor, which must give it the attributes that were sent.

    A constructor of the user's own is held to its annotations. One of CPython's takes any accepted values.
    The traceback, cause and context of an exception are not sent; its notes (PEP 678) are.
    """

    kind = "exception"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        name = spelling(cls)
        if not issubclass(cls, Exception) or issubclass(cls, BaseExceptionGroup):
            raise ConfigurationError(f"{name}: only subclasses of Exception can be allowed, and no groups")
        self._signature: inspect.Signature | None = None
        annotations: dict[str, Any] = {}
        if inspect.isfunction(cls.__init__):
            self._signature = inspect.signature(cls.__init__)
            resolved = hints(cls.__init__, name)
            parameters = list(self._signature.parameters.values())[1:]
            if any(parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
                   for parameter in parameters):  # fmt: skip
                raise ConfigurationError(
                    f"{name}: __init__ needs a keyword, and an exception is pickled by its positional arguments; "
                    "register an adapter"
                )
            annotations = {
                parameter.name: resolved.get(parameter.name, Any)
                for parameter in parameters
                if parameter.kind is not parameter.KEYWORD_ONLY
            }
        super().__init__(cls, annotations)
        self._shallow: Final = shallow

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with the arguments, and the attributes as state."""
        where, cls, signature = self.spelling, self.cls, self._signature
        checks = self.checks(types, shallow=self._shallow)
        keywords = frozenset(name for base, names in _KEYWORDS.items() if issubclass(cls, base) for name in names)
        if signature is not None:
            keywords = frozenset()

        def load(arguments: tuple[Any, ...] = (), state: Any = MISSING) -> Any:
            if len(arguments) > MAX_ARGUMENTS:
                raise InvalidValue(f"{where}: more than {MAX_ARGUMENTS} arguments")
            if signature is not None:
                _check_arguments(where, signature, checks, arguments)
            attributes = {} if state is MISSING else state
            if type(attributes) is not dict:
                raise InvalidValue(f"{where}: its attributes are not a dict")
            attributes = dict(attributes)
            named = {name: attributes[name] for name in keywords & attributes.keys()}
            if not all(part is None or type(part) is str for part in named.values()):
                raise InvalidValue(f"{where}: its {', '.join(sorted(named))} must be str")
            made = built(where, cls, *arguments, **named)
            notes = attributes.pop("__notes__", [])
            if type(notes) is not list or not all(type(note) is str for note in notes):
                raise InvalidValue(f"{where}: its notes are not a list of str")
            if type(made) is not cls or _parts(made) != (arguments, attributes):
                raise InvalidValue(f"{where}: its constructor makes another exception of these arguments")
            for note in notes:
                made.add_note(note)
            return made

        yield self.grant(CALL | CALL_EMPTY | TAKES_STATE, lambda *parts: built(where, load, *parts), memory=512)

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Its arguments and attributes."""
        arguments, attributes = _parts(value)
        for index, part in enumerate(arguments):
            yield f".args[{index}]", part
        for name, part in attributes.items():
            yield f".{name}", part

    def notes(self) -> Iterator[str]:
        """Code that runs, and what is not checked."""
        if self._signature is not None:
            yield "runs __init__ on values that a peer chose"
        else:
            yield "puts any accepted values into its arguments"


def _parts(error: Exception) -> tuple[Any, Any]:
    """The arguments and the attributes as pickling sees them: OSError keeps a file name out of its args."""
    parts: Any = error.__reduce__()
    return parts[1], parts[2] if len(parts) > 2 else {}


def _check_arguments(
    where: str, signature: inspect.Signature, checks: dict[str, Check], arguments: tuple[Any, ...]
) -> None:
    try:
        bound = signature.bind(None, *arguments)
    except TypeError:
        raise InvalidValue(f"{where}: not the arguments that its constructor declares") from None
    for name, value in list(bound.arguments.items())[1:]:
        variadic = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for one in value if variadic else (value,):
            try:
                checks[name](one)
            except Mismatch as mismatch:
                error = InvalidValue(f"{where}: {mismatch.expected} is wanted for {name}")
                error.inside(*mismatch.path, f".{name}")
                raise error from None

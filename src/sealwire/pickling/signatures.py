"""Reads which types of messages and replies the signature of a handler declares."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import typing
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, get_args, get_origin

from sealwire.errors import ConfigurationError
from sealwire.pickling.hints import hints

_NOTHING: Final = (Any, object, typing.NoReturn, typing.Never)
"""Annotations that say nothing of the values there."""
_GENERATORS: Final = (
    collections.abc.Iterator, collections.abc.Generator, collections.abc.AsyncIterator, collections.abc.AsyncGenerator,
)  # fmt: skip
_ITERABLES: Final = (collections.abc.Iterable, collections.abc.AsyncIterable)


class Signature(NamedTuple):
    """The types that one function declares; ``Any`` stands for those that it does not declare.

    Attributes:
        name: Module and qualified name of the function.
        function: The function.
        parameter: The name of the parameter that takes the message.
        message: The annotation of the message, or of its parts if ``takes_parts``.
        takes_parts: True if the message is declared as an iterator over parts.
        reply: The annotation of the reply: of a generator, of the value that it returns.
        part: The annotation of the parts that it yields; None if it is not declared as a generator.
    """

    name: str
    function: Any
    parameter: str
    message: Any = Any
    takes_parts: bool = False
    reply: Any = Any
    part: Any = None

    @property
    def module(self) -> str:
        """The module in which the names in its annotations are looked up."""
        return str(getattr(_innermost(self.function), "__module__", None) or "builtins")

    @property
    def places(self) -> list[tuple[str, Any]]:
        """The annotations, each with its place as errors have it."""
        reply = f"the reply of {self.name}"
        found = [(f"parameter {self.parameter} of {self.name}", self.message)]
        # A generator that returns nothing has no reply beside its parts.
        found += [(reply, self.part)] if self.part is not None else []
        return found + ([(reply, self.reply)] if self.reply not in (None, type(None)) else [])


def read_signature(function: Any, *, skip: int = 0) -> Signature:
    """Return the types that a function declares.

    Args:
        function: A function, or anything else that can be called.
        skip: Number of parameters before the message: 1 for a function of a class.

    Raises:
        ConfigurationError: An annotation cannot be resolved.
    """
    whole = _innermost(function)
    name = f"{getattr(whole, '__module__', '')}.{getattr(whole, '__qualname__', type(function).__qualname__)}"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions in C say nothing of their arguments
        return Signature(name, function, "message")
    positional = [each for each in signature.parameters.values() if each.kind in _POSITIONAL][skip:]
    parameter = positional[0].name if positional else "message"
    message, takes_parts = Any, False
    if positional:
        message = _resolved(positional[0].annotation, whole, f"parameter {parameter} of {name}")
        if get_origin(message) in _GENERATORS:
            message, takes_parts = _argument(message, 0), True
    reply = _resolved(signature.return_annotation, whole, f"the reply of {name}")
    part = None
    yields = inspect.isgeneratorfunction(whole) or inspect.isasyncgenfunction(whole)
    if get_origin(reply) in _GENERATORS or (yields and get_origin(reply) in _ITERABLES):
        part = _argument(reply, 0)
        # Iterator says nothing of what the generator returns; most return nothing.
        reply = _argument(reply, 2) if get_origin(reply) is collections.abc.Generator else None
    return Signature(name, function, parameter, message, takes_parts, reply, part)


_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
)  # fmt: skip


def _innermost(function: Any) -> Any:
    """Return the function that has the annotations: behind decorators, partials, and objects that can be called."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and inspect.isfunction(vars(type(function)).get("__call__")):
            function = type(function).__call__
        else:
            return function


def _resolved(annotation: Any, function: Any, place: str) -> Any:
    if annotation is inspect.Signature.empty:
        return Any
    names = getattr(function, "__globals__", {}) | {each.__name__: each for each in _type_parameters(function)}
    holder = SimpleNamespace(__annotations__={"x": annotation}, __module__=getattr(function, "__module__", None))
    found = hints(holder, place, names)["x"]
    return Any if found in _NOTHING else found


def _type_parameters(function: Any) -> tuple[Any, ...]:
    return getattr(function, "__type_params__", ())  # of CPython 3.12 and later


def _argument(annotation: Any, index: int) -> Any:
    """Return an argument of a generic annotation; Any if it has fewer."""
    arguments = get_args(annotation)
    found = arguments[index] if index < len(arguments) else Any
    return Any if found in _NOTHING else found


def signatures_of(handler: Any) -> list[Signature]:
    """Return the types that a handler declares: a function, or a class derived from RequestHandler.

    Raises:
        ConfigurationError: It is neither, or an annotation cannot be resolved.
    """
    if isinstance(handler, type):
        read = getattr(handler, "signatures", None)
        if read is None:
            raise ConfigurationError(f"{handler.__qualname__} must be derived from sealwire.RequestHandler")
        found: list[Signature] = read()
        return found
    if not callable(handler):
        raise ConfigurationError("a handler must be a class derived from sealwire.RequestHandler or a function")
    return [read_signature(handler)]

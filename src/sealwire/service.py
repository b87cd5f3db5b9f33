"""Services: handlers with a method for each type of message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from sealwire.errors import ConfigurationError
from sealwire.handler import RequestHandler, runs_on_loop
from sealwire.pickling.signatures import Signature, read_signature


class Service(RequestHandler):
    """The base class of handlers with several operations: one method for each type of message.

    The method is chosen by the declared type of its parameter; its name is not sent. Every public method that a derived
    class defines takes messages::

        class Orders(Service):
            def place(self, message: Order) -> Receipt:
                return Receipt(message.number)

            def cancel(self, message: Cancel) -> None:
                ...

    A message goes to the method that declares its type, or else its nearest base class. On asyncio servers all methods
    may be coroutine functions. The attributes are those of RequestHandler, ``setup`` and ``finish`` included. Making a
    server raises ConfigurationError if a method has no annotation, or two would take the same messages.
    """

    chooses: ClassVar[bool] = True
    """The type of a message chooses the method."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in ("respond", "handle"):
            if name in vars(cls):
                raise ConfigurationError(
                    f"{cls.__qualname__} is a Service and has a {name} of its own; give the method another name, "
                    "or derive from RequestHandler"
                )
        if any(map(runs_on_loop, _methods(cls).values())):
            cls.respond = _respond_on_the_loop  # type: ignore[method-assign]  # a coroutine function

    @classmethod
    def signatures(cls) -> list[Signature]:
        """Return the types that its methods declare. Raises ConfigurationError."""
        methods = _methods(cls)
        if not methods:
            raise ConfigurationError(f"{cls.__qualname__} needs a method for each type of messages")
        if len(set(map(runs_on_loop, methods.values()))) > 1:
            raise ConfigurationError(
                f"{cls.__qualname__}: either all of its methods ({', '.join(methods)}) are `async`, or none"
            )
        return [read_signature(method, skip=1) for method in methods.values()]

    def respond(self, message: Any) -> Any:
        """Pass the message to its method, and return the reply."""
        return _begin(self, message)


async def _respond_on_the_loop(self: Service, message: Any) -> Any:
    result = _begin(self, message)
    return await result if inspect.isawaitable(result) else result


def _begin(service: Service, message: Any) -> Any:
    """Call the method for a message. Its reply is checked when it is encoded."""
    operation = service._contract.operation(message)
    service._encode, service._encode_part = operation.encode, operation.encode_part
    return operation.signature.function(service, message)


def _methods(cls: type) -> dict[str, Callable[..., Any]]:
    """Return the methods for messages, by name, in the order of their definition."""
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Service) and base is not Service:
            found |= {name: value for name, value in vars(base).items() if _is_operation(name, value)}
    return found


def _is_operation(name: str, value: Any) -> bool:
    return not name.startswith("_") and not hasattr(Service, name) and inspect.isfunction(value)

"""Middleware around the handlers of a server: a handler class with a ``respond`` that runs it.

Every server has a :class:`Served` of its handler and makes each handler of the class for its connection's Security, as
a configuration that is loaded again may have other rules. So no pump knows of middleware, and without any a handler is
of the same class as ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sealwire.authorisation import Authorisation
from sealwire.errors import ConfigurationError, DecodeError, EncodeError
from sealwire.handler import RequestHandler, handler_class, runs_on_loop
from sealwire.handler_parts import PartsOfMessage
from sealwire.middleware.authorise import Authorise
from sealwire.middleware.chain import Middleware, chained, chained_on_loop, check_middleware
from sealwire.middleware.parts import checked_parts
from sealwire.security import Security


class Served:
    """The handler of a server, with rules and middleware around it. Made by :meth:`of`."""

    def __init__(
        self, handler: object, rules: Authorisation | None, middleware: Sequence[Middleware], *, coroutines: bool
    ) -> None:
        self._handler = handler
        self._rules = rules
        self._middleware = tuple(middleware) if isinstance(middleware, Sequence) else middleware
        self._coroutines = coroutines

    @classmethod
    def of(
        cls, handler: object, security: Security, middleware: Sequence[Middleware], *, coroutines: bool = False
    ) -> Served:
        """Return a server's Served, made of its arguments; the handler itself if it is Served, by another server."""
        if isinstance(handler, Served):
            return handler
        return cls(handler, security.authorisation, middleware, coroutines=coroutines)

    def under(self, security: Security) -> type[RequestHandler]:
        """Return the handler class under a pinned Security, made once. Raises ConfigurationError."""
        return security.once(("served", self), self._make)

    def _make(self, security: Security) -> type[RequestHandler]:
        middleware = self._middleware
        if security.authorisation is not self._rules and isinstance(middleware, Sequence):
            placed = [isinstance(each, Authorise) and each.rules is self._rules for each in middleware]
            rules = None if security.authorisation is None else Authorise(security.authorisation)
            present = [rules if here else each for each, here in zip(middleware, placed, strict=True)]
            middleware = tuple(each for each in present if each is not None)
        return served_class(self._handler, security, middleware, coroutines=self._coroutines)


def served_class(
    handler: object, security: Security, middleware: Sequence[Middleware] = (), *, coroutines: bool = False
) -> type[RequestHandler]:
    """Return the handler class for a server's arguments, with the rules of ``security`` and the middleware around it.

    The rules come first, so that nothing sees a message that they refuse, unless the list has a place for them.

    Args:
        handler: A class derived from RequestHandler, or a function from message to reply.
        security: The server's Security.
        middleware: The server's middleware, the outermost first.
        coroutines: True if the server runs coroutine functions.

    Raises:
        ConfigurationError: The handler or a middleware cannot be used, or not both together.
    """
    inner = handler_class(handler, coroutines=coroutines)
    on_loop = runs_on_loop(inner.respond)
    remedy = "make the handler a coroutine function, too" if coroutines else "use AsyncTCPServer, or remove `async`"
    chain = check_middleware(middleware, coroutines=on_loop, remedy=remedy)
    rules = security.authorisation
    if rules is not None and not any(isinstance(each, Authorise) and each.rules is rules for each in chain):
        chain = (Authorise(rules), *chain)
    for each in chain:
        if isinstance(each, Authorise):
            each.rules.check_types(security.codec)
    if not chain:
        return inner
    if inner.handle is not RequestHandler.handle:
        raise ConfigurationError(
            f"{inner.__qualname__} reads its requests itself, in handle(), so that neither middleware nor rules of "
            "authorise come before them; define respond(message) instead, or leave those out"
        )
    return _surrounded(inner, chain, on_loop=on_loop)


def _surrounded(inner: type[RequestHandler], chain: tuple[Middleware, ...], *, on_loop: bool) -> type[RequestHandler]:
    def respond(self: RequestHandler, message: Any) -> Any:
        _choose_encoders(self, message)

        def innermost(context: Any, passed: Any) -> Any:
            return super(outer, self).respond(_accepted(self, context, message, passed))

        return chained(chain, innermost)(self.context, message)

    async def respond_on_loop(self: RequestHandler, message: Any) -> Any:
        _choose_encoders(self, message)

        async def innermost(context: Any, passed: Any) -> Any:
            reply = super(outer, self).respond(_accepted(self, context, message, passed))
            return await reply if inspect.isawaitable(reply) else reply  # an async generator is not awaited

        return await chained_on_loop(chain, innermost)(self.context, message)

    # Without a respond at first, which a Service must not define. What it declares is what the handler declares.
    outer: Any = type(inner.__name__, (inner,), {"signatures": staticmethod(inner.signatures)})
    outer.__module__, outer.__qualname__ = inner.__module__, inner.__qualname__
    outer.respond = respond_on_loop if on_loop else respond
    made: type[RequestHandler] = outer
    return made


def _choose_encoders(handler: RequestHandler, message: Any) -> None:
    """Hold a reply that comes from a middleware to the types that the handler declares for this message."""
    handler._encode, handler._encode_part = handler._contract.encoders(message)


def _accepted(handler: RequestHandler, context: Any, message: Any, passed: Any) -> Any:
    """Return what a middleware passes on to the handler, in place of ``message``, if the handler takes it."""
    if context is not handler.context:
        raise TypeError("call_next takes the context that the middleware was given")
    if passed is message or (isinstance(message, PartsOfMessage) and isinstance(passed, PartsOfMessage)):
        return passed
    contract = handler._contract
    if isinstance(message, PartsOfMessage):
        return checked_parts(passed, partial(_verify, contract.verify_part))
    _verify(contract.verify, passed)
    return passed


def _verify(check: Callable[[Any], None], passed: Any) -> None:
    try:
        check(passed)
    except DecodeError as error:
        raise EncodeError(f"passed on by a middleware: {error}") from None

"""Calls the methods of handlers and the codec, on the event loop or in threads: whatever takes long in a thread."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Hashable
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import Workers
from sealwire.computing import AT_ONCE, computations
from sealwire.handler import RequestHandler
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.frames import Payload, VerifiedPayload

_T = TypeVar("_T")

in_handler: contextvars.ContextVar[bool] = contextvars.ContextVar("sealwire_in_handler", default=False)
"""True if the current task or thread runs a handler."""


class DeadlinePassed(Exception):
    """The client gave up while its message waited for a thread."""


class RequestContext:
    """The ``self.request`` of ``respond`` on an asyncio server: the client's identity, key and deadline."""

    def __init__(self, channel: AsyncServerChannel) -> None:
        self.peer: PeerIdentity | None = channel.peer
        self.key_id = channel.key_id
        self.deadline: float | None = None


class HandlerCalls:
    """The calls of one server's handlers.

    Args:
        handler: The handler class.
        server: The server, with the attribute ``security``; the handlers' ``self.server``.
        workers: The threads for handlers that are not coroutine functions.

    Attributes:
        owns_connection: Whether a handler has its connection to itself.
        on_loop: Whether handlers are coroutine functions.
        decode: Returns the message in a payload.
        encode: Returns the payload of a reply.
    """

    def __init__(self, handler: type[RequestHandler], server: Any, workers: Workers) -> None:
        self.handler_class: Final = handler
        self._server = server
        self._workers = workers
        self._computers = Workers(AT_ONCE, "sealwire codec")
        self.decode: Callable[[VerifiedPayload], Any] = server.security.decode
        self.encode: Callable[[Any], Payload] = server.security.codec.encode_pieces
        self.owns_connection: Final = (
            handler.handle is not RequestHandler.handle or handler.__init__ is not RequestHandler.__init__
        )
        self.on_loop: Final = inspect.iscoroutinefunction(handler.handle if self.owns_connection else handler.respond)

    async def close(self, seconds: float) -> None:
        """Stop the threads of the codec, and wait up to ``seconds`` for them."""
        await self._computers.close(seconds)

    def new_handler(self, request: AsyncServerChannel | RequestContext, client_address: Any) -> RequestHandler:
        """Return a handler after ``setup``. Bypasses socketserver's constructor, which also calls ``handle``."""
        handler = self.handler_class.__new__(self.handler_class)
        handler.request = request  # type: ignore[assignment]  # the attributes of a RequestChannel that respond uses
        handler.client_address = client_address
        handler.server = self._server
        handler.setup()
        return handler

    async def run(self, function: Callable[[], _T], key: Hashable) -> _T:
        """Run a handler's method on the loop or in a thread, like its other methods."""
        return function() if self.on_loop else await self._workers.run(function, key)

    async def decode_in_thread(self, payload: VerifiedPayload, key: Hashable) -> Any:
        """Return the message in a payload of more than LONG bytes. Raises DecodeError."""
        return await self._compute(partial(self.decode, payload), key, len(payload))

    async def encode_in_thread(self, reply: Any, key: Hashable) -> Payload:
        """Return a large reply, encoded. Raises EncodeError."""
        return await self._compute(partial(self.encode, reply), key)

    async def respond_in_thread(
        self, handler: RequestHandler, message: Any, deadline: float | None, key: Hashable
    ) -> Payload:
        """Return the encoded reply of an ordinary function.

        Raises DeadlinePassed, EncodeError and any exception of the handler.
        """

        def respond() -> Payload:
            if deadline is not None and monotonic() >= deadline:
                raise DeadlinePassed
            return self.encode(handler.respond(message))

        return await self._workers.run(respond, key)

    async def _compute(self, function: Callable[[], _T], key: Hashable, size: int = 0) -> _T:
        """Run a function that takes long in a thread; peers take turns. ``size`` is that of what is decoded."""

        def compute() -> _T:
            with computations.one(key, size):
                return function()

        return await self._computers.run(compute, key)

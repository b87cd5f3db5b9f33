"""Calls the methods of handlers and the codec, on the event loop or, if they may take long, in threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Hashable
from functools import partial
from time import monotonic, thread_time
from types import GeneratorType
from typing import Any, Final, TypeVar

from sealwire.aio.respond_parts import AsyncMessageParts, RespondChannel, send_async_parts
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import Workers, is_large, run_in_thread
from sealwire.computing import AT_ONCE, LONG, computations
from sealwire.contract import Contract, contract_of
from sealwire.handler import RequestHandler, runs_on_loop
from sealwire.handler_parts import MessageParts, PartsOfMessage, send_parts
from sealwire.paces import Paces
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload, VerifiedPayload

_SPACING: Final = 3
"""A peer's handlers in threads have one part in so many of the time of a processor, while others are active."""
_T = TypeVar("_T")

in_handler: contextvars.ContextVar[bool] = contextvars.ContextVar("sealwire_in_handler", default=False)
"""True if the current task or thread runs a handler."""


class DeadlinePassed(Exception):
    """The client gave up while its message waited for a thread."""


class HandlerCalls:
    """The calls of one server's handlers.

    Args:
        handler: The handler class.
        server: The server; the handlers' ``self.server``.
        workers: The threads for handlers that are not coroutine functions.

    Attributes:
        owns_connection: True if a handler has its connection to itself.
        on_loop: True if handlers are coroutine functions.
    """

    def __init__(self, handler: type[RequestHandler], server: Any, workers: Workers) -> None:
        self._server = server
        self._workers = workers
        self._computers = Workers(AT_ONCE, "sealwire codec")
        self._paces = Paces(_SPACING)
        self.owns_connection: Final = (
            handler.handle is not RequestHandler.handle or handler.__init__ is not RequestHandler.__init__
        )
        self.on_loop: Final = runs_on_loop(handler.handle if self.owns_connection else handler.respond)
        self._new_event: Any = asyncio.Event if self.on_loop else threading.Event

    def contract(self, channel: AsyncServerChannel) -> Contract:
        """Return the types that the handler declares, for a connection."""
        return contract_of(self.class_for(channel), channel.security)

    def class_for(self, request: AsyncServerChannel | RespondChannel) -> type[RequestHandler]:
        """Return the handler class of a connection, with the rules of the configuration and middleware around it."""
        served: type[RequestHandler] = self._server.served.under(request.security)
        return served

    async def close(self, seconds: float) -> None:
        """Stop the threads of the codec, and wait up to ``seconds`` for them."""
        await self._computers.close(seconds)

    def new_responder(self, channel: AsyncServerChannel, client_address: Any) -> Callable[[], RequestHandler]:
        """Return a function that makes a handler for the requests of a connection."""
        return partial(self.new_handler, RespondChannel(channel, self._new_event), client_address)

    def new_handler(self, request: AsyncServerChannel | RespondChannel, client_address: Any) -> RequestHandler:
        """Return a handler after ``setup``. Bypasses socketserver's constructor, which also calls ``handle``."""
        handler_class = self.class_for(request)
        handler = handler_class.__new__(handler_class)
        handler.request = request  # type: ignore[assignment]  # the attributes of a RequestChannel that respond uses
        handler.client_address = client_address
        handler.server = self._server
        handler.setup()
        return handler

    async def run(self, function: Callable[[], _T], key: Hashable) -> _T:
        """Run a handler's method on the loop or in a thread, like its other methods."""
        return function() if self.on_loop else await self._workers.run(function, key)

    async def decode_long(
        self, decode: Callable[[VerifiedPayload], Any], payload: VerifiedPayload, key: Hashable
    ) -> Any:
        """Return the message, or the part of one, in a payload of more than LONG bytes. Raises DecodeError."""
        size = len(payload)
        if computations.may_be_on_loop(key, size):
            with computations.on_loop(key):
                return decode(payload)
        if pause := computations.paces.pause(key, size):
            await asyncio.sleep(pause)
        return await self._compute(partial(decode, payload), key, size)

    async def encode_in_thread(self, encode: Callable[[Any], Payload], value: Any, key: Hashable) -> Payload:
        """Return a large reply, or a part of one, encoded. Raises EncodeError."""
        return await self._compute(partial(encode, value), key)

    def message_in_parts(self, handler: RequestHandler, request: Request, key: Hashable) -> PartsOfMessage:
        """Return the message of a request in parts, for its handler."""
        decode_part = handler._contract.decode_part
        channel: Any = handler.request

        async def decode(payload: VerifiedPayload) -> Any:
            if len(payload) <= LONG:
                return decode_part(payload)
            return await self.decode_long(decode_part, payload, key)

        def decode_here(payload: VerifiedPayload) -> Any:
            with computations.one(key, len(payload)):
                return decode_part(payload)

        if self.on_loop:
            return AsyncMessageParts(channel, request.sequence, decode, channel.security.limits.max_parts)
        return MessageParts(channel, request.sequence, decode_here, channel.security.limits.max_parts)

    async def send_parts(
        self, handler: RequestHandler, request: Request, generator: AsyncGenerator[Any, None], key: Hashable
    ) -> None:
        """Send the values of an async generator as the parts of a reply. Raises like send_async_parts."""

        async def encode(part: Any) -> Payload:
            if is_large(part):
                return await self.encode_in_thread(handler._encode_part, part, key)
            return handler._encode_part(part)

        channel: Any = handler.request
        await send_async_parts(channel, request.sequence, generator, encode, channel.security.limits.max_parts)

    async def respond_in_thread(
        self, handler: RequestHandler, request: Request, message: Any, deadline: float | None, key: Hashable
    ) -> Payload:
        """Return the encoded reply of an ordinary function; send its parts before, if it is a generator.

        Raises DeadlinePassed, RequestCancelled, EncodeError and any exception of the handler.
        """
        channel: Any = handler.request
        if pause := self._paces.pause(key, 1):
            await asyncio.sleep(pause)

        def respond() -> Payload:
            if deadline is not None and monotonic() >= deadline:
                raise DeadlinePassed
            channel.check_wanted(request.sequence)
            begun = thread_time()
            try:
                reply = handler.respond(message)
                if type(reply) is GeneratorType:
                    reply = send_parts(
                        channel, request.sequence, reply, handler._encode_part, channel.security.limits.max_parts
                    )
                return handler._encode(reply)
            finally:
                self._paces.note(key, 1, thread_time() - begun)

        if request.flags:
            in_context = partial(contextvars.copy_context().run, respond)
            return await run_in_thread(in_context, f"sealwire {handler.client_address}")
        return await self._workers.run(respond, key)

    async def _compute(self, function: Callable[[], _T], key: Hashable, size: int = 0) -> _T:
        """Run a slow function in a thread; peers take turns. ``size`` is that of the payload."""

        def compute() -> _T:
            with computations.one(key, size):
                return function()

        return await self._computers.run(compute, key)

"""Runs the handlers of an asyncio server, on the event loop or in threads.

A handler class defines ``respond`` or ``handle``, each as a coroutine function or as an ordinary one:

    async def respond   runs on the loop, for up to Limits.max_in_flight messages of a connection at a time
    def respond         runs in the worker threads, for as many messages at a time
    async def handle    runs on the loop and has the connection to itself
    def handle          runs in a new thread, from the first message on, and has the connection to itself

A handler object works on one message at a time, so it needs no locks. A connection with several messages in progress
therefore has several handler objects; they are kept and used again (``idle``).

For ``respond``, one task per connection takes requests (``_handle_requests``) and starts a task for each (``_answer``).
Limits.max_in_flight bounds them per connection, and Limits.max_in_flight_total per server. A place of the first is
acquired before a request is read, so a client cannot queue more requests in this process's memory. The task that
answers keeps it until its reply was passed to the transport, but gives the second one back when its handler returns.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Hashable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threaded_channel import ThreadedChannel
from sealwire.aio.threads import Workers, is_large, run_in_thread
from sealwire.aio.turns import Places
from sealwire.computing import AT_ONCE, LONG, computations
from sealwire.errors import DecodeError, PayloadTooLarge, SealwireError
from sealwire.handler import RequestHandler, refuse_message, report_failure
from sealwire.listeners import address_text
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode, Payload, VerifiedPayload

logger = logging.getLogger("sealwire.server")
_T = TypeVar("_T")

in_handler: contextvars.ContextVar[bool] = contextvars.ContextVar("sealwire_in_handler", default=False)
"""True if the current task or thread runs a handler."""


class _DeadlinePassed(Exception):
    """The client gave up while its message waited for a thread."""


class RequestContext:
    """The ``self.request`` of ``respond`` on an asyncio server: the client's identity, key and deadline."""

    def __init__(self, channel: AsyncServerChannel) -> None:
        self.peer: PeerIdentity | None = channel.peer
        self.key_id = channel.key_id
        self.deadline: float | None = None


class HandlerRunner:
    """The handlers of one server.

    Args:
        handler: The handler class.
        server: The server, with the attribute ``security``; the handlers' ``self.server``.
        workers: The threads for handlers that are not coroutine functions.
    """

    def __init__(self, handler: type[RequestHandler], server: Any, workers: Workers) -> None:
        self._class = handler
        self._server = server
        self._security = server.security
        self._workers = workers
        self._computers = Workers(AT_ONCE, "sealwire codec")
        self._limits = server.security.limits
        self._in_flight_total = Places(self._limits.max_in_flight_total, self._limits.max_in_flight_per_identity)
        self._owns_connection = (
            handler.handle is not RequestHandler.handle or handler.__init__ is not RequestHandler.__init__
        )
        self._on_loop = inspect.iscoroutinefunction(handler.handle if self._owns_connection else handler.respond)

    async def close(self, seconds: float) -> None:
        """Stop the runner's own threads, and wait up to ``seconds`` for them."""
        await self._computers.close(seconds)

    async def serve(self, channel: AsyncServerChannel, client_address: Any) -> None:
        """Serve a connection to its end. Raises SealwireError and any exception of the handler's own ``handle``."""
        if not self._owns_connection:
            await self._serve_requests(channel, client_address)
            return
        in_handler.set(True)
        if self._on_loop:
            handler = self._new_handler(channel, client_address)
            try:
                await handler.handle()
            finally:
                handler.finish()
        elif (first := await channel.next_for_handler()) is not None:
            threaded = ThreadedChannel(channel, *first)
            make: Callable[..., RequestHandler] = self._class
            await run_in_thread(
                partial(make, threaded, client_address, self._server), f"sealwire {address_text(client_address)}"
            )

    async def _serve_requests(self, channel: AsyncServerChannel, client_address: Any) -> None:
        """Answer the requests of a connection with ``respond``; return when all handlers have finished."""
        idle: list[RequestHandler] = []
        failure: SealwireError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._handle_requests(channel, client_address, group, idle)
                except SealwireError as error:
                    failure = error
                if channel.ended:
                    # Close at once, while the handlers in progress finish: no client waits for their replies.
                    await channel.end()
        finally:
            for handler in idle:
                await self._run(handler.finish, channel.share)
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its frames are these, and would keep the connection

    async def _handle_requests(
        self, channel: AsyncServerChannel, client_address: Any, group: asyncio.TaskGroup, idle: list[RequestHandler]
    ) -> None:
        in_flight = asyncio.Semaphore(self._limits.max_in_flight)

        def finished(_: asyncio.Task[None]) -> None:
            channel.session.finish_handling(monotonic())
            in_flight.release()

        while True:
            await in_flight.acquire()
            request = await channel.next_request()
            if request is None:
                return
            deadline = channel.deadline
            await self._in_flight_total.acquire(channel.share)
            if channel.start_handling(request, deadline):
                answer = self._answer(channel, client_address, request, deadline, idle)
                group.create_task(answer).add_done_callback(finished)
            else:
                self._in_flight_total.release(channel.share)
                in_flight.release()
                channel.forget(request)
            del request

    async def _answer(
        self,
        channel: AsyncServerChannel,
        client_address: Any,
        request: Request,
        deadline: float | None,
        idle: list[RequestHandler],
    ) -> None:
        """Answer a request; return when the answer was passed to the transport.

        Only the connection's own bound waits for that. A client that takes no replies holds nothing that others need.
        """
        in_handler.set(True)
        try:
            try:
                message = await self._decode(request.payload, channel.share)
            except DecodeError as error:
                refuse_message(channel, request.sequence, client_address, channel.peer, error)
            else:
                await self._handle(channel, client_address, request.sequence, message, deadline, idle)
                del message
            finally:
                self._in_flight_total.release(channel.share)
                channel.forget(request)
            await channel.drained()
        except (SealwireError, TimeoutError) as error:
            logger.debug("%s: a reply was dropped: %s", address_text(client_address), error)

    async def _handle(
        self,
        channel: AsyncServerChannel,
        client_address: Any,
        sequence: int,
        message: Any,
        deadline: float | None,
        idle: list[RequestHandler],
    ) -> None:
        handler: RequestHandler | None = None
        try:
            if idle:
                handler = idle.pop()
            else:
                make = partial(self._new_handler, RequestContext(channel), client_address)
                handler = await self._run(make, channel.share)
            handler.request.deadline = deadline
            payload = await self._respond(handler, message, deadline, channel.share)
        except _DeadlinePassed:
            channel.send_fault(sequence, FaultCode.DEADLINE_EXCEEDED)
            return
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            report_failure(channel, sequence, client_address, error)
            return
        finally:
            if handler is not None:
                idle.append(handler)
        try:
            channel.send_reply(sequence, payload)
        except PayloadTooLarge as error:
            logger.warning("%s: a reply was not sent: %s", address_text(client_address), error)

    async def _decode(self, payload: VerifiedPayload, key: Hashable) -> Any:
        if len(payload) <= LONG:
            return self._security.decode(payload)
        return await self._compute(partial(self._security.decode, payload), key, len(payload))

    async def _compute(self, function: Callable[[], _T], key: Hashable, size: int = 0) -> _T:
        """Run a function that takes long in a thread; peers take turns. ``size`` is that of what is decoded."""

        def compute() -> _T:
            with computations.one(key, size):
                return function()

        return await self._computers.run(compute, key)

    async def _respond(self, handler: RequestHandler, message: Any, deadline: float | None, key: Hashable) -> Payload:
        """Return the encoded reply. Raises _DeadlinePassed."""
        encode: Callable[[Any], Payload] = self._security.codec.encode_pieces
        if self._on_loop:
            reply = await handler.respond(message)
            return await self._compute(partial(encode, reply), key) if is_large(reply) else encode(reply)

        def respond() -> Payload:
            if deadline is not None and monotonic() >= deadline:
                raise _DeadlinePassed
            return encode(handler.respond(message))

        return await self._workers.run(respond, key)

    async def _run(self, function: Callable[[], Any], key: Hashable) -> Any:
        """Run a handler's method on the loop or in a thread, like its other methods."""
        return function() if self._on_loop else await self._workers.run(function, key)

    def _new_handler(self, request: AsyncServerChannel | RequestContext, client_address: Any) -> RequestHandler:
        """Return a handler after ``setup``. Bypasses socketserver's constructor, which also calls ``handle``."""
        handler = self._class.__new__(self._class)
        handler.request = request  # type: ignore[assignment]  # the attributes of a RequestChannel that respond uses
        handler.client_address = client_address
        handler.server = self._server
        handler.setup()
        return handler

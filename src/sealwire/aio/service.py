"""What an asyncio server does with a connection: the same handlers as everywhere, or coroutines.

``respond`` is called for up to Limits.max_in_flight messages of a connection at a time: where it is a coroutine
function on the event loop, otherwise in a worker thread. No handler object has two messages at a time, so that it needs
no lock of its own: a connection with several messages under way has as many of them.

``handle`` has the connection for itself. Where it is no coroutine function it runs in a thread of its own, from the
first message on.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sealwire.aio.channel.server import AsyncServerChannel
from sealwire.aio.threaded import ThreadedChannel
from sealwire.aio.workers import Workers
from sealwire.errors import DecodeError, PayloadTooLarge, SealwireError
from sealwire.handler import RequestHandler, fault_code, report_failure
from sealwire.listening import address_text
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload, VerifiedPayload

logger = logging.getLogger("sealwire.server")

in_hand: contextvars.ContextVar[bool] = contextvars.ContextVar("sealwire_in_hand", default=False)
"""Whether this runs for a handler."""
_QUICK: Final = 16_384
"""Bytes of a message that may be decoded on the event loop."""


class Caller:
    """Who asks, and until when he waits: what ``respond`` finds as ``self.request`` on an asyncio server."""

    def __init__(self, channel: AsyncServerChannel) -> None:
        self.peer: PeerIdentity | None = channel.peer
        self.key_id = channel.key_id
        self.deadline: float | None = None


class Service:
    """A handler class, and the bounds of those that run. server: for the handlers; it has the ``security``."""

    def __init__(self, handler: type[RequestHandler], server: Any, workers: Workers) -> None:
        self._class = handler
        self._server = server
        self._security = server.security
        self._workers = workers
        self._limits = server.security.limits
        self._slots = asyncio.Semaphore(self._limits.max_in_flight_total)
        self._owns = handler.handle is not RequestHandler.handle or handler.__init__ is not RequestHandler.__init__
        self._on_loop = inspect.iscoroutinefunction(handler.handle if self._owns else handler.respond)

    async def converse(self, channel: AsyncServerChannel, client_address: Any) -> None:
        """Serve a connection until its end. Raises what the handler's own handle() does, and SealwireError."""
        if not self._owns:
            await self._answer_all(channel, client_address)
            return
        in_hand.set(True)
        if self._on_loop:
            handler = self._made(channel, client_address)
            try:
                await handler.handle()  # type: ignore[func-returns-value, misc]  # a coroutine function
            finally:
                handler.finish()
        elif (first := await channel.next_request()) is not None:
            threaded = ThreadedChannel(channel, first, channel.deadline)
            make: Callable[..., RequestHandler] = self._class
            await _in_thread(partial(make, threaded, client_address, self._server), address_text(client_address))

    async def _answer_all(self, channel: AsyncServerChannel, client_address: Any) -> None:
        free: list[RequestHandler] = []
        failure: SealwireError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._take_all(channel, client_address, group, free)
                except SealwireError as error:
                    failure = error
                if channel.ended:
                    # Nobody waits for what is still in hand; handlers finish all the same.
                    await channel.end()
        finally:
            for handler in free:
                await self._run(handler.finish)
        if failure is not None:
            raise failure

    async def _take_all(
        self, channel: AsyncServerChannel, client_address: Any, group: asyncio.TaskGroup, free: list[RequestHandler]
    ) -> None:
        turns = asyncio.Semaphore(self._limits.max_in_flight)

        def finished(_: asyncio.Task[None]) -> None:
            self._slots.release()
            turns.release()

        while True:
            await turns.acquire()
            request = await channel.next_request()
            if request is None:
                return
            deadline = channel.deadline
            await self._slots.acquire()
            if channel.take(request, deadline):
                answer = self._answer(channel, client_address, request, deadline, free)
                group.create_task(answer).add_done_callback(finished)
            else:
                self._slots.release()
                turns.release()
            del request

    async def _answer(
        self,
        channel: AsyncServerChannel,
        client_address: Any,
        request: Request,
        deadline: float | None,
        free: list[RequestHandler],
    ) -> None:
        """Answer a request; returns when the answer is on its way."""
        in_hand.set(True)
        try:
            try:
                message = await self._decode(request.payload)
            except DecodeError as error:
                logger.warning("%s: refused a message: %s", address_text(client_address), error)
                channel.send_fault(request.sequence, fault_code(error))
            else:
                await self._handle(channel, client_address, request.sequence, message, deadline, free)
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
        free: list[RequestHandler],
    ) -> None:
        handler: RequestHandler | None = None
        try:
            if free:
                handler = free.pop()
            else:
                handler = await self._run(partial(self._made, Caller(channel), client_address))
            handler.request.deadline = deadline
            payload = await self._respond(handler, message)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            report_failure(channel, sequence, client_address, error)
            return
        finally:
            if handler is not None:
                free.append(handler)
        try:
            channel.send_reply(sequence, payload)
        except PayloadTooLarge as error:
            logger.warning("%s: a reply was not sent: %s", address_text(client_address), error)

    async def _decode(self, payload: VerifiedPayload) -> Any:
        decode = partial(self._security.decode, payload)
        return decode() if len(payload) <= _QUICK else await self._workers.run(decode)

    async def _respond(self, handler: RequestHandler, message: Any) -> Payload:
        encode: Callable[[Any], Payload] = self._security.codec.encode_pieces
        if self._on_loop:
            return encode(await handler.respond(message))
        return await self._workers.run(lambda: encode(handler.respond(message)))

    async def _run(self, function: Callable[[], Any]) -> Any:
        """The handler's own methods, where all of them run."""
        return function() if self._on_loop else await self._workers.run(function)

    def _made(self, request: AsyncServerChannel | Caller, client_address: Any) -> RequestHandler:
        """A handler that is set up. (socketserver's constructor handles the connection as well.)"""
        handler = self._class.__new__(self._class)
        handler.request = request  # type: ignore[assignment]  # what of a ServerChannel it needs
        handler.client_address = client_address
        handler.server = self._server
        handler.setup()
        return handler


async def _in_thread(function: Callable[[], Any], name: str) -> None:
    """In a thread of its own. Who is cancelled meanwhile does not stop it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[BaseException | None] = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is gone, and nobody waits
            loop.call_soon_threadsafe(_settle, done, error)

    thread = threading.Thread(target=run, name=f"sealwire {name}", daemon=True)
    thread.start()
    error = await done
    thread.join()
    if error is not None:
        raise error


def _settle(done: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not done.done():
        done.set_result(error)

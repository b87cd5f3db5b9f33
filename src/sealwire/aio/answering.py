"""Answers the requests of one connection with ``respond``.

One task waits for requests (``_take_requests``); those that can be handled at once, the channel hands over in the
moment in which they come, and the task goes on waiting. Each request has a coroutine (``_answer``), which gets a task
only if it has to wait (:mod:`sealwire.aio.first_steps`).

Limits.max_in_flight bounds the requests in progress per connection, and Limits.max_in_flight_total per server. A
request is read only if there is a place of the first, so a client cannot queue more requests in this process's memory.
It keeps that place until its reply was passed to the transport, but gives the second one back when its handler returns.

A handler object works on one message at a time, so it needs no locks. A connection with several messages in progress
therefore has several handler objects; they are kept and used again (``_idle``).
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any

from sealwire.aio.first_steps import FirstSteps
from sealwire.aio.handler_calls import DeadlinePassed, HandlerCalls, RequestContext, in_handler
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import is_large
from sealwire.aio.turns import Places
from sealwire.computing import LONG
from sealwire.errors import DecodeError, PayloadTooLarge, SealwireError
from sealwire.handler import RequestHandler, refuse_message, report_failure
from sealwire.listeners import address_text
from sealwire.session.turns import ROUND
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode

logger = logging.getLogger("sealwire.server")


class Answering:
    """Answers the requests of one connection.

    Args:
        calls: Calls the handlers.
        places: The places of the server's requests.
        max_in_flight: Number of requests in progress, at most.
        channel: The connection.
        client_address: The client's address.
    """

    def __init__(
        self, calls: HandlerCalls, places: Places, max_in_flight: int, channel: AsyncServerChannel, client_address: Any
    ) -> None:
        self._calls = calls
        self._places = places
        self._free = max_in_flight
        self._freed: asyncio.Future[None] | None = None
        self._channel = channel
        self._share = channel.share
        self._client_address = client_address
        self._steps: FirstSteps
        self._idle: list[RequestHandler] = []

    @property
    def has_room(self) -> bool:
        """True if another request may be read."""
        return self._free > 0

    @property
    def is_ready(self) -> bool:
        """True if another request may be handed over now."""
        return self._free > 0 and self._places.is_free(self._share)

    async def serve(self) -> None:
        """Answer requests until the connection ends; return when all handlers have finished. Raises SealwireError."""
        channel = self._channel
        failure: SealwireError | None = None
        context = copy_context()
        context.run(in_handler.set, True)
        try:
            async with asyncio.TaskGroup() as group:
                self._steps = FirstSteps(group, context)
                channel.handlers = self
                try:
                    await self._take_requests()
                except SealwireError as error:
                    failure = error
                finally:
                    channel.handlers = None
                    self._steps.close()
                if channel.ended:
                    # Close at once, while the handlers in progress finish: no client waits for their replies.
                    await channel.end()
        finally:
            for handler in self._idle:
                await self._calls.run(handler.finish, self._share)
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its frames are these, and would keep the connection

    async def _take_requests(self) -> None:
        channel = self._channel
        task = asyncio.current_task()
        at_work = 0.0
        while True:
            if not self._free:
                self._freed = asyncio.get_running_loop().create_future()
                await self._freed
            request = await channel.next_request()
            if request is None:
                if self._free or channel.ended or channel.session.closing is not None:
                    return
                continue
            deadline = channel.deadline
            await self._places.acquire(self._share)
            begun = monotonic()
            self._begin(request, deadline, task)
            del request
            at_work += monotonic() - begun
            if at_work >= ROUND:
                at_work = 0.0
                await asyncio.sleep(0)  # handlers that do not wait must not keep others from their turns

    def hand_over(self, request: Request, deadline: float | None) -> None:
        """Handle a request until its handler has to wait. Call this if :attr:`is_ready`."""
        self._places.take(self._share)
        self._begin(request, deadline, None)

    def _begin(self, request: Request, deadline: float | None, task: asyncio.Task[Any] | None) -> None:
        if self._channel.start_handling(request, deadline):
            self._free -= 1
            self._steps.run(self._answer(request, deadline), task)
        else:
            self._places.release(self._share)
            self._channel.forget(request)

    async def _answer(self, request: Request, deadline: float | None) -> None:
        """Answer a request; return when the answer was passed to the transport.

        Only the connection's own bound waits for that. A client that takes no replies holds nothing that others need.
        """
        channel = self._channel
        try:
            try:
                if len(request.payload) <= LONG:
                    message = self._calls.decode(request.payload)
                else:
                    message = await self._calls.decode_in_thread(request.payload, self._share)
            except DecodeError as error:
                refuse_message(channel, request.sequence, self._client_address, channel.peer, error)
            else:
                await self._handle(request.sequence, message, deadline)
                del message
            finally:
                self._places.release(self._share)
                channel.forget(request)
            await channel.drained()
        except (SealwireError, TimeoutError) as error:
            logger.debug("%s: a reply was dropped: %s", address_text(self._client_address), error)
        finally:
            channel.session.finish_handling(monotonic())
            self._free += 1
            if self._freed is not None and not self._freed.done():
                self._freed.set_result(None)

    async def _handle(self, sequence: int, message: Any, deadline: float | None) -> None:
        channel, calls = self._channel, self._calls
        handler: RequestHandler | None = None
        try:
            if self._idle:
                handler = self._idle.pop()
            else:
                make = partial(calls.new_handler, RequestContext(channel), self._client_address)
                handler = await calls.run(make, self._share)
            handler.request.deadline = deadline
            if calls.on_loop:
                reply = await handler.respond(message)
                payload = await calls.encode_in_thread(reply, self._share) if is_large(reply) else calls.encode(reply)
                del reply
            else:
                payload = await calls.respond_in_thread(handler, message, deadline, self._share)
        except DeadlinePassed:
            channel.send_fault(sequence, FaultCode.DEADLINE_EXCEEDED)
            return
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            report_failure(channel, sequence, self._client_address, error)
            return
        finally:
            if handler is not None:
                self._idle.append(handler)
        try:
            channel.send_reply(sequence, payload)
        except PayloadTooLarge as error:
            logger.warning("%s: a reply was not sent: %s", address_text(self._client_address), error)

"""Answers the requests of one connection with ``respond``.

One task waits for requests (``_take_requests``). The channel hands over those that can be handled at once as soon as
they come, and the task goes on waiting. Each request has a coroutine (``_answer``), which gets a task
only if it has to wait (:mod:`sealwire.aio.first_steps`).

Limits.max_in_flight bounds the requests in progress per connection, and Limits.max_in_flight_total per server. A
request is read only if there is a place of the first, so a client cannot queue more requests in this process's memory.
It keeps that place until its reply was passed to the transport, but gives the second one back when its handler returns.

A *stream* is a request in parts, or one that may have a reply in parts. Streams last, so they have places of their own,
and the connection reads on while it has any, even without room: what they wait for comes behind other frames. A request
for which there is no place then is refused.

A handler that is a coroutine is cancelled with its request, and when its connection ends: no client waits for it.

A handler object works on one message at a time, so it needs no locks. A connection with several messages in progress
therefore has several handler objects; they are kept and used again (``_idle``).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from contextvars import copy_context
from time import monotonic
from types import AsyncGeneratorType
from typing import Any

from sealwire.aio.first_steps import FirstSteps
from sealwire.aio.handler_calls import DeadlinePassed, HandlerCalls, in_handler
from sealwire.aio.loop_turns import Places
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import is_large
from sealwire.computing import LONG
from sealwire.errors import ConnectionClosed, DecodeError, PayloadTooLarge, SealwireError
from sealwire.failures import answer_without_reply, refuse_message, refuse_reply
from sealwire.handler import RequestHandler
from sealwire.session.call_time import time_limit
from sealwire.session.parts import RequestCancelled
from sealwire.session.round_robin import ROUND
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode, Flag
from sealwire.wire.metadata import checked


class Answering:
    """Answers the requests of one connection.

    Args:
        calls: Calls the handlers.
        places: The places of the server's requests, and of its streams.
        max_in_flight: Number of requests in progress, at most.
        channel: The connection.
        client_address: The client's address.
    """

    def __init__(
        self,
        calls: HandlerCalls,
        places: tuple[Places, Places],
        max_in_flight: int,
        channel: AsyncServerChannel,
        client_address: Any,
    ) -> None:
        self._calls = calls
        self._places, self._stream_places = places
        self._free = max_in_flight
        self._streams = 0
        """The number of streams in progress."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The tasks of requests that wait, by their numbers."""
        self._yielding: set[int] = set()
        """The requests with async generators as their handlers."""
        self._ended_by_drain: set[int] = set()
        """Those of them that were cancelled because the connection closes."""
        self._freed: asyncio.Future[None] | None = None
        self._channel = channel
        self._contract = calls.contract(channel)
        self._share = channel.share
        self._client_address = client_address
        self._steps: FirstSteps
        self._idle: list[RequestHandler] = []

    @property
    def has_room(self) -> bool:
        """True if another frame may be read."""
        return self._streams > 0 or (self._free > 0 and self._channel.session.closing is None)

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
        context.run(time_limit.set, math.inf)
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
                    self._give_up_all()
                    # Close at once, while functions in threads finish: no client waits for their replies.
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
            if not self.has_room and channel.session.closing is None:
                self._freed = asyncio.get_running_loop().create_future()
                await self._freed
            request = await channel.next_request()
            if request is None:
                if self.has_room or channel.ended or channel.session.closing is not None:
                    return
                continue
            deadline = channel.deadline
            if request.flags or self._streams:
                self._begin_beside_streams(request, deadline, task)
                continue
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
        if request.flags:
            self._begin_beside_streams(request, deadline, None)
        else:
            self._places.take(self._share)
            self._begin(request, deadline, None)

    def _begin_beside_streams(self, request: Request, deadline: float | None, task: asyncio.Task[Any] | None) -> None:
        """Handle a stream, or another request beside streams, if there is a place for it."""
        places = self._stream_places if request.flags else self._places
        if places.is_free(self._share) and (request.flags or self._free > 0):
            places.take(self._share)
            self._begin(request, deadline, task)
        else:
            with suppress(ConnectionClosed):
                self._channel.refuse_request(request, "max_streams" if request.flags else "max_in_flight")
            self._channel.forget(request)

    def _begin(self, request: Request, deadline: float | None, task: asyncio.Task[Any] | None) -> None:
        if self._channel.start_handling(request, deadline):
            if request.flags:
                self._streams += 1
            else:
                self._free -= 1
            waiting = self._steps.run(self._answer(request, deadline), task)
            if waiting is not None:
                self._tasks[request.sequence] = waiting
        else:
            (self._stream_places if request.flags else self._places).release(self._share)
            self._channel.forget(request)

    def cancel(self, request: int) -> None:
        """Cancel the handler of a request, if it is a coroutine that waits."""
        task = self._tasks.get(request)
        if task is not None and self._calls.on_loop:
            task.cancel()

    def end_streams(self) -> None:
        """Cancel the handlers that yield parts, and wake those that wait for parts: the connection is closing."""
        for request in self._yielding - self._ended_by_drain:
            self._ended_by_drain.add(request)
            self.cancel(request)
        self._channel.wake_handlers()

    def _give_up_all(self) -> None:
        """Cancel all handlers, since the connection has ended."""
        for request in self._tasks:
            self.cancel(request)
        self._channel.cancel_contexts()
        self._channel.wake_handlers()

    async def _answer(self, request: Request, deadline: float | None) -> None:
        """Answer a request; return when the answer was passed to the transport.

        Only the connection's own bound waits for that. A client that takes no replies holds nothing that others need.
        """
        channel = self._channel
        try:
            try:
                if request.flags and request.flags & Flag.UPLOAD:
                    self._contract.expect_parts()
                    message = None  # its parts, when there is a handler
                elif len(request.payload) <= LONG:
                    message = self._contract.decode(request.payload)
                else:
                    message = await self._calls.decode_long(self._contract.decode, request.payload, self._share)
            except DecodeError as error:
                refuse_message(channel, request.sequence, error)
            except asyncio.CancelledError as error:
                self._answer_without_reply(request.sequence, None, error)
            else:
                await self._handle(request, message, deadline)
                del message
            finally:
                (self._stream_places if request.flags else self._places).release(self._share)
                channel.forget(request)
            await channel.drained()
        except (SealwireError, TimeoutError) as error:
            session = channel.session
            session.events.report("reply.dropped", session.source(request.sequence), f"a reply was dropped: {error}")
        finally:
            channel.session.finish_handling(monotonic())
            if self._tasks:
                self._tasks.pop(request.sequence, None)
            if request.flags:
                self._streams -= 1
                channel.look_again()
            else:
                self._free += 1
            if self._freed is not None and not self._freed.done():
                self._freed.set_result(None)

    async def _handle(self, request: Request, message: Any, deadline: float | None) -> None:
        channel, calls = self._channel, self._calls
        handler: RequestHandler | None = None
        try:
            if self._idle:
                handler = self._idle.pop()
            else:
                handler = await calls.run(calls.new_responder(channel, self._client_address), self._share)
            handler._current = request
            handler.request.deadline = deadline
            if deadline is not None:
                time_limit.set(deadline)
            if request.flags:
                handler.request.current = request  # type: ignore[attr-defined]  # a RespondChannel
                if request.flags & Flag.UPLOAD:
                    message = calls.message_in_parts(handler, request, self._share)
            if calls.on_loop:
                reply = handler.respond(message)
                if type(reply) is not AsyncGeneratorType:
                    reply = await reply
                if type(reply) is AsyncGeneratorType:
                    if request.flags:
                        self._yielding.add(request.sequence)
                    await calls.send_parts(handler, request, reply, self._share)
                    reply = None
                if is_large(reply):
                    payload = await calls.encode_in_thread(handler._encode, reply, self._share)
                else:
                    payload = handler._encode(reply)
                del reply
            else:
                payload = await calls.respond_in_thread(handler, request, message, deadline, self._share)
            metadata = None if handler._context is None else checked(handler._context.reply_metadata)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._answer_without_reply(request.sequence, message, error)
            return
        finally:
            if handler is not None:
                if request.flags or handler._context is not None:
                    self._forget(handler, request)
                handler._current = None
                self._idle.append(handler)
        try:
            channel.send_reply(request.sequence, payload, metadata)
        except PayloadTooLarge as error:
            refuse_reply(channel.session, request.sequence, error)

    def _forget(self, handler: RequestHandler, request: Request) -> None:
        handler._context = None
        handler.request.current = None  # type: ignore[attr-defined]  # likewise
        self._channel.forget_context(request.sequence)
        self._yielding.discard(request.sequence)

    def _answer_without_reply(self, request: int, message: Any, error: BaseException) -> None:
        """Send the FAULT for an error that the handler raised, or that ended it.

        Raises CancelledError if the server is cancelled, and an error of the connection.
        """
        channel = self._channel
        if isinstance(error, DeadlinePassed):
            channel.send_fault(request, FaultCode.DEADLINE_EXCEEDED)
            return
        if isinstance(error, asyncio.CancelledError):
            error = self._reason_of_cancellation(request, error)
        if isinstance(error, SealwireError) and channel.ended:
            raise error  # while the handler took or gave a part
        answer_without_reply(channel, request, message, error)

    def _reason_of_cancellation(self, request: int, error: asyncio.CancelledError) -> BaseException:
        """Return the error for a handler that was cancelled, or that raised CancelledError of itself."""
        task = asyncio.current_task()
        assert task is not None  # this runs in one
        reason: BaseException = error
        if self._channel.is_cancelled(request) or self._channel.ended:
            reason = RequestCancelled()
        elif request in self._ended_by_drain:
            self._ended_by_drain.discard(request)
            reason = RequestCancelled(draining=True)
        elif task.cancelling():
            raise error
        task.uncancel()
        return reason

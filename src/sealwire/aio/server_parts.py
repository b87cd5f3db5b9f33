"""A server's end of a connection on asyncio, as far as it is about parts, cancellation and the contexts of requests.

The task that takes events *notes* those that belong to a request: a part goes to the handler that takes it, credit to
the one that waits for it, and a cancellation to the context of the request and to its task.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

from sealwire.aio.byte_stream import settle
from sealwire.aio.counted_channel import CountedChannel
from sealwire.session import explain
from sealwire.session.buffers import STEP
from sealwire.session.context import CancelEvent, Context
from sealwire.session.parts import PartOverdue, RequestCancelled, Upload
from sealwire.session.requests import AnswerChannel
from sealwire.wire.events import Cancelled, Credited, Event, Part, PartsEnded, Request
from sealwire.wire.frames import Flag, Payload, VerifiedPayload
from sealwire.wire.server import ServerProtocol


class PartsChannel(CountedChannel, AnswerChannel):
    """The part of a server's end that the handlers of ``respond`` use while they are at work.

    Attributes:
        state: The state of the connection, for handlers.
    """

    _protocol: ServerProtocol
    _uploads: dict[int, Upload]
    _contexts: dict[int, Context]
    """The contexts that handlers of requests in progress have asked for."""
    _waiters: dict[int, list[asyncio.Future[bool]]]
    """The futures of the handlers that wait for credit or for a part, by request."""

    def _prepare_parts(self) -> None:
        self._uploads = {}
        self._contexts = {}
        self._waiters = {}
        self.state = SimpleNamespace()

    @abstractmethod
    def _cancel_handler(self, request: int) -> None:
        """Cancel the handler of a request, if it is a coroutine."""

    # For handlers

    def context(
        self, request: Request, client_address: Any, deadline: float | None, new_event: Callable[[], CancelEvent]
    ) -> Context:
        """Return the context of a request that is handled. In any thread."""
        context = Context(
            request,
            session=self.session,
            client_address=client_address,
            deadline=deadline,
            connection=self.state,
            request_id=self.request_id(request.sequence),
            new_event=new_event,
        )
        self._contexts[request.sequence] = context
        if request.sequence in self._protocol.cancelled or self.ended:
            context.cancel()
        return context

    def renew_deadline(self, request: int, deadline: float) -> None:
        """Note that the client of a request waits longer, since it got a part, or sent one."""
        if (context := self._contexts.get(request)) is not None:
            context.deadline = deadline

    def request_id(self, request: int) -> str:
        """Return the id for logs of a request, by its number."""
        return self._protocol.request_id(request)

    def accepts_parts(self, request: int) -> bool:
        """Return True if the reply to a request may come in parts."""
        return self._protocol.accepts_parts(request)

    def is_cancelled(self, request: int) -> bool:
        """Return True if the client does not want the reply to an unanswered request. In any thread."""
        return request in self._protocol.cancelled

    def check_wanted(self, request: int) -> None:
        """Raise RequestCancelled or ConnectionClosed if no client waits for the reply to a request. In any thread."""
        if self.ended:
            raise explain.dropped_reply()
        if request in self._protocol.cancelled:
            raise RequestCancelled

    async def send_part(self, request: int, payload: Payload) -> None:
        """Send a part of the reply to a request; wait for credit first, and then until the transport has taken it.

        Raises:
            RequestCancelled: The client does not want the rest, or the server drains.
            PayloadTooLarge: The part is over the client's limit.
            DeadlineExceeded: The client made no room for it in time.
            ConnectionClosed: The connection has ended.
        """
        self._check_goes_on(request)
        if not self._protocol.may_send_part(request):
            deadline = monotonic() + self._limits.part_timeout
            while not self._protocol.may_send_part(request):
                await self._wait_for_change(request, deadline)
        self._protocol.send_part(request, payload)
        self.session.note_part(payload)
        self._unsent_bytes += sum(map(len, payload)) if isinstance(payload, list) else len(payload)
        if self._unsent_bytes >= STEP:
            self._count_held()
            self._flush()
        else:
            self.flush_soon()
        await self.drained()

    async def next_part(self, request: int) -> VerifiedPayload | None:
        """Return the next part of a request; None after the last one.

        Raises RequestCancelled, DeadlineExceeded, ConnectionClosed.
        """
        upload = self._uploads.get(request)
        if upload is None:
            raise explain.dropped_reply()
        deadline = monotonic() + self._limits.part_timeout
        while not upload.parts and not upload.is_complete:
            await self._wait_for_change(request, deadline)
        if not upload.parts:
            return None
        payload = upload.parts.popleft()
        self._in_hand -= len(payload)
        if self._holding.counted:
            self._count_held()
        if not self.ended:
            self._protocol.note_processed(request, len(payload))
            if self._protocol.queued:
                self.flush_soon()
        return payload

    def _check_goes_on(self, request: int) -> None:
        self.check_wanted(request)
        if self.session.closing is not None:
            raise RequestCancelled(draining=True)

    async def _wait_for_change(self, request: int, deadline: float) -> None:
        """Wait until something has come for a request. Raises RequestCancelled, DeadlineExceeded, ConnectionClosed."""
        self._check_goes_on(request)
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters.setdefault(request, []).append(waiter)
        timer = self._loop.call_later(max(0.0, deadline - monotonic()), settle, waiter, False)
        try:
            if not await waiter:
                raise PartOverdue
        finally:
            timer.cancel()
            if waiter in (waiting := self._waiters.get(request, [])):
                waiting.remove(waiter)
                if not waiting:
                    del self._waiters[request]
        self._check_goes_on(request)

    # Notes

    def _note_upload(self, request: Request) -> None:
        if request.flags & Flag.UPLOAD:
            self._uploads[request.sequence] = Upload()

    def _note(self, event: Event) -> None:
        """Note an event that belongs to a request."""
        if isinstance(event, Part):
            self._note_part(event)
        elif isinstance(event, PartsEnded):
            if event.request in self._uploads:
                self._uploads[event.request].is_complete = True
        elif isinstance(event, Cancelled):
            if (context := self._contexts.get(event.request)) is not None:
                context.cancel()
            self._cancel_handler(event.request)
        elif not isinstance(event, Credited):
            return
        self._wake_handler(event.request)

    def _note_part(self, part: Part) -> None:
        upload = self._uploads.get(part.request)
        if upload is None:  # its handler was cancelled with the server
            return
        upload.parts.append(part.payload)
        self._in_hand += len(part.payload)
        if self._in_hand >= STEP:
            self._count_held()

    def _wake_handler(self, request: int) -> None:
        for waiter in self._waiters.pop(request, ()):
            settle(waiter, True)

    def wake_handlers(self) -> None:
        """Let handlers that wait for credit or a part see that the connection ends, or closes."""
        for request in list(self._waiters):
            self._wake_handler(request)

    def look_again(self) -> None:
        """Let the task that takes requests see that a stream has ended: perhaps the last that it read on for."""
        self._wake()

    def cancel_contexts(self) -> None:
        """Set the ``cancelled`` of all requests in progress, since the connection has ended."""
        for context in list(self._contexts.values()):
            context.cancel()

    def forget_context(self, request: int) -> None:
        """Forget the context of a request after its handler has returned."""
        self._contexts.pop(request, None)

    def forget(self, request: Request) -> None:
        """Stop counting a request's bytes, and drop those of its parts that were not taken."""
        self._in_hand -= len(request.payload)
        if request.flags and (upload := self._uploads.pop(request.sequence, None)) is not None:
            self._in_hand -= sum(map(len, upload.parts))
        if self._holding.counted:
            self._count_held()

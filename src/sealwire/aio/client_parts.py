"""A client's end of a connection on asyncio, as far as it is about parts, cancellation and metadata.

An *exchange* is a request in parts, or one that may have a reply in parts. It shares the connection with other
requests: the parts that come for it are kept, within the credit that the server has, until its task takes them.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from time import monotonic

from sealwire.aio.byte_stream import settle
from sealwire.aio.pump import AsyncChannel
from sealwire.errors import ConnectionClosed, DeadlineExceeded, SealwireError
from sealwire.session import explain, misuse
from sealwire.session.call_metadata import sendable
from sealwire.session.client import ClientSession
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Credited, Event, Part, Reply
from sealwire.wire.frames import Flag, Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata

_PATIENCE = 0.1
"""Seconds for which the next request waits for the answer to a cancelled one, before it goes over a new connection."""


class ClientPartsChannel(AsyncChannel):
    """The part of a client's end for exchanges and cancelled requests.

    Attributes:
        end_error: The error for requests since no more replies can come; None while they can.
    """

    _protocol: ClientProtocol
    _session: ClientSession
    _address: str
    _replies: dict[int, asyncio.Future[VerifiedPayload]]
    end_error: SealwireError | None

    def _prepare_parts(self) -> None:
        self._exchanges: dict[int, Exchange] = {}
        self._reply_metadata: dict[int, dict[str, str]] = {}
        """The dicts to fill with the metadata of replies, by request."""
        self._room_waiters: list[asyncio.Future[bool]] = []
        """The futures of requests that wait until fewer are unanswered."""
        self._last_heard = 0.0
        """The time of the server's last frame."""
        self._doubted_since = -math.inf
        """The time since which the server must have been heard before another request is made."""
        self._doubted_request = 0
        """The cancelled request whose answer would do as well. If 0, with an infinite time, the connection is left."""
        self._hearing: asyncio.Future[bool] | None = None

    def _send(
        self, payload: Payload, wait: float | None, metadata: Metadata | None = None, flags: int = 0
    ) -> tuple[int, asyncio.Future[VerifiedPayload]]:
        raise NotImplementedError

    @property
    def at_once(self) -> int:
        """The number of requests of a connection that the server works on at a time; 0 if it does not know parts."""
        return self._protocol.features.at_once

    @property
    def is_idle(self) -> bool:
        """True if no request is in flight."""
        return not self._replies

    # Cancellation

    def _cancel(self, request: int) -> None:
        """Give up a request, and tell the server."""
        if self.end_error is None and not self.ended:
            self._protocol.cancel(request)
            self.flush_soon()
            if self.at_once == 1:
                self._doubted_since, self._doubted_request = math.inf, request  # others would wait for its handler
        else:
            self._protocol.give_up(request)

    def _doubt(self, request: int, begun: float) -> None:
        """Note that a request's time ran out; a connection that has brought nothing since is perhaps broken.

        If the server is told that the request is cancelled, its answer shows that the connection works.
        """
        if self._last_heard < begun and not (self._doubted_since == math.inf and not self._doubted_request):
            can_tell = self._protocol.features.cancel and request
            self._doubted_since = max(self._doubted_since, monotonic() if can_tell else math.inf)
            self._doubted_request = request if can_tell else 0

    @property
    def _is_doubted(self) -> bool:
        return self._last_heard < self._doubted_since and (
            not self._doubted_request or self._protocol.is_unanswered(self._doubted_request)
        )

    async def reassure(self) -> None:
        """Wait a moment for a sign of life, if the connection is perhaps broken, or a cancelled request holds it up."""
        deadline = monotonic() + _PATIENCE
        while self._is_doubted and self._doubted_request and self.end_error is None and not self.ended:
            if self._hearing is None or self._hearing.done():
                self._hearing = self._loop.create_future()
            timer = self._loop.call_later(max(0.0, deadline - monotonic()), settle, self._hearing, False)
            try:
                if not await asyncio.shield(self._hearing):
                    break
            finally:
                timer.cancel()

    def _heard(self) -> None:
        if self._hearing is not None:
            settle(self._hearing, True)
            self._hearing = None

    # Exchanges

    async def begin(self, payload: Payload, deadline: float, metadata: Metadata | None, flags: Flag) -> Exchange:
        """Send a request in parts, or one that may have a reply in parts.

        Raises FeatureNotSupported, PayloadTooLarge, DeadlineExceeded, ConnectionLost.
        """
        if not self._protocol.features.parts:
            raise misuse.not_in_parts(self._address)
        metadata = sendable(metadata, self._protocol.features, self._address)
        await self._wait_for_room(deadline)
        if self.end_error is not None or self.ended:
            closed = ConnectionClosed("the connection ended before the request was sent")
            raise self._session.lost(closed, None)
        sequence, reply = self._send(payload, max(0.0, deadline - monotonic()), metadata, flags)
        exchange = self._exchanges[sequence] = Exchange(self, sequence, reply)
        self._reply_metadata[sequence] = exchange.metadata
        return exchange

    async def _wait_for_room(self, deadline: float) -> None:
        """Wait until the server works on fewer requests than it can: beside parts, no more may be unanswered."""
        while self._protocol.unanswered >= self.at_once and self.end_error is None and not self.ended:
            waiter: asyncio.Future[bool] = self._loop.create_future()
            self._room_waiters.append(waiter)
            timer = self._loop.call_later(max(0.0, deadline - monotonic()), settle, waiter, False)
            try:
                if not await waiter:
                    raise explain.other_requests()
            finally:
                timer.cancel()

    def _note(self, event: Event) -> None:
        """Note an event that belongs to an exchange, and is not its answer."""
        if isinstance(event, Part):
            if (exchange := self._exchanges.get(event.request)) is not None:
                exchange.parts.append(event.payload)
                exchange.wake()
        elif isinstance(event, Credited) and (exchange := self._exchanges.get(event.request)) is not None:
            exchange.wake()

    def _note_metadata(self, event: Event) -> None:
        if type(event) is Reply and (wanted := self._reply_metadata.pop(event.request, None)) is not None:
            wanted.update(event.metadata or {})

    def _wake_all(self) -> None:
        """Let tasks see that there is room for requests, or that the connection has ended."""
        waiters, self._room_waiters = self._room_waiters, []
        for waiter in waiters:
            settle(waiter, True)

    def grant(self, request: int, size: int) -> None:
        """Give the server credit for a part of ``size`` bytes that was taken."""
        if self.end_error is None and not self.ended:
            self._protocol.note_processed(request, size)
            if self._protocol.queued:
                self.flush_soon()

    def end_parts(self, request: int) -> None:
        """Send the end of a request's parts."""
        if self.end_error is None and not self.ended:
            self._protocol.end_parts(request)
            self.flush_soon()

    async def send_part(self, request: int, payload: Payload, deadline: float) -> bool:
        """Send a part of a request if there is credit for it; return False if there is none.

        Raises PayloadTooLarge, DeadlineExceeded.
        """
        if self.ended or not self._protocol.may_send_part(request):
            return False
        self._protocol.send_part(request, payload)
        self.flush_soon()
        if self._full or self._unsent:
            try:
                async with asyncio.timeout(deadline - monotonic()):
                    with suppress(ConnectionClosed, DeadlineExceeded):  # which the missing reply reports
                        await self.drained()
            except TimeoutError:
                raise explain.not_taken(sent=True) from None
        return True

    def lost_in(self, closed: ConnectionClosed, request: int) -> SealwireError:
        """Return the error for an exchange that was in progress when the connection ended."""
        if self._is_parents:
            return explain.forked()
        return self._session.lost(closed, request if self._was_sent(request) else None)

    def _was_sent(self, sequence: int | None) -> bool:
        """Return True if the whole request was passed to TLS."""
        return sequence is not None and self._frames_sent > sequence

    def late(self, request: int, begun: float) -> DeadlineExceeded:
        """Return the error for an exchange in which the server let the time run out since ``begun``."""
        self._doubt(request, begun)
        return explain.no_reply(self._address, sent=True)

    def end_exchange(self, request: int) -> None:
        """Forget an exchange; cancel its request if it is unanswered, and end its parts."""
        self._exchanges.pop(request, None)
        self._reply_metadata.pop(request, None)
        if self._replies.pop(request, None) is not None:
            self._cancel(request)
        else:
            self.end_parts(request)


class Exchange:
    """A request in parts, or one that may have a reply in parts, on a connection.

    Args:
        channel: The connection.
        request: The number of the request.
        reply: The future of the reply.

    Attributes:
        channel: As given.
        reply: As given.
        parts: The parts of the reply that have come and were not taken.
        metadata: The metadata of the reply, when it has come.
    """

    def __init__(self, channel: ClientPartsChannel, request: int, reply: asyncio.Future[VerifiedPayload]) -> None:
        self.channel = channel
        self.reply = reply
        self.parts: deque[VerifiedPayload] = deque()
        self.metadata: dict[str, str] = {}
        self._request = request
        self._changed: asyncio.Future[bool] | None = None
        reply.add_done_callback(self.wake)

    def wake(self, _: object = None) -> None:
        """Let the task see that something has come."""
        if self._changed is not None:
            settle(self._changed, True)

    async def next_part(self, deadline: float) -> VerifiedPayload | None:
        """Return the next part of the reply; None if the reply itself is next, or the error in its place.

        Raises DeadlineExceeded.
        """
        while not self.parts:
            if self.reply.done():
                return None
            await self._wait(deadline)
        return self.parts.popleft()

    async def answer(self, deadline: float) -> VerifiedPayload:
        """Return the reply. Raises RemoteError, DeadlineExceeded, ConnectionLost, RemoteProtocolError."""
        while not self.reply.done():
            await self._wait(deadline)
        try:
            return self.reply.result()
        except ConnectionClosed as closed:
            raise self.channel.lost_in(closed, self._request) from None

    async def send_part(self, payload: Payload, deadline: float) -> bool:
        """Send a part of the request when there is credit; return False if the answer comes before.

        Raises PayloadTooLarge, DeadlineExceeded.
        """
        while not self.reply.done():
            if await self.channel.send_part(self._request, payload, deadline):
                return True
            await self._wait(deadline)
        return False

    def grant(self, size: int) -> None:
        """Give the server credit for a part of ``size`` bytes that was taken."""
        self.channel.grant(self._request, size)

    def end_parts(self) -> None:
        """Send the end of the request's parts."""
        self.channel.end_parts(self._request)

    def end(self) -> None:
        """Cancel the request if it is unanswered."""
        self.channel.end_exchange(self._request)

    async def _wait(self, deadline: float) -> None:
        """Wait until something has come. Raises DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        begun = monotonic()
        changed = self._changed = loop.create_future()
        timer = loop.call_later(max(0.0, deadline - begun), settle, changed, False)
        try:
            if not await changed:
                raise self.channel.late(self._request, begun)
        finally:
            timer.cancel()
            self._changed = None

"""Requests and replies in parts, for clients on asyncio.

They share the client's connection with its other requests, as long as the server works on several at a time; otherwise
each has a connection of its own until its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.client_parts import Exchange
from sealwire.errors import ConnectionClosed, LimitExceeded
from sealwire.fork import this_process
from sealwire.retry import Resend, outcome_unknown
from sealwire.session import explain, misuse
from sealwire.session.call_time import CallTime, time_limit
from sealwire.session.client import ConnectionLost
from sealwire.session.parts import Ending, PartsOfReply
from sealwire.session.round_robin import ROUND
from sealwire.wire.frames import Flag, Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata


class Holder(Protocol):
    """The connections of a client, or a place in a pool."""

    def lend(self, channel: AsyncClientChannel, /) -> None:
        """Give a connection to one request or reply in parts, until :meth:`give_back`."""

    def give_back(self, channel: AsyncClientChannel, /) -> None:
        """Take a connection back."""

    def end(self) -> None:
        """Note that the request has ended."""

    def call_soon(self, function: Callable[[], None], /) -> object:
        """Call a function in the event loop, from any thread, if it runs."""


class Lender(Protocol):
    """The client, for its requests and replies in parts."""

    timeout: float

    def _here(self) -> Any:
        """Return the holder of the connections in the running event loop."""

    async def _connection(self, connections: Any, time: CallTime) -> AsyncClientChannel:
        """Return a connection for new requests."""

    async def _open(self, deadline: float) -> AsyncClientChannel:
        """Make another connection."""

    async def _encoded(self, connections: Any, data: Any, deadline: float) -> Payload:
        """Return an encoded message."""

    async def _decoded(self, connections: Any, payload: VerifiedPayload) -> Any:
        """Return a decoded message."""

    async def _look(self, resend: Resend, lost: ConnectionLost) -> None:
        """Decide if a lost request is sent again; return if so."""


class Borrowed:
    """A connection for one request or reply in parts: the client's, or one of its own.

    Args:
        client: The client.
        wait: Seconds for each part, and for the reply.
        metadata: The metadata of the request.
    """

    def __init__(self, client: Lender, wait: float, metadata: Metadata | None) -> None:
        self._client = client
        self._wait = wait
        self._sent_metadata = metadata
        self._connections: Holder = client._here()
        self._own: AsyncClientChannel | None = None
        self.exchange: Exchange | None = None

    @property
    def deadline(self) -> float:
        """The time until which the caller waits from now on."""
        return min(monotonic() + self._wait, time_limit.get())

    async def encoded(self, data: Any) -> Payload:
        """Return an encoded message. Raises EncodeError, DeadlineExceeded."""
        return await self._client._encoded(self._connections, data, self.deadline)

    async def decoded(self, payload: VerifiedPayload) -> Any:
        """Return a decoded message. Raises DecodeError."""
        return await self._client._decoded(self._connections, payload)

    async def begin(self, payload: Payload, time: CallTime, flags: Flag) -> Exchange:
        """Send the request. Raises like :meth:`AsyncClient.send_request`, and FeatureNotSupported."""
        channel = await self._client._connection(self._connections, time)
        if channel.at_once == 1:
            if not channel.is_idle:
                channel = await self._client._open(time.begin_connecting(monotonic()))
            self._connections.lend(channel)
            self._own = channel
        self.exchange = await channel.begin(payload, self.deadline, self._sent_metadata, flags)
        return self.exchange

    def end(self) -> None:
        """Cancel the request if it is unanswered, and give the connection back."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.end()
        own, self._own = self._own, None
        if own is not None:
            self._connections.give_back(own)
        self._connections.end()

    def end_soon(self) -> None:
        """Do the same from any thread, if the event loop runs."""
        self._connections.call_soon(self.end)


class AsyncPartStream(Ending, AsyncIterator[Any]):
    """The parts of a reply: an async iterator, and an async context manager that ends it; see a client's ``stream``.

    Attributes:
        result: After the last part, the reply itself: what the handler returned. None before.
        metadata: The reply's metadata, after the last part.
    """

    def __init__(
        self,
        lender: Callable[[bool], Lender],
        request: Any,
        *,
        wait: float,
        metadata: Metadata | None,
        idempotent: bool,
        most: int,
        around: Callable[[Callable[..., Awaitable[PartsOfReply]]], Awaitable[None]] | None,
    ) -> None:
        super().__init__()
        self._lender = lender
        self._around = around
        self._request = request
        self._wait = wait
        self._metadata = metadata
        self._idempotent = idempotent
        self._most = most
        self._count = 0
        self._untaken = 0
        """Bytes of the part that the caller is working on."""
        self._borrowed: Borrowed | None = None
        self._process = this_process()
        self._ended = False
        self._is_busy = False
        self.result: Any = None
        self.metadata: dict[str, str] = {}

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._is_busy:
            raise misuse.stream_in_use()
        self._is_busy = True
        try:
            payload = await self._next()
            if payload is not None:
                self._count_part(payload)
                return await self._in_use.decoded(payload)
            self.result, metadata = await self._reply()
            self.metadata.update(metadata)
        except BaseException as error:
            self._end(error)
            raise
        finally:
            self._is_busy = False
        self._end(None)
        raise StopAsyncIteration

    def _count_part(self, payload: VerifiedPayload) -> None:
        self._count += 1
        if self._count > self._most:
            raise LimitExceeded(f"max_parts: the reply has more than {self._most} parts")
        self._untaken = len(payload)

    async def aclose(self) -> None:
        """End the stream: tell the server that the rest is not wanted. Does nothing after its end."""
        self._end(GeneratorExit())

    def _end(self, error: BaseException | None) -> None:
        self._ended = True
        borrowed, self._borrowed = self._borrowed, None
        if borrowed is not None:
            borrowed.end()
        self._done(error)

    def __del__(self) -> None:
        borrowed = getattr(self, "_borrowed", None)
        if borrowed is not None and self._process is this_process():
            borrowed.end_soon()

    @property
    def _in_use(self) -> Borrowed:
        if self._borrowed is None:
            raise explain.closed_here()  # by aclose, in another task
        return self._borrowed

    async def _next(self) -> VerifiedPayload | None:
        """Return the next part; None if the reply itself, or an error in its place, is next."""
        if self._borrowed is None:
            return await self._first()
        exchange = self._borrowed.exchange
        assert exchange is not None  # it has begun
        exchange.grant(self._untaken)
        self._untaken = 0
        return await exchange.next_part(self._borrowed.deadline)

    async def _first(self) -> VerifiedPayload | None:
        """Send the request and return the first part; again on another connection if the rules permit."""
        if self._around is not None:
            await self._around(self._prepare)
        client = self._lender(self._idempotent)
        time = CallTime(timeout=client.timeout, wait=self._wait, now=monotonic())
        borrowed = self._borrowed = Borrowed(client, self._wait, self._metadata)
        payload = await borrowed.encoded(self._request)
        self._request = None
        resend: Resend | None = None
        while True:
            try:
                exchange = await borrowed.begin(payload, time, Flag.PARTS)
                part = await exchange.next_part(borrowed.deadline)
                if part is None and _is_lost(exchange):
                    await exchange.answer(0.0)
            except ConnectionLost as lost:
                borrowed.end()
                resend = resend or Resend(borrowed.deadline, idempotent=self._idempotent)
                await client._look(resend, lost)
            else:
                return part

    async def _prepare(
        self,
        request: Any,
        _: float,
        idempotent: bool,
        metadata: Metadata | None,
        reply_metadata: dict[str, str],
    ) -> Self:
        """Take what middleware passed on."""
        self._request, self._idempotent, self._metadata = request, idempotent, metadata
        self.metadata = reply_metadata
        return self

    async def _reply(self) -> tuple[Any, dict[str, str]]:
        borrowed = self._in_use
        exchange = borrowed.exchange
        assert exchange is not None  # it has begun
        try:
            payload = await exchange.answer(borrowed.deadline)
        except ConnectionLost as lost:
            raise ConnectionClosed(str(lost), code=lost.code, last=lost.last) from None
        return await borrowed.decoded(payload), exchange.metadata


def _is_lost(exchange: Exchange) -> bool:
    return exchange.reply.done() and isinstance(exchange.reply.exception(), ConnectionClosed)


async def send_parts(
    borrowed: Borrowed, parts: Iterable[Any] | AsyncIterable[Any], time: CallTime
) -> tuple[VerifiedPayload, dict[str, str]]:
    """Send a request in parts; return the payload of the reply, and its metadata.

    Raises RemoteError, any other error of a request, and any exception of the iterable.
    """
    try:
        exchange = await borrowed.begin(b"", time, Flag.UPLOAD)
        turn_end = monotonic() + ROUND
        async with aclosing(_each(parts)) as items:
            async for item in items:
                if not await exchange.send_part(await borrowed.encoded(item), borrowed.deadline):
                    break
                if monotonic() >= turn_end:
                    await asyncio.sleep(0)  # parts for which there is credit must not keep others from the loop
                    turn_end = monotonic() + ROUND
        exchange.end_parts()
        return await exchange.answer(borrowed.deadline), exchange.metadata
    except ConnectionLost as lost:
        if lost.unprocessed:
            raise ConnectionClosed(str(lost), code=lost.code, last=lost.last) from None
        raise outcome_unknown(lost) from None
    finally:
        borrowed.end()


async def _each(parts: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part

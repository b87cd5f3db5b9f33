"""Messages and replies in parts, for ``respond`` on asyncio; :mod:`sealwire.handler_parts` has the others.

A coroutine function and an async generator function take and give parts on the event loop. An ordinary function and a
generator function do so in a thread of its own: one that waits for its client's parts or credit must not hold a thread
that other requests need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from time import monotonic
from typing import Any, Self, TypeVar

from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.errors import DecodeError
from sealwire.handler_parts import AnswersInParts, PartsOfMessage
from sealwire.session.call_time import time_limit
from sealwire.session.context import CancelEvent, Context
from sealwire.session.round_robin import ROUND
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload, VerifiedPayload

_T = TypeVar("_T")


class RespondChannel:
    """The ``self.request`` of ``respond`` on an asyncio server: the client's identity, and the request that is handled.

    Its methods for parts are those of RequestChannel, for functions in threads.

    Args:
        channel: The connection.
        new_event: Returns a new event for ``Context.cancelled``.

    Attributes:
        current: The request, if it has parts or its reply may have.
        deadline: The time at which its client stops waiting; None if the client did not say.
    """

    def __init__(self, channel: AsyncServerChannel, new_event: Callable[[], CancelEvent]) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._new_event = new_event
        self._turn_end = 0.0
        self.security = channel.security
        self.peer: PeerIdentity | None = channel.peer
        self.key_id = channel.key_id
        self.deadline: float | None = None
        self.current: Request | None = None

    def context(self, request: Request, client_address: Any) -> Context:
        """Return the context of the request that is handled."""
        return self._channel.context(request, client_address, self.deadline, self._new_event)

    def accepts_parts(self, request: int) -> bool:
        """Return True if the reply to a request may come in parts."""
        return self._channel.accepts_parts(request)

    def check_wanted(self, request: int) -> None:
        """Raise RequestCancelled or ConnectionClosed if no client waits for the reply to a request."""
        self._channel.check_wanted(request)

    def send_part(self, request: int, payload: Payload) -> None:
        """Send a part of the reply to a request, from a thread. Raises like PartsChannel.send_part."""
        self._call(self._channel.send_part(request, payload))
        self._renew()

    def next_part(self, request: int) -> VerifiedPayload | None:
        """Return the next part of a request, in a thread; None after the last one. Raises like PartsChannel."""
        payload = self._call(self._channel.next_part(request))
        self._renew()
        return payload

    async def send_part_soon(self, request: int, payload: Payload) -> None:
        """Send a part of the reply to a request, on the event loop."""
        await self._channel.send_part(request, payload)
        await self._let_others()
        self._renew()

    async def take_part(self, request: int) -> VerifiedPayload | None:
        """Return the next part of a request, on the event loop; None after the last one."""
        payload = await self._channel.next_part(request)
        await self._let_others()
        self._renew()
        return payload

    def _call(self, step: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    def _renew(self) -> None:
        """Count the client's wait again after a part."""
        if self.current is not None and self.current.wait is not None:
            self.deadline = monotonic() + self.current.wait
            self._channel.renew_deadline(self.current.sequence, self.deadline)
            time_limit.set(self.deadline)

    async def _let_others(self) -> None:
        """Let others have the loop, after each round: a part for which nothing waits must not keep them from it."""
        if monotonic() >= self._turn_end:
            await asyncio.sleep(0)
            self._turn_end = monotonic() + ROUND


class AsyncMessageParts(PartsOfMessage, AsyncIterator[Any]):
    """The message of a request in parts: an async iterator over them, each decoded.

    Args:
        channel: The channel of the handler.
        request: The number of the request.
        decode: Returns the value of a part, or raises DecodeError.
        most: Number of parts, at most.
    """

    def __init__(
        self,
        channel: RespondChannel,
        request: int,
        decode: Callable[[VerifiedPayload], Coroutine[Any, Any, Any]],
        most: int,
    ) -> None:
        super().__init__(most)
        self._channel = channel
        self._request = request
        self._decode = decode

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self.error is not None:
            raise self.error
        payload = await self._channel.take_part(self._request)
        if payload is None:
            raise StopAsyncIteration
        self._count_part()
        try:
            return await self._decode(payload)
        except DecodeError as error:
            self.error = error
            raise


async def send_async_parts(
    channel: RespondChannel,
    request: int,
    generator: AsyncGenerator[Any, None],
    encode: Callable[[Any], Coroutine[Any, Any, Payload]],
    most: int,
) -> None:
    """Send the values of an async generator as the parts of a reply; the reply itself is None.

    Raises:
        AnswersInParts: The client did not ask for parts, and there are some.
        RequestCancelled: The client does not want the rest, or the server drains.
        RuntimeError: The handler yields more than ``most`` parts.
        Exception: Any of the handler, EncodeError, and any of :meth:`PartsChannel.send_part`.
    """
    accepted = channel.accepts_parts(request)
    count = 0
    try:
        async for part in generator:
            count += 1
            if not accepted:
                raise AnswersInParts
            if count > most:
                raise RuntimeError(f"max_parts: the handler yields more than {most} parts")
            await channel.send_part_soon(request, await encode(part))
    finally:
        await generator.aclose()

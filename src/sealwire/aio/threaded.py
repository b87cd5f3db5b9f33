"""A connection of the event loop's, for a handler in a thread: the article's ``def handle(self)``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sealwire.aio.channel.server import AsyncServerChannel
from sealwire.channel.requests import Requests
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload

_T = TypeVar("_T")


class ThreadedChannel(Requests):
    """What such a handler is given as ``self.request``; first: the request that has come already,
    and ``deadline`` its own."""

    def __init__(self, channel: AsyncServerChannel, first: Request, deadline: float | None) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._first: Request | None = first
        self.deadline = deadline
        self.peer = channel.peer
        self.key_id = channel.key_id

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._channel.ended

    @property
    def oldest_unanswered(self) -> int | None:
        """The request that has waited longest for its answer."""
        return self._channel.oldest_unanswered

    def next_request(self) -> Request | None:
        """The next request; None at the connection's clean end. Raises like ServerChannel.next_request."""
        request, self.deadline = self._call(self._next_request())
        return request

    def send_reply(self, request: int, payload: Payload) -> None:
        """Answer a request. Raises like ServerChannel.send_reply."""
        self._call(self._send_reply(request, payload))

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT. Raises like ServerChannel.send_fault."""
        self._call(self._send_fault(request, code, text))

    def _call(self, step: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _next_request(self) -> tuple[Request | None, float | None]:
        deadline = self.deadline
        request, self._first = self._first, None
        while True:
            if request is None:
                request = await self._channel.next_request()
                deadline = self._channel.deadline
            if request is None or self._channel.take(request, deadline):
                return request, deadline
            request = None

    async def _send_reply(self, request: int, payload: Payload) -> None:
        self._channel.send_reply(request, payload)
        await self._channel.drained()

    async def _send_fault(self, request: int, code: int, text: str | None) -> None:
        self._channel.send_fault(request, code, text)
        await self._channel.drained()

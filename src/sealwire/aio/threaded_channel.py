"""The channel of a handler that runs in a thread: each method runs on the connection's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.session.requests import RequestChannel
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload
from sealwire.wire.metadata import Metadata

_T = TypeVar("_T")


class ThreadedChannel(RequestChannel):
    """The ``self.request`` of a ``def handle(self)`` on an asyncio server.

    Args:
        channel: The connection. The constructor is called on its event loop.
        first: The first request, which was taken from the connection already.
        deadline: The time at which the first request's client stops waiting; None if it did not say.
    """

    def __init__(self, channel: AsyncServerChannel, first: Request, deadline: float | None) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._first: Request | None = first
        self.deadline = deadline
        self.security = channel.security
        self.session = channel.session
        self.peer = channel.peer
        self.key_id = channel.key_id

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self._channel.ended

    @property
    def oldest_unanswered(self) -> int | None:
        """The number of the oldest unanswered request; None if all are answered."""
        return self._channel.oldest_unanswered

    def next_request(self) -> Request | None:
        """Return the next request; None after the last one. Raises like ServerChannel.next_request."""
        request, self.deadline = self._call(self._next_request())
        return request

    def request_id(self, request: int) -> str:
        """Return the id for logs of a request, by its number."""
        return self._channel.request_id(request)

    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Answer a request. Raises like ServerChannel.send_reply."""
        self._call(self._send_reply(request, payload, metadata))

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT. Raises like ServerChannel.send_fault."""
        self._call(self._send_fault(request, code, text))

    def _call(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the event loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _next_request(self) -> tuple[Request | None, float | None]:
        request, self._first = self._first, None
        if request is not None:
            return request, self.deadline
        return await self._channel.next_for_handler() or (None, self.deadline)

    async def _send_reply(self, request: int, payload: Payload, metadata: Metadata | None) -> None:
        self._channel.send_reply(request, payload, metadata)
        await self._channel.drained()

    async def _send_fault(self, request: int, code: int, text: str | None) -> None:
        self._channel.send_fault(request, code, text)
        await self._channel.drained()

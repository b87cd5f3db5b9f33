"""A place in an AsyncClientPool for one request or reply in parts, until its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.pool.loop_roster import AsyncCall, Line, LoopRoster
from sealwire.pool.trip import Trip
from sealwire.retry import Resend
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.wire.frames import Payload, VerifiedPayload

if TYPE_CHECKING:
    from sealwire.pool.async_client import AsyncClientPool


class AsyncPlace:
    """A pool, as a request or reply in parts sees it (:class:`sealwire.aio.part_stream.Lender`).

    Args:
        pool: The pool.
        shared: Its servers in the running event loop.
        idempotent: True if servers may act on the request twice.

    Attributes:
        timeout: Seconds for connecting.
    """

    def __init__(self, pool: AsyncClientPool, shared: LoopRoster, *, idempotent: bool) -> None:
        self.timeout = pool.timeout
        self._pool = pool
        self._shared = shared
        self._idempotent = idempotent
        self._trip: Trip | None = None
        self._call: AsyncCall | None = None
        self._line: Line | None = None

    # The pool

    def _here(self) -> AsyncPlace:
        return self

    async def _connection(self, _: Any, time: CallTime) -> AsyncClientChannel:
        shared = self._shared
        if self._trip is None:
            self._trip = self._pool._trip(shared, time, idempotent=self._idempotent)
        self._call = AsyncCall(self._trip)
        return await shared.connection(self._call)

    async def _open(self, deadline: float) -> AsyncClientChannel:
        assert self._call is not None and self._call.server is not None  # it has a connection
        return await self._shared.open(self._call.server, deadline)

    async def _encoded(self, _: Any, data: Any, deadline: float) -> Payload:
        return await self._shared.encode(self._pool.security.codec.encode_pieces, data, deadline)

    async def _decoded(self, _: Any, payload: VerifiedPayload) -> Any:
        return await self._shared.decode(self._pool._decode, payload)

    async def _look(self, _: Resend, lost: ConnectionLost) -> None:
        assert self._lost_call is not None  # it had a connection
        await self._shared.judge(self._lost_call, lost)

    # Its connections

    def lend(self, channel: AsyncClientChannel) -> None:
        """Give a connection to the request alone, until :meth:`give_back`."""
        assert self._call is not None and self._call.channel is not None  # it has a connection
        self._line = self._call.channel
        self._line.connections.lend(channel)

    def give_back(self, channel: AsyncClientChannel) -> None:
        """Take a connection back."""
        if self._line is not None:
            self._line.connections.give_back(channel)

    def end(self) -> None:
        """Give the place at the server back."""
        self._lost_call, self._call = self._call, None
        if self._lost_call is not None:
            self._shared.end(self._lost_call)

    _lost_call: AsyncCall | None = None
    """The call that gave its connection back last."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the event loop, from any thread, if it runs."""
        self._shared.call_soon(function)

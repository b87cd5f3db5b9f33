"""The connections of one client in one event loop: one for new requests, and retired ones.

All tasks share the connection. It is replaced when it is no longer usable; the old one is *retired*: requests in flight
on it may finish, then it is closed. Connecting is shared as well: the first task that needs a connection begins an
attempt, which ends with the last task that waits for it. Each task waits for its own time only.

A loop's connections end with their client's ``close``, with the client, with the loop, or with the process: a forked
child never uses those of its parent.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

from sealwire.aio.one_loop import OneLoop
from sealwire.aio.threads import refresh
from sealwire.client_base import Connection
from sealwire.errors import DeadlineExceeded, SealwireError
from sealwire.fork import this_process
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.call_time import CallTime
from sealwire.session.requests import LINGER
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata

_GRACE: Final = 0.1
"""Seconds that a task waits longer than an attempt takes, for its error, which says more than a time-out."""
_T = TypeVar("_T")


class LoopConnection(Connection, Protocol):
    """The methods of a connection on an event loop."""

    @property
    def is_open(self) -> bool:
        """True until the socket is closed."""

    async def request(
        self,
        payload: Payload,
        deadline: float,
        *,
        idempotent: bool,
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> VerifiedPayload:
        """Send a request and return its reply. Raises ConnectionLost, DeadlineExceeded and errors of the server."""

    async def ping(self, deadline: float) -> float:
        """Return the seconds until the answer to a PING; errors as for a request."""

    async def reassure(self) -> None:
        """Wait a moment for a sign of life, if the connection is perhaps broken."""

    def retire(self) -> asyncio.Future[None]:
        """Close the connection when no request is in flight; return a future that is done then."""

    def close_now(self) -> None:
        """Fail the requests in flight with ConnectionClosed, so that the connection is closed."""

    def drop(self) -> None:
        """Close the connection without telling the server. The loop need not run."""


_C = TypeVar("_C", bound=LoopConnection)


class Connections(OneLoop, Generic[_C]):
    """The connections of one client in the running event loop.

    Args:
        security: The client's Security.
        address: The server's address, for messages.
        max_in_flight: Number of requests in flight; more wait.

    Attributes:
        current: The connection for new requests; None if there is none.
    """

    def __init__(self, security: Security, address: str, max_in_flight: int) -> None:
        super().__init__()
        self._security = security
        self._address = address
        self._next_refresh = monotonic() + security.limits.reload_interval
        self._attempt: _Attempt[_C] | None = None
        self._retired: dict[_C, asyncio.Future[None]] = {}
        self._lent: dict[_C, None] = {}
        """The connections that one request or reply in parts has to itself."""
        self._closed = False
        self._free = max_in_flight
        self._queue: deque[asyncio.Future[None]] = deque()
        """The futures of requests that wait until others have finished."""
        self.current: _C | None = None

    # Requests

    def try_acquire(self) -> bool:
        """Return True if the caller's request may go now: fewer than ``max_in_flight`` are in flight."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def acquire(self, deadline: float) -> None:
        """Wait until the caller's request may go. Raises DeadlineExceeded, ConnectionClosed."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(turn)
        timer = self._loop.call_later(max(0.0, deadline - monotonic()), _refuse, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self.release()
            raise
        finally:
            timer.cancel()

    def release(self) -> None:
        """Let the next request go."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def ready(self) -> _C | None:
        """Return the connection if it is usable; None if the caller must wait for :meth:`usable`."""
        current = self.current
        return current if current is not None and monotonic() < self._next_refresh and current.usable() else None

    async def usable(self, time: CallTime, connect: Callable[[float], Awaitable[_C]], timeout: float) -> _C:
        """Return the connection, or a new one if it is no longer usable.

        Args:
            time: The caller's time.
            connect: Makes a connection, until a time of ``time.monotonic()``.
            timeout: Seconds for that.

        Raises TransportError, DeadlineExceeded, ConfigurationError.
        """
        now = monotonic()
        deadline = time.begin_connecting(now)
        if now >= self._next_refresh:
            self._next_refresh = now + self._security.limits.reload_interval
            await refresh(self._security, (deadline - now) / 2)
        while True:
            if self._closed:
                raise explain.closed_here()
            if self._process is not this_process():
                raise explain.forked()
            if (current := self.current) is not None:
                await current.reassure()
                if self.current is not current:
                    continue
                if current.usable():
                    break
                self.retire(current)
            if self._attempt is None or self._attempt.ending:
                self._attempt = _Attempt(connect, monotonic() + timeout, self._connected)
            await self._attempt.join(deadline, self._address)
            if self.current is not None:  # a new one is not checked: if it has ended, the request tells why
                break
        time.end_connecting(monotonic())
        return self.current

    def retire(self, channel: _C) -> None:
        """Retire a connection: requests in flight may finish, new ones use another."""
        if self.current is channel:
            self.current = None
        self._retired[channel] = gone = channel.retire()
        gone.add_done_callback(lambda _: self._retired.pop(channel, None))

    def lend(self, channel: _C) -> None:
        """Give a connection to one request or reply in parts, until :meth:`give_back`."""
        if self.current is channel:
            self.current = None
        self._lent[channel] = None

    def give_back(self, channel: _C) -> None:
        """Take a connection back. The next request finds out if it is usable: a cancelled one may be on its way out."""
        self._lent.pop(channel, None)
        if self.current is None and not self._closed:
            self.current = channel
        else:
            self.retire(channel)

    def end(self) -> None:
        """Note that a request or reply in parts has ended; nothing is counted."""

    def _connected(self, attempt: _Attempt[_C], channel: _C | None) -> None:
        if self._attempt is attempt:
            self._attempt = None
        if not attempt.ending:
            self.current = channel
        elif channel is not None:
            channel.drop()

    # The end

    async def close(self) -> None:
        """Close all connections; fail everything that waits with ConnectionClosed. Takes LINGER seconds at most."""
        if not self.is_here:
            self.drop_soon()
            return
        self._closed = True
        for channel in list(self._lent):
            channel.close_now()
        for turn in self._queue:
            if not turn.done():
                turn.set_exception(explain.closed_here())
        if self.current is not None:
            self.retire(self.current)
        ending: list[asyncio.Future[None]] = list(self._retired.values())
        for channel in list(self._retired):
            channel.close_now()
        if self._attempt is not None:
            ending.append(self._attempt.cancel())
        if ending:
            await asyncio.wait(ending, timeout=LINGER)
            for channel in list(self._retired):
                channel.drop()

    def drop(self) -> None:
        """Drop all connections without telling the server. A forked child has none: its copies were closed already."""
        self._closed = True
        channels, self.current = [*self._retired, *self._lent, self.current], None
        for channel in channels if self._process is this_process() else []:
            if channel is not None:
                channel.drop()

    def drop_soon(self) -> bool:
        """Drop all connections, in their loop if it runs; return True if there was an open one."""
        if self._process is not this_process():
            return False
        is_open = self.current is not None and self.current.is_open
        if not self.call_soon(self.drop):
            self.drop()
        return is_open


def _refuse(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(explain.other_requests())


class _Attempt(Generic[_C]):
    """An attempt to connect, which all tasks that need a connection share. It ends with the last of them.

    Args:
        connect: Makes a connection, until a time of ``time.monotonic()``.
        deadline: That time.
        connected: Called with the attempt and the connection, or None if it failed.

    Attributes:
        ending: True if the attempt was ended before it was complete.
    """

    def __init__(
        self,
        connect: Callable[[float], Awaitable[_C]],
        deadline: float,
        connected: Callable[[_Attempt[_C], _C | None], None],
    ) -> None:
        self._deadline = deadline
        self._waiting = 0
        # Not made by the loop's factory, whose tasks may be eager: an attempt must not be complete before it is known.
        self._task = asyncio.Task(self._run(connect, connected), loop=asyncio.get_running_loop())
        # Mark an exception as retrieved, or asyncio logs it when no task is waiting.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.ending = False

    async def join(self, deadline: float, address: str) -> None:
        """Wait for the end of the attempt. Return if there may be a connection, or time for another attempt.

        Raises DeadlineExceeded at ``deadline``, ConnectionClosed after :meth:`cancel`, and the attempt's error.
        """
        grace = _GRACE if deadline >= self._deadline - _GRACE else 0.0
        self._waiting += 1
        try:
            await asyncio.wait([self._task], timeout=max(0.0, deadline + grace - monotonic()))
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self.cancel()
        if not self._task.done():
            raise explain.no_answer(address)
        if self._task.cancelled():
            raise explain.closed_here()
        error = self._task.exception()
        if isinstance(error, DeadlineExceeded) and monotonic() < deadline - _GRACE:
            return
        if error is not None:
            # Each task raises an error of its own, or the traceback would grow with each.
            raise (copy.copy(error) if isinstance(error, SealwireError) else error) from error.__cause__

    def cancel(self) -> asyncio.Future[None]:
        """End the attempt; return a future that is done when it has ended."""
        self.ending = True
        self._task.cancel()
        return self._task

    async def _run(
        self, connect: Callable[[float], Awaitable[_C]], connected: Callable[[_Attempt[_C], _C | None], None]
    ) -> None:
        channel: _C | None = None
        try:
            channel = await connect(self._deadline)
        finally:
            connected(self, channel)

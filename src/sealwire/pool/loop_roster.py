"""A roster on an event loop: the tasks that wait for a place, and the connections that all tasks share.

Each connection of a server is a *line*: a :class:`~sealwire.aio.connections.Connections`, as a client of one server has
it, which is replaced when it is no longer usable. A request takes the line with the fewest requests in flight; another
line is opened for it if none is free and the pool's size permits. Servers that were left out are tried, and names are
looked up, in tasks beside the requests.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.connecting import connect_to, connect_unix, resolve, within
from sealwire.aio.connections import Connections
from sealwire.aio.one_loop import OneLoop
from sealwire.aio.threads import look, refresh
from sealwire.errors import ConfigurationError, InvalidState, SealwireError, TransportError
from sealwire.fork import this_process
from sealwire.pool.addresses import Lookup
from sealwire.pool.roster import Claim, Roster
from sealwire.pool.servers import Server
from sealwire.pool.trip import Trip
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.session.requests import LINGER

MAX_IN_FLIGHT: Final = 256
"""Requests in flight on one connection; more requests wait."""
_SETTLING: Final = 0.25
"""Seconds for which requests wait until all names are looked up, at most."""
_T = TypeVar("_T")


class Line:
    """A connection of a server, for any number of requests.

    Attributes:
        connections: The connection, and those that it has replaced as long as requests are in flight on them.
        requests: The number of requests in flight.
        dropped: True if no other request may use it.
    """

    def __init__(self, security: Security, address: str) -> None:
        self.connections: Connections[AsyncClientChannel] = Connections(security, address, MAX_IN_FLIGHT)
        self.requests = 0
        self.dropped = False

    @property
    def is_open(self) -> bool:
        """True if there is a connection, as far as this end knows."""
        return self.connections.current is not None


class AsyncCall(Claim[Line]):
    """A call of a pool: its place at a server, and its line.

    Attributes:
        acquired: True if it is one of the requests that are in flight on the line.
    """

    acquired = False


class LoopRoster(OneLoop):
    """The servers of an AsyncClientPool in one event loop of one process, until the pool is closed.

    Args:
        roster: The servers.
        security: The pool's Security.
        size: Lines of each server, at most.
        timeout: Seconds for a connection that no request waits for.
        keepalive: Seconds without a request after which a PING is sent on a connection; None to send none.

    Attributes:
        roster: As given.
    """

    def __init__(
        self, roster: Roster[Line], security: Security, size: int, timeout: float, keepalive: float | None
    ) -> None:
        super().__init__()
        self._security = security
        self._size = size
        self._timeout = timeout
        self._keepalive = keepalive
        self._chores: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        """All lines, also those dropped on which requests are in flight."""
        self.roster = roster

    # A call

    async def connection(self, call: AsyncCall) -> AsyncClientChannel:
        """Give a call a place at a server and a connection to it, past servers that fail.

        Raises:
            DeadlineExceeded: The call's time ran out before it had a place.
            NoServerAvailable: No server could be reached; or the error of the only one.
            ConfigurationError: No certificate or key is valid now.
            ConnectionClosed: The pool was closed.
        """
        trip = call.trip
        assert trip is not None  # it is a request's
        while True:
            server = await self._take_place(call, trip)
            line = call.channel = self._line(server)
            line.requests += 1
            if not line.connections.try_acquire():
                await line.connections.acquire(trip.time.deadline)
            call.acquired = True
            if line.dropped:
                self.end(call)
                continue
            ready = line.connections.ready()
            if ready is not None:
                trip.connected(monotonic())
                return ready
            deadline = trip.begin_connecting(monotonic())
            try:
                channel = await self._connect(line, server, deadline)
            except (ConfigurationError, InvalidState):
                raise
            except SealwireError as error:
                if self.roster.closed:
                    raise explain.closed_here() from None
                if trip.wants_look(error):
                    await look(self._security, deadline)
                pause = trip.not_connected(server, error, monotonic())
                self.end(call)
                await asyncio.sleep(pause)
            else:
                self._made(call, server, channel)
                trip.connected(monotonic())
                return channel

    async def judge(self, call: AsyncCall, error: SealwireError | None) -> None:
        """Judge the outcome of a call's work on its connection. Returns if its request is done, or is to be repeated.

        Args:
            call: The call.
            error: Its error; None after a reply.

        Raises:
            SealwireError: The call has failed: the error, or another one that says whether a handler may have seen the
                request.
        """
        trip = call.trip
        assert trip is not None and trip.server is not None  # it had a connection
        server = trip.server  # the call may have given its place there back
        if isinstance(error, ConnectionLost):
            if self.roster.closed:
                raise explain.closed_here() from None
            if trip.wants_look_after(error):
                await look(self._security, trip.time.deadline)
        trip.judge(server, error, monotonic())

    def end(self, call: AsyncCall) -> None:
        """Give a call's place back."""
        line, call.channel = call.channel, None
        if line is not None:
            line.requests -= 1
            if call.acquired:
                call.acquired = False
                line.connections.release()
            server = call.server
            if server is not None and not line.is_open and not line.requests and line in server.shared:
                server.shared.remove(line)
                self._lines.discard(line)
        self.roster.release(call)
        self._close_dropped()

    async def _take_place(self, call: AsyncCall, trip: Trip) -> Server[Line]:
        """Wait for a place at a server."""
        while (server := call.server) is None:
            if self._process is not this_process():
                raise explain.forked()
            self._begin_chores()
            if self.roster.closed:
                raise explain.closed_here()
            if self.roster.claim(call):
                if call.server is None:
                    raise trip.failure()
                continue
            woken: asyncio.Future[None] = self._loop.create_future()
            self.roster.enqueue(call, partial(_settle, woken))
            timer = self._loop.call_later(max(0.0, trip.until - monotonic()), _settle, woken)
            try:
                await woken
            finally:
                timer.cancel()
            if call.wake is not None:
                self.roster.release(call)
                raise trip.out_of_time()
        trip.server = server
        return server

    def _line(self, server: Server[Line]) -> Line:
        """Return the line with the fewest requests, or a new one if all have some and there may be another."""
        line = min(server.shared, key=lambda line: (line.requests, not line.is_open), default=None)
        if line is None or (line.requests and len(server.shared) < self._size and not server.is_full):
            line = Line(self._security, str(server.address))
            server.shared.append(line)
            self._lines.add(line)
        return line

    async def _connect(self, line: Line, server: Server[Line], deadline: float) -> AsyncClientChannel:
        """Make a line's connection, or wait for the attempt of another request."""
        now = monotonic()
        seconds = max(0.001, deadline - now)
        time = CallTime(timeout=seconds, wait=seconds, now=now)
        return await line.connections.usable(time, partial(self.open, server), seconds)

    async def open(self, server: Server[Line], deadline: float) -> AsyncClientChannel:
        """Make a connection to a server."""
        address, seconds = server.address, max(0.001, deadline - monotonic())
        if address.path is not None:
            connecting = connect_unix(address.path, self._security, timeout=seconds)
        else:
            await refresh(self._security, seconds / 2)  # a disk that does not answer leaves time to connect
            connecting = connect_to([server.found], address.host, address.port, self._security, deadline)
        channel = await within(connecting, seconds, str(address))
        channel.keep_alive(self._keepalive)
        return channel

    def _made(self, call: AsyncCall, server: Server[Line], channel: AsyncClientChannel) -> None:
        server.peer = channel.peer
        self.roster.connected(call, monotonic())

    # Beside the calls

    def _begin_chores(self) -> None:
        """Look names up, and try servers that were left out, if that is due."""
        now = monotonic()
        for lookup in self.roster.begin_lookups(now):
            self._begin(self._look_up(lookup), f"sealwire names {lookup.address}")
            if self.roster.settling:
                self._loop.call_later(_SETTLING, self.roster.settle)
        probe = AsyncCall(None)
        if not self.roster.closed and self.roster.begin_probe(probe, now):
            self._begin(self._probe(probe), f"sealwire probe {probe.server}")

    def _begin(self, chore: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(chore, name=name)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _look_up(self, lookup: Lookup) -> None:
        address = lookup.address
        found: Any = explain.unresolved(str(address))
        try:
            found = await resolve(address.host, address.port, socket.SOCK_STREAM, str(address))
        except TransportError as error:
            found = error
        finally:
            self.roster.update(lookup, found, monotonic())
            self._close_dropped()

    async def _probe(self, call: AsyncCall) -> None:
        server = call.server
        assert server is not None  # it was chosen
        try:
            line = call.channel = self._line(server)
            line.requests += 1
            channel = await self._connect(line, server, monotonic() + self._timeout)
        except SealwireError as error:
            self.roster.failed(server, error, monotonic())
        else:
            self._made(call, server, channel)
        finally:
            self.end(call)

    def _close_dropped(self) -> None:
        """Close lines that are not used any more, each when its last request is answered."""
        while self.roster.dropped:
            line = self.roster.dropped.popleft()
            line.dropped = True
            current = line.connections.current
            if current is None:
                self._lines.discard(line)
            else:
                line.connections.retire(current)
                current.lost.add_done_callback(partial(self._forget, line))

    def _forget(self, line: Line, _: object) -> None:
        self._lines.discard(line)

    # The end

    async def close(self) -> None:
        """Close all connections; fail everything that waits with ConnectionClosed. Takes LINGER seconds at most."""
        if not self.is_here:
            self.drop_soon()
            return
        self.roster.closed = True
        self.roster.serve_queue()
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        ends = [asyncio.ensure_future(line.connections.close()) for line in list(self._lines)]
        if chores or ends:
            await asyncio.wait([*chores, *ends], timeout=LINGER + 1)

    def drop(self) -> None:
        """Drop all connections without telling the servers."""
        self.roster.closed = True
        for line in list(self._lines):
            line.connections.drop()

    def drop_soon(self) -> bool:
        """Drop all connections, in their loop if it runs; return True if there was an open one."""
        was_open = [line.connections.drop_soon() for line in list(self._lines)]
        self.roster.closed = True
        return any(was_open)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

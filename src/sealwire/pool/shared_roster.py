"""A roster that threads share: its lock, the calls that wait for a place, and their connections.

The lock is held for a choice only, never while anything is sent, received or waited for. A call that a signal handler
has interrupted anywhere keeps neither its place nor its connection: both vanish with its frame.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from sealwire.bell import Bell
from sealwire.errors import (
    ConfigurationError,
    InvalidState,
    RemoteProtocolError,
    SealwireError,
)
from sealwire.fork import this_process
from sealwire.pool.chores import Chores
from sealwire.pool.roster import Claim, Roster
from sealwire.pool.servers import Server
from sealwire.pool.trip import Trip
from sealwire.retry import Resend
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.client import ConnectionLost
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.connecting import connect_to, connect_unix
from sealwire.sync.loops import Loops
from sealwire.sync.part_stream import Exchange
from sealwire.sync.pipeline import SHORT_LINGER, Pipeline

_LOOK: Final = 0.25
"""Seconds after which a waiting call looks if a place has vanished with an interrupted call."""

Loop = Pipeline | Exchange
"""An owner of a connection: a loop over send_requests, or a request or reply in parts."""
_STALE: Final = 30.0
"""Seconds without use after which a connection is looked at, whether the server has ended it."""


class Call(Claim[ClientChannel]):
    """A call of a pool. As a context manager it ends: its place is given back, and its connection if that is in order.

    Args:
        shared: The servers.
        trip: The call's way past those that fail; None for work of the pool itself.
    """

    def __init__(self, shared: SharedRoster, trip: Trip | None) -> None:
        super().__init__(trip)
        self._shared = shared
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shared.end(self, error)

    @property
    def is_here(self) -> bool:
        """True if the call is one of this thread, below the caller: under a signal handler, say."""
        return self._thread == threading.get_ident()

    def interrupt(self) -> None:
        """Make the call fail, since the pool is closed."""
        channel = self.channel
        if channel is not None:
            channel.interrupt()


class SharedRoster:
    """The servers of a ClientPool in one process, until the pool is closed.

    Args:
        roster: The servers.
        security: The pool's Security.
        timeout: Seconds for a connection that no call waits for.

    Attributes:
        roster: As given.
        process: The process that made these connections.
        lock: Held by callers of the roster, of trips and of the retry budget.
        chores: The work beside the calls.
        loops: The loops that are under way and have a connection, each with its call as its ``place``.
    """

    def __init__(self, roster: Roster[ClientChannel], security: Security, timeout: float) -> None:
        self.roster = roster
        self._security = security
        self._calls: WeakSet[Call] = WeakSet()
        self._ended = Bell()
        """Rings when a call ends after the pool was closed."""
        self.chores = Chores(self, timeout)
        self.process = this_process()
        self.lock = threading.RLock()
        self.loops: Loops[Loop] = Loops()

    # A call

    def begin(self, trip: Trip) -> Call:
        """Return a new call, a context manager."""
        call = self.call(trip)
        self._calls.add(call)
        return call

    def call(self, trip: Trip | None) -> Call:
        """Return a call that :meth:`close` does not wait for."""
        return Call(self, trip)

    def connection(self, call: Call) -> ClientChannel:
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
            server = self._take_place(call, trip)
            channel = call.channel or self._take_idle(call, server)
            if channel is not None:
                with self.lock:
                    trip.connected(monotonic())
                return channel
            try:
                with self.lock:
                    deadline = trip.begin_connecting(monotonic())
                channel = call.channel = self.open(server, deadline)
            except (ConfigurationError, InvalidState):
                raise
            except SealwireError as error:
                if trip.wants_look(error):
                    self._security.look(deadline)
                with self.lock:
                    pause = trip.not_connected(server, error, monotonic())
                    self.roster.release(call)
                self.close_dropped()
                sleep(pause)
            else:
                with self.lock:
                    self.made(call, server, channel)
                    trip.connected(monotonic())
                return channel

    def judge(self, call: Call, error: SealwireError | None) -> None:
        """Judge the outcome of a call's work on its connection. Returns if its request is done, or is to be repeated.

        Args:
            call: The call.
            error: Its error; None after a reply.

        Raises:
            SealwireError: The call has failed: the error, or another one that says whether a handler may have seen the
                request.
        """
        trip, server = call.trip, call.server
        assert trip is not None and server is not None  # it has a connection
        now = monotonic()
        if isinstance(error, ConnectionLost):
            # Only our CLOSE could get lost, and the caller is waiting.
            channel, call.channel = call.channel, None
            if channel is not None:
                channel.close(linger=min(SHORT_LINGER, max(0.0, trip.time.deadline - now)))
            if self.roster.closed:
                raise explain.closed_here() from None
            if trip.wants_look_after(error):
                self._security.look(trip.time.deadline)
        with self.lock:
            trip.judge(server, error, monotonic())
        self.close_dropped()

    def lost(self, call: Call, resend: Resend, lost: ConnectionLost) -> float:
        """Judge the loss of a request of a loop; return the seconds for sending it again. Raises if it is not."""
        trip = call.trip
        assert trip is not None  # it is a request's
        if resend.wants_look(lost):
            self._security.look(resend.deadline)
        with self.lock:
            seconds = trip.lost(call.server, lost, resend, monotonic())
        self.close_dropped()
        return seconds

    def end(self, call: Call, error: BaseException | None) -> None:
        """End a call: keep its connection if that is in order, and give its place back."""
        channel, call.channel = call.channel, None
        if channel is not None:
            self.put_back(call, channel, error, in_order=error is None or isinstance(error, SealwireError))
        with self.lock:
            self.roster.release(call)
        self._calls.discard(call)
        if self.roster.closed:
            self._ended.ring()

    def put_back(self, call: Call, channel: ClientChannel, error: BaseException | None, *, in_order: bool) -> None:
        """Keep a call's connection for the next one, or close it if it is not idle."""
        if not in_order:
            channel.abandon()
            return
        with self.lock:
            server = call.server
            keep = channel.idle and server is not None and not (server.gone or self.roster.closed)
            if keep and server is not None:
                channel.idle_since = monotonic()
                server.idle.append(channel)
                self._drop_stale(server, channel.idle_since)
        if not keep:
            # No lingering unless the end carries an explanation: the caller's time is over.
            channel.close(linger=SHORT_LINGER if isinstance(error, RemoteProtocolError) else 0.0)
        self.close_dropped()

    def _drop_stale(self, server: Server[ClientChannel], now: float) -> None:
        """Drop the connection that was used longest ago if the server has ended it; others may be used for hours."""
        with suppress(IndexError):  # calls take them without the lock
            if now - server.idle[0].idle_since >= _STALE:
                oldest = server.idle.popleft()
                if oldest.usable():
                    oldest.idle_since = now
                    server.idle.appendleft(oldest)
                else:
                    self.roster.dropped.append(oldest)

    def _take_place(self, call: Call, trip: Trip) -> Server[ClientChannel]:
        """Wait for a place at a server."""
        bell: SimpleQueue[None] = SimpleQueue()
        while (server := call.server) is None:
            self.chores.begin()
            with self.lock:
                if self.roster.closed:
                    raise explain.closed_here()
                if self.roster.claim(call):
                    if call.server is None:
                        raise trip.failure()
                    continue
            if not self._borrow(call, trip.time.deadline):
                with self.lock:
                    self.roster.enqueue(call, partial(bell.put, None))
                self._wait(call, trip, bell)
        trip.server = server
        return server

    def _wait(self, call: Call, trip: Trip, bell: SimpleQueue[None]) -> None:
        """Wait in the queue until a server is found, or there is none to wait for."""
        while call.wake is not None:
            remaining = trip.until - monotonic()
            try:
                bell.get(timeout=max(0.0, min(_LOOK, remaining)))
            except Empty:
                with self.lock:
                    self.roster.settle()
                    if call.wake is not None and remaining <= 0:
                        self.roster.release(call)
                        raise trip.out_of_time() from None

    def _take_idle(self, call: Call, server: Server[ClientChannel]) -> ClientChannel | None:
        """Give a call the idle connection that was used last; close those that are no longer usable."""
        while True:
            try:
                call.channel = channel = server.idle.pop()
            except IndexError:
                return None
            if channel.usable():
                return channel
            call.channel = None
            channel.close(linger=SHORT_LINGER)

    def _borrow(self, call: Call, deadline: float) -> bool:
        """Give a call, in the body of a loop over ``send_requests``, the loop's place and connection.

        There is no other place, and the loop gives its own back only after the call. Return False without such a loop.
        """
        for loop in self.loops:
            if isinstance(loop, Pipeline) and loop.is_paused_here:
                now = monotonic()
                channel = loop.lend(now + (deadline - now) / 2)
                if channel is None:
                    continue
                with self.lock:
                    self.roster.move(loop.place, call)
                if channel.usable():
                    call.channel = channel
                else:
                    channel.close(linger=SHORT_LINGER)
                return call.server is not None
        return False

    def made(self, call: Call, server: Server[ClientChannel], channel: ClientChannel) -> None:
        """Note that a connection was made. The caller holds the lock."""
        server.peer = channel.peer
        self.roster.connected(call, monotonic())

    def close_dropped(self) -> None:
        """Close connections that are not used any more."""
        if not self.roster.dropped:
            return
        with self.lock:
            dropped = list(self.roster.dropped)
            self.roster.dropped.clear()
        for channel in dropped:
            channel.close(linger=0.0)

    def open(self, server: Server[ClientChannel], deadline: float) -> ClientChannel:
        """Make a connection to a server. Raises like :func:`sealwire.sync.connect`."""
        address = server.address
        if address.path is not None:
            return connect_unix(address.path, self._security, timeout=max(0.001, deadline - monotonic()))
        self._security.refresh()
        return connect_to([server.found], address.host, address.port, self._security, deadline)

    # The end

    def close(self, seconds: float) -> None:
        """Close all connections; wait for the calls of other threads, for ``seconds`` at most."""
        deadline = monotonic() + seconds
        with self.lock:
            self.roster.closed = True
            self.roster.serve_queue()
            idle = [channel for server in self.roster.servers for channel in server.take_connections()]
        for channel in idle:
            channel.close()
        for loop in self.loops:
            loop.interrupt()
        while any(not call.is_here for call in list(self._calls)) and monotonic() < deadline:
            self._ended.wait(min(_LOOK, deadline - monotonic()))
        for call in list(self._calls):
            call.interrupt()

"""The client on UDP for asyncio: many requests in flight on one association."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, cast

from sealwire.aio.client import AsyncClient
from sealwire.aio.client_pings import Pings
from sealwire.aio.connecting import resolve
from sealwire.aio.threads import refresh
from sealwire.client_base import HostClient
from sealwire.client_counts import counted_on_loop
from sealwire.dtls.client_association import PATIENCE, ClientAssociation, Stalled
from sealwire.dtls.exchange import Exchange, Exchanges
from sealwire.dtls.records import MAX_DATAGRAM
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    PeerNotAllowed,
    SealwireError,
    TransportError,
)
from sealwire.fork import blank, leave_in_children
from sealwire.listeners import address_text
from sealwire.retry import shares
from sealwire.session import explain
from sealwire.session.call_metadata import call_metadata_of
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.wire.events import Ponged
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata

MAX_IN_FLIGHT: Final = 32
"""Requests in flight; more requests wait.

Including repetitions they must fit into the server's replay window of 64 sequence numbers and its Limits.max_in_flight.
"""


class AsyncUDPConnection(asyncio.DatagramProtocol):
    """A client's socket and the association on it.

    Args:
        association: The association.
        address: The server's address, for messages.

    Attributes:
        association: As given.
        established: A future that is done when both handshakes are complete, or has the error if one failed.
        gone: A future that is done when the socket is closed.
        failure: The error since the association has ended; None while it is open.
    """

    def __init__(self, association: ClientAssociation, address: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.association = association
        self._exchanges = Exchanges(association, address)
        self._address = address
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pings = Pings()
        self._retired = False
        self._silent = False
        """True if a request's time ran out without any datagram of the server: the association is not used any more."""
        self.established: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._keeper: asyncio.Task[None] | None = None
        self.failure: SealwireError | None = None
        leave_in_children(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send ClientHello."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._keeper = self._loop.create_task(self._close_with_loop())
        if self.failure is not None:
            self._transport.close()
        self._flush()

    def datagram_received(self, data: bytes, _addr: Any) -> None:  # it is connected
        """Process a datagram."""
        try:
            for event in self.association.datagram_received(data):
                self._exchanges.receive(event)
                if isinstance(event, Ponged):
                    self._pings.answered()
        except SealwireError as error:
            self._flush()  # the alert with the reason
            self._fail(error)
        self._flush()
        if self.established.done():
            closed = self._exchanges.loss()
            if closed is not None:
                self._fail(closed)
        elif self.association.open:
            self.established.set_result(None)
        elif self.association.ended:
            self._fail(explain.ended_handshake(self._address))

    def error_received(self, exc: Exception) -> None:
        """Process an error that ICMP reported, after the datagrams that the server sent before it ended."""
        self._receive_now(MAX_IN_FLIGHT)
        why = explain.reason(exc) if isinstance(exc, OSError) else "it cannot be reached"
        if self.established.done():
            self._fail(ConnectionClosed(f"{self._address} is gone: {why}"))
        else:
            self._fail(explain.unreachable(self._address, why, exc if isinstance(exc, OSError) else None))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Process the end of the socket."""
        if self._timer is not None:
            self._timer.cancel()
        self.gone.set_result(None)

    @property
    def is_open(self) -> bool:
        """True until the socket is closed."""
        return not self.gone.done()

    @property
    def peer(self) -> PeerIdentity | None:
        """The server's verified identity."""
        return self.association.peer

    def usable(self) -> bool:
        """Return True if the association can take a request, as far as this end knows."""
        return (
            self.failure is None
            and not self._silent
            and self.association.open
            and self.association.session.usable(monotonic())
        )

    async def reassure(self) -> None:
        """Do nothing: a server that has let go of the association cannot tell."""

    async def request(
        self,
        payload: Payload,
        deadline: float,
        *,
        idempotent: bool,
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> VerifiedPayload:
        """Send a request and return its reply.

        Raises RemoteError, FeatureNotSupported, PayloadTooLarge, DeadlineExceeded, ConnectionLost.
        """
        if self.failure is not None:
            closed = ConnectionClosed("the association ended before the request was sent")
            raise self.association.session.lost(closed, None)
        begun = monotonic()
        call_metadata = call_metadata_of(metadata, reply_metadata)
        exchange = Exchange(
            self._exchanges, payload, deadline, begun, idempotent=idempotent, call_metadata=call_metadata
        )
        try:
            self._flush()
            await self._wait(exchange, deadline)
        except DeadlineExceeded:
            # Perhaps the server no longer has this association, which it cannot tell us.
            self._silent = self._silent or self.association.last_heard < begun
            raise
        finally:
            exchange.close()
            if self._retired and not self._exchanges:
                self.close_now()
        return exchange.take()

    async def ping(self, deadline: float) -> float:
        """Return the seconds until the answer to a PING, which is not sent again. Raises as :meth:`request` does."""
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await self._pings.ping(self._send_ping)
        except TimeoutError:
            self._silent = True  # no other PING can be sent before the answer, which may be lost
            raise explain.nothing_came(self._address) from None
        except ConnectionClosed as closed:
            raise self.association.session.lost(closed, None) from None

    def _send_ping(self) -> None:
        if self.failure is not None:
            raise explain.without_frames(self.failure)
        self.association.protocol.send_ping()
        self._flush()

    async def _wait(self, exchange: Exchange, deadline: float) -> None:
        """Wait for the result of an exchange, and send it again when due. Raises DeadlineExceeded, RemoteError."""
        done = asyncio.Event()
        exchange.on_result = done.set
        while exchange.result is None:
            try:
                async with asyncio.timeout(min(deadline, exchange.resend_at) - monotonic()):
                    await done.wait()
            except TimeoutError:
                now = monotonic()
                if now >= deadline:
                    raise exchange.timed_out() from None
                exchange.send(now)
                self._flush()

    def retire(self) -> asyncio.Future[None]:
        """Close the association when no request is in flight; return a future that is done then."""
        self._retired = True
        if not self._exchanges:
            self.close_now()
        return self._keeper or self.gone

    async def _close_with_loop(self) -> None:
        """Wait for the end, and close the association if the event loop ends before, which cancels its tasks."""
        try:
            await asyncio.shield(self.gone)
        except asyncio.CancelledError:
            self.close_now()
            raise

    def drop(self) -> None:
        """Close the socket without telling the server. The loop need not run."""
        with suppress(RuntimeError):  # the loop is closed
            self._fail(explain.closed_here())

    def leave_to_parent(self) -> None:
        """Close this process's copy of the socket, in a forked child, where no request gets its reply."""
        if self._transport is not None and self.is_open:
            blank(self._transport.get_extra_info("socket").fileno())
        with suppress(RuntimeError):  # the loop is closed
            self._fail(explain.forked())

    def close_now(self) -> None:
        """Send CLOSE and close the socket."""
        for datagram in self.association.close():
            self._send(datagram)
        self._fail(ConnectionClosed("the association was ended by this side"))

    def _flush(self) -> None:
        for datagram in self.association.datagrams_to_send():
            self._send(datagram)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.association.timeout
        if due < math.inf and self.failure is None:
            self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._timed_out)

    def _receive_now(self, most: int) -> None:
        """Read datagrams that have arrived."""
        if self._transport is not None and not self._transport.is_closing():
            descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=descriptor) as sock, suppress(OSError):  # there are no more
                for _ in range(most):
                    self.datagram_received(sock.recv(MAX_DATAGRAM, socket.MSG_DONTWAIT), None)

    def _timed_out(self) -> None:
        self._receive_now(1)  # perhaps what it waits for, if this loop has much to do
        try:
            if monotonic() >= self.association.timeout:
                self.association.handle_timeout()
        except SealwireError as error:
            self._fail(error)
        self._flush()

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram)

    def _fail(self, error: SealwireError) -> None:
        if self.failure is None:
            self.failure = error.with_traceback(None)  # which would hold this object
        if not self.established.done():
            self.established.set_exception(self.failure)
            self.established.exception()  # mark it as retrieved, or asyncio logs it when no task is waiting
        self._exchanges.fail(self.failure)
        self._pings.fail(self.failure)
        if self._transport is not None:
            self._transport.close()


class AsyncUDPClient(HostClient, AsyncClient[AsyncUDPConnection]):
    """A client for one server on UDP, for asyncio.

    A message has at most 1,132 bytes encoded. Requests and replies can be lost, so after DeadlineExceeded the server
    may or may not have acted on the request. With ``idempotent=True`` a request is sent again until its reply comes:
    after 0.25 seconds, then after twice as long each time, 2 seconds at most.

    The client connects on first use. Up to 32 requests are in flight at a time. It belongs to one event loop. As an
    asynchronous context manager it closes the association at the end.

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: UDP port of the server.
        timeout: Seconds for connecting, with DTLS and Sealwire's handshake together. Default: 10.
        wait: Seconds for one request, with all repetitions. Default: 10.
        security: The client's security configuration.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            They may be coroutine functions. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    _max_in_flight = MAX_IN_FLIGHT

    @counted_on_loop()
    async def _connect(self, deadline: float) -> AsyncUDPConnection:
        """Return a connection to the first address of the host that answers."""
        address = address_text((self.host, self.port))
        await refresh(self.security, deadline - monotonic())
        found = await resolve(self.host, self.port, socket.SOCK_DGRAM, address)
        for each, seconds in shares(found, deadline):
            try:
                return await self._try_address(each[4], address, seconds)
            except (HandshakeFailed, HandshakeRejected, PeerNotAllowed):
                raise
            except (TransportError, DeadlineExceeded):
                if each is found[-1]:
                    raise
        raise explain.unresolved(address)

    async def _try_address(self, endpoint: Any, address: str, seconds: float) -> AsyncUDPConnection:
        """Connect to one address; begin again, with more patience, each time that the handshake stalls."""
        deadline = monotonic() + seconds
        patience = PATIENCE
        while True:
            try:
                return await self._shake_hands(endpoint, address, deadline, patience)
            except Stalled:
                patience *= 2

    async def _shake_hands(self, endpoint: Any, address: str, deadline: float, patience: float) -> AsyncUDPConnection:
        security = self.security.pinned()
        association = ClientAssociation(
            security,
            security.credentials.current,
            host=canonical_host(self.host),
            address=address,
            patience=patience,
        )
        factory = partial(AsyncUDPConnection, association, address)
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_datagram_endpoint(factory, remote_addr=endpoint[:2])
        except OSError as error:
            raise explain.unreachable(address, explain.reason(error), error) from None
        try:
            await asyncio.wait_for(asyncio.shield(connection.established), max(0.0, deadline - monotonic()))
        except BaseException as error:
            connection.close_now()
            await asyncio.wait([connection.retire()])
            if isinstance(error, TimeoutError) and not isinstance(error, SealwireError):
                raise explain.incomplete(address) from None
            raise
        else:
            return connection
        finally:
            del association, factory, connection  # or the error, which the connection has, would hold them

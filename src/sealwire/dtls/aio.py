"""The client on UDP, on asyncio: many requests under way on one association."""

from __future__ import annotations

import asyncio
import math
import socket
from random import SystemRandom
from time import monotonic
from typing import Any, Final, cast

from sealwire.aio.client import AsyncClient
from sealwire.channel.connecting import REJECTIONS, where_text
from sealwire.channel.pump import reason
from sealwire.clients import AtHost, unknown, was_unprocessed
from sealwire.dtls.association import ClientAssociation
from sealwire.dtls.client import MOST_PAUSE, RESEND, Lost
from sealwire.errors import (
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    PeerNotAllowed,
    RemoteError,
    SealwireError,
    TransportError,
)
from sealwire.security import Security
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.events import Closed, Event, Faulted, Rejected, Reply
from sealwire.wire.frames import FaultCode, Payload, RejectCode, VerifiedPayload

MAX_UNDER_WAY: Final = 32
"""Requests under way; who comes then waits for his turn. With those that are sent again they are to be within a
server's window of 64 sequence numbers, and its Limits.max_in_flight."""
_random = SystemRandom()


class _Link(asyncio.DatagramProtocol):
    """A socket and the association on it."""

    def __init__(self, association: ClientAssociation, where: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.association = association
        self._where = where
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._replies: dict[int, asyncio.Future[VerifiedPayload]] = {}
        self._patient: dict[asyncio.Future[VerifiedPayload], RemoteError | None] = {}
        """Of requests that are sent again: that the server was too busy for one of them."""
        self._leaving = False
        self.established: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.failure: SealwireError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a socket: send ClientHello."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._flush()

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002 - it is connected
        """What came."""
        try:
            for event in self.association.datagram_received(data):
                self._happened(event)
        except SealwireError as error:
            self._fail(error)
        self._flush()
        if self.association.open and not self.established.done():
            self.established.set_result(None)
        elif self.association.ended:
            self._fail(Lost("the server has ended the association"))

    def error_received(self, exc: Exception) -> None:
        """What ICMP says."""
        why = reason(exc) if isinstance(exc, OSError) else "it cannot be reached"
        if self.established.done():
            self._fail(Lost(f"{self._where} is not there any more: {why}"))
        else:
            self._fail(
                TransportError(
                    f"cannot reach {self._where}: {why}; see whether the server runs and listens there"
                )
            )  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The socket is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self.gone.set_result(None)

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is."""
        return self.association.peer

    def usable(self) -> bool:
        """Whether it can take a request, as far as is known here."""
        return self.failure is None and self.association.usable() is None

    async def request(self, payload: Payload, deadline: float, *, idempotent: bool) -> VerifiedPayload:
        """Send a request and wait for its reply. Raises RemoteError, PayloadTooLarge, DeadlineExceeded, Lost."""
        future: asyncio.Future[VerifiedPayload] = self._loop.create_future()
        numbers: list[int] = []
        pause = RESEND
        if idempotent:
            self._patient[future] = None
        try:
            while True:
                if self.failure is not None:
                    raise self.failure
                left = deadline - monotonic()
                if left <= 0:
                    raise self._patient.get(future) or DeadlineExceeded(f"nothing came from {self._where} in time")
                numbers.append(self.association.protocol.send_request(payload, wait=left))
                self._replies[numbers[-1]] = future
                self._flush()
                await asyncio.wait([future], timeout=min(left, pause) if idempotent else left)
                if future.done():
                    return future.result()
                pause = min(MOST_PAUSE, pause * 2)
                if not idempotent:
                    raise DeadlineExceeded(f"nothing came from {self._where} in time")
        except Lost as lost:
            lost.first = numbers[0] if numbers else math.inf
            raise
        finally:
            future.cancel()
            self._patient.pop(future, None)
            for number in numbers:
                if self._replies.pop(number, None) is not None:
                    self.association.protocol.give_up(number)
            if self._leaving and not self._replies:
                self.close()

    def leave(self) -> None:
        """End it when those who wait for replies have them, or their time is over."""
        self._leaving = True
        if not self._replies:
            self.close()

    def close(self) -> None:
        """Say so, and close the socket."""
        for datagram in self.association.close():
            self._send(datagram)
        self._fail(Lost("the association was ended by this side"))

    def _happened(self, event: Event) -> None:
        if isinstance(event, Rejected):
            text = REJECTIONS[RejectCode(event.code)]
            raise HandshakeRejected(f"{self._where} refused: {text}", code=event.code)
        if isinstance(event, Closed):
            raise Lost("the server has ended the association", **event._asdict())
        if isinstance(event, Reply | Faulted):
            future = self._replies.get(event.request)
            if future is None or future.done():
                return
            if isinstance(event, Reply):
                future.set_result(event.payload)
            elif event.code == FaultCode.OVERLOADED and future in self._patient:
                self._patient[future] = RemoteError(event.code, event.text)
            else:
                future.set_exception(RemoteError(event.code, event.text))

    def _flush(self) -> None:
        for datagram in self.association.datagrams_to_send():
            self._send(datagram)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.association.timeout
        if due < math.inf and self.failure is None:
            self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._timed_out)

    def _timed_out(self) -> None:
        try:
            self.association.handle_timeout()
        except SealwireError as error:
            self._fail(error)
        self._flush()

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram)

    def _fail(self, error: SealwireError) -> None:
        if self.failure is None:
            self.failure = error
        if not self.established.done():
            self.established.set_exception(self.failure)
            self.established.exception()  # seen, whoever waits for it or not
        for future in self._replies.values():
            if not future.done():
                future.set_exception(self.failure)
        if self._transport is not None:
            self._transport.close()


class AsyncUDPClient(AtHost, AsyncClient[_Link]):
    """A client for one server, on UDP and asyncio; many requests are under way at a time.

    host, port, timeout, wait, security: as for SynchronousUDPClient. It belongs to one event loop. An asynchronous
    context manager. Raises ConfigurationError.
    """

    _most = MAX_UNDER_WAY

    def __init__(self, host: str, port: int, timeout: float = 10.0, wait: float = 10.0, *, security: Security) -> None:
        super().__init__(host, port, timeout, wait, security=security)
        self._leaving: set[_Link] = set()

    def _let_go(self, channel: _Link) -> None:
        self._leaving.add(channel)
        channel.gone.add_done_callback(lambda _: self._leaving.discard(channel))
        channel.leave()

    async def _give_up(self) -> None:
        for link in list(self._leaving):
            link.close()
            await link.gone

    async def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        link = await self._usable()
        begun = monotonic()
        deadline = begun + seconds
        try:
            return await link.request(payload, deadline, idempotent=idempotent)
        except DeadlineExceeded:
            if self._channel is link and link.association.heard < begun:
                # Perhaps the server does not know us any more, and cannot say so.
                self._channel = None
                self._let_go(link)
            raise
        except Lost as lost:
            if not (idempotent or lost.first == math.inf or was_unprocessed(lost, lost.first, renewed=False)):
                raise unknown(lost) from None
        link = await self._usable()
        try:
            return await link.request(payload, deadline, idempotent=idempotent)
        except Lost as lost:
            raise unknown(lost) from None

    async def _connect(self, deadline: float) -> _Link:
        """An association with the first address of the host that makes one."""
        where = where_text(self.host, self.port)
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError, OverflowError):
            raise TransportError(f"{where}: the host's address cannot be found") from None
        for number, (*_, address) in enumerate(addresses, 1):
            # An address that never answers leaves the others their share.
            share = (deadline - monotonic()) / (len(addresses) - number + 1)
            try:
                return await self._made(address, where, share)
            except (HandshakeFailed, HandshakeRejected, PeerNotAllowed):
                raise
            except (TransportError, DeadlineExceeded):
                if number == len(addresses):
                    raise
        raise AssertionError  # pragma: no cover - getaddrinfo gives one address at least

    async def _made(self, address: Any, where: str, seconds: float) -> _Link:
        association = ClientAssociation(
            self.security, self.security.present(), host=canonical_host(self.host), where=where
        )  # fmt: skip
        link = _Link(association, where)
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: link, remote_addr=address[:2])
        except OSError as error:
            raise TransportError(f"cannot reach {where}: {reason(error)}") from None
        try:
            await asyncio.wait_for(asyncio.shield(link.established), max(0.0, seconds))
        except BaseException as error:
            link.close()
            await link.gone
            if isinstance(error, TimeoutError) and not isinstance(error, SealwireError):
                raise DeadlineExceeded(f"{where} did not complete the handshake in time") from None
            raise
        return link

"""The client's end on asyncio: requests out, and each reply to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from contextlib import suppress
from time import monotonic

from sealwire.aio.channel.stream import Stream
from sealwire.channel.client import unanswered
from sealwire.channel.connecting import established, local, no_welcome, secured, tls_failure
from sealwire.channel.plain import PlainObject
from sealwire.channel.pump import LINGER
from sealwire.clients import was_unprocessed
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    InvalidState,
    RemoteError,
    RemoteProtocolError,
    SealwireError,
    TruncatedFrame,
)
from sealwire.security import Security
from sealwire.standing import Standing
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Closed, Event, Faulted, Reply
from sealwire.wire.frames import Payload, VerifiedPayload

logger = logging.getLogger("sealwire.client")


class Lost(ConnectionClosed):
    """The connection ended while a request was under way. unprocessed: whether it is proved that no handler saw it."""

    def __init__(self, closed: ConnectionClosed, *, unprocessed: bool) -> None:
        super().__init__(str(closed), code=closed.code, last=closed.last)
        self.unprocessed = unprocessed


class AsyncClientChannel(Stream):
    """The client's end of a sealed connection.

    where: the server, for people. host: as it is to be verified; None on a Unix socket. ``peer``: who is at the other
    end. ``over``: why no more replies come; None while they do.
    """

    _protocol: ClientProtocol
    _standing: Standing
    _reads_while_full = True

    def __init__(self, security: Security, credentials: CredentialSet, *, host: str | None, where: str) -> None:
        super().__init__(None if host is None else security.client_context(credentials), server_side=False, host=host)
        self._security = security
        self._credentials = credentials
        self._host = host or ""
        self._where = where
        self._frame_timeout = security.limits.frame_timeout
        self._replies: dict[int, asyncio.Future[VerifiedPayload]] = {}
        self._in_order: deque[asyncio.Future[VerifiedPayload]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self.peer: PeerIdentity | None = None
        self.over: SealwireError | None = None

    async def establish(self, deadline: float) -> None:
        """TLS and Sealwire's handshake. Raises HandshakeFailed, HandshakeRejected, PeerNotAllowed, DeadlineExceeded,
        ConfigurationError.
        """
        assert self._transport is not None  # noqa: S101 - it is connected
        if isinstance(self._tls, PlainObject):
            sock = self._transport.get_extra_info("socket")
            self.peer, protocol, self._standing = local(sock, self._security, self._credentials)
        else:
            try:
                await self.secure(deadline)
            except DeadlineExceeded:
                raise DeadlineExceeded(f"{self._where} did not complete TLS in time") from None
            except OSError as error:
                raise tls_failure(error, self._where, self._credentials) from None
            self.peer, protocol, self._standing = secured(
                self._tls, self._host, self._where, self._security, self._credentials
            )
        self.seal(protocol)
        self.flush_soon()
        try:
            event = await self.next_event(deadline)
        except SealwireError as error:
            anonymous = self._credentials.leaf is None
            failed = no_welcome(error, self._where, self.failure, anonymous=anonymous)
            raise failed from failed.__cause__
        self._standing.agree(established(event, self._where))
        self._reader = self._loop.create_task(self._read_replies(), name=f"sealwire {self._where}")

    def usable(self) -> bool:
        """Whether the connection can take a request, and what it was made by still holds."""
        if self.over is not None or self.ended or self.lost.done():
            return False
        if monotonic() >= self._standing.next_look:
            lapse = self._standing.look()
            reason = self._standing.stale() if lapse is None else lapse.reason
            if reason is not None:
                logger.info("a connection to %s is not used any more: %s", self.peer, reason)
                return False
        return True

    @property
    def renewed(self) -> bool:
        """Whether a new connection would be made with another certificate or key."""
        return self._standing.renewed()

    async def request(self, payload: Payload, wait: float) -> VerifiedPayload:
        """Send a request and wait for its reply; who is cancelled meanwhile leaves the others alone.

        wait: seconds, which are for the caller to keep. Raises RemoteError, PayloadTooLarge, RemoteProtocolError, Lost.
        """
        await self._room()
        if self.over is not None or self.ended:
            raise Lost(ConnectionClosed("the connection ended before the request was sent"), unprocessed=True)
        sequence, future = self._send(payload, wait)
        try:
            return await future
        except ConnectionClosed as closed:
            # Each of those who wait has an error of its own, with what is known of its own request.
            raise Lost(closed, unprocessed=was_unprocessed(closed, sequence, renewed=self.renewed)) from None
        finally:
            if self._replies.pop(sequence, None) is not None:
                self._protocol.give_up(sequence)

    def send_msg(self, payload: Payload) -> None:
        """Send a request; sealwire.send_msg(channel, payload) is the usual way to call it."""
        if self.over is not None or self.ended:
            raise ConnectionClosed("the connection has ended; nothing more can be sent on it")
        self._in_order.append(self._send(payload, 0.0)[1])

    async def recv_async(self) -> bytes | None:
        """The next reply in the order of requests; None after the server's CLOSE."""
        if not self._in_order:
            raise InvalidState("no request is unanswered, so no reply will come; send_msg first")
        try:
            return bytes(await self._in_order.popleft())
        except ConnectionClosed as closed:
            if closed.code is None:
                raise
            return None

    def give_up(self) -> None:
        """Whoever waits for a reply gets ConnectionClosed."""
        self._conclude(ConnectionClosed("the connection was closed by this side"))

    async def end(self) -> None:
        """Close, when nobody waits for a reply any more."""
        while self._replies:
            await asyncio.wait(list(self._replies.values()))
        self.give_up()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        # Of requests that were given up the replies may take long, and nobody wants them.
        await self.close(linger=0 if self._protocol.unanswered else LINGER)

    def _send(self, payload: Payload, wait: float) -> tuple[int, asyncio.Future[VerifiedPayload]]:
        sequence = self._protocol.send_request(payload, wait=wait or None)
        future: asyncio.Future[VerifiedPayload] = self._loop.create_future()
        future.add_done_callback(_seen)
        self._replies[sequence] = future
        self.flush_soon()
        return sequence, future

    async def _room(self) -> None:
        """Wait while more is to be sent than the transport takes; what breaks it meanwhile, the reply will say."""
        if self._full or self._unsent:
            with suppress(ConnectionClosed, DeadlineExceeded):
                await self.drained()

    async def _read_replies(self) -> None:
        """Until the connection's end, or the client's."""
        try:
            while True:
                self._happened(await self.next_event(math.inf))
                if self.over is not None:
                    break
        except TruncatedFrame:
            self._conclude(ConnectionClosed("the connection ended inside a frame of the server"))
        except (RemoteProtocolError, ConnectionClosed) as error:
            self._conclude(error)
        await self.close()

    def _happened(self, event: Event | None) -> None:
        if isinstance(event, Closed):
            self._conclude(unanswered(event))
        elif event is None:
            self._conclude(ConnectionClosed("the connection was closed by this side"))
        elif isinstance(event, Reply | Faulted):
            future = self._replies.pop(event.request, None)
            if future is None or future.done():
                return
            if isinstance(event, Reply):
                future.set_result(event.payload)
            else:
                future.set_exception(RemoteError(event.code, event.text))

    def _conclude(self, error: SealwireError) -> None:
        """No more replies come."""
        if self.over is None:
            self.over = error
        for future in self._replies.values():
            if not future.done():
                future.set_exception(self.over)
        self._replies.clear()


def _seen(future: asyncio.Future[VerifiedPayload]) -> None:
    """Nobody may be left who waits for it, which is no reason to complain."""
    if not future.cancelled():
        future.exception()

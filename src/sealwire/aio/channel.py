"""A client's connection on asyncio: bytes in, bytes out, and each reply to whoever waits for it.

The transport reads into the wire protocol's own buffer (asyncio.BufferedProtocol), as the synchronous pump does.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import cast

from sealwire.channel.client import REJECTIONS, unwelcome
from sealwire.client import was_unprocessed
from sealwire.errors import (
    ConnectionClosed,
    HandshakeFailed,
    HandshakeRejected,
    RemoteError,
    RemoteProtocolError,
    SealwireError,
    TruncatedFrame,
)
from sealwire.security import Security
from sealwire.standing import Standing
from sealwire.tls.contexts import ALPN
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Closed, Established, Event, Faulted, Ponged, Rejected, Reply
from sealwire.wire.frames import CloseCode, Payload, RejectCode, VerifiedPayload
from sealwire.wire.protocol import State


class Lost(ConnectionClosed):
    """The connection ended while a request was under way. unprocessed: whether it is proved that no handler saw it."""

    def __init__(self, closed: ConnectionClosed, *, unprocessed: bool) -> None:
        super().__init__(str(closed), code=closed.code, last=closed.last)
        self.unprocessed = unprocessed


class AsyncChannel(asyncio.BufferedProtocol):
    """The client's end of a sealed connection.

    where: the server, for people. host: as it was verified. ``established``: done when the handshake is. ``ended``:
    done when the connection is over; ``failure``: why.
    """

    def __init__(self, security: Security, credentials: CredentialSet, *, host: str, where: str) -> None:
        loop = asyncio.get_running_loop()
        self._security = security
        self._credentials = credentials
        self._host = host
        self._where = where
        self._transport: asyncio.Transport | None = None
        self._protocol: ClientProtocol | None = None
        self._standing: Standing | None = None
        self._waiting: dict[int, asyncio.Future[VerifiedPayload]] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self.peer: PeerIdentity | None = None
        self.established: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.failure: SealwireError | None = None

    # asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is complete: say HELLO."""
        self._transport = cast(asyncio.Transport, transport)
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        leaf = tls.getpeercert(binary_form=True)
        try:
            if tls.selected_alpn_protocol() != ALPN or leaf is None:
                raise HandshakeFailed(
                    f"{self._where} did not agree to the protocol {ALPN}; something else listens there"
                )
            self.peer = PeerIdentity.from_der(leaf)
            self._protocol = self._security.client_protocol(self._credentials, host=self._host, server=leaf)
            self._standing = Standing(self._security, self._credentials, self.peer, leaf, is_client=True)
        except SealwireError as error:
            self._fail(error)
            return
        self._write()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into."""
        return self._protocol.get_buffer(sizehint) if self._protocol is not None else memoryview(bytearray(1))

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if self._protocol is not None:
            self._protocol.buffer_updated(nbytes)
            self._pump()

    def eof_received(self) -> None:
        """The server has ended its stream."""
        if self._protocol is not None:
            self._protocol.eof_received()
            self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self.failure is None:
            self.eof_received()
        if not self.established.done():
            anonymous = self._credentials.leaf is None
            failure = exc if isinstance(exc, OSError) else None
            self._fail(HandshakeFailed(unwelcome(self._where, failure, anonymous=anonymous)))
        self._fail(ConnectionClosed("the connection ended"))
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It takes more."""
        self._writable.set()

    # The client's

    def usable(self) -> bool:
        """Whether the connection can take a request, and what it was made by still holds."""
        if self.failure is not None or self._protocol is None or self._protocol.state is not State.OPEN:
            return False
        standing = self._standing
        if standing is not None and monotonic() >= standing.next_look:
            return standing.look() is None and standing.stale() is None
        return True

    @property
    def renewed(self) -> bool:
        """Whether a new connection would be made with another certificate or key."""
        return self._standing is not None and self._standing.renewed()

    @property
    def unanswered(self) -> int:
        """Requests that somebody waits for."""
        return len(self._waiting)

    async def request(self, payload: Payload, wait: float) -> VerifiedPayload:
        """Send a request and wait for its reply; who is cancelled meanwhile leaves the others alone.

        Raises RemoteError, PayloadTooLarge, RemoteProtocolError, Lost.
        """
        await self._writable.wait()
        if self.failure is not None or self._protocol is None or self._protocol.state is not State.OPEN:
            raise Lost(ConnectionClosed("the connection ended before the request was sent"), unprocessed=True)
        sequence = self._protocol.send_request(payload, wait=wait)
        future: asyncio.Future[VerifiedPayload] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = future
        self._write()
        try:
            return await future
        except ConnectionClosed as closed:
            # Each of those who wait has an error of its own, with what is known of its own request.
            raise Lost(closed, unprocessed=was_unprocessed(closed, sequence, renewed=self.renewed)) from None
        finally:
            if self._waiting.pop(sequence, None) is not None and self.failure is None:
                self._protocol.give_up(sequence)

    def close(self) -> None:
        """End the connection: CLOSE, then TLS's end."""
        if self._protocol is not None and self.failure is None:
            self._protocol.close(CloseCode.DONE)
            self._write()
        self._fail(ConnectionClosed("the connection was closed by this side"))

    # Inside

    def _write(self) -> None:
        if self._transport is not None and self._protocol is not None and not self._transport.is_closing():
            self._transport.writelines(self._protocol.data_to_send())

    def _pump(self) -> None:
        assert self._protocol is not None  # noqa: S101 - as both callers have seen
        try:
            while (event := self._protocol.next_event()) is not None:
                self._happened(event)
        except TruncatedFrame:
            self._fail(ConnectionClosed("the connection ended inside a frame of the server"))
        except RemoteProtocolError as error:
            self._write()
            if not self.established.done():
                self._fail(HandshakeFailed(f"{self._where} did not prove that it holds this client's key: {error}"))
            self._fail(error)
        except ConnectionClosed as closed:
            if self.established.done():
                self._fail(closed)
        else:
            self._write()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Established):
            assert self._standing is not None  # noqa: S101 - made with the protocol
            self._standing.agree(event.key_id)
            self.established.set_result(None)
        elif isinstance(event, Rejected):
            text = REJECTIONS[RejectCode(event.code)]
            self._fail(HandshakeRejected(f"{self._where} refused: {text}", code=event.code))
        elif isinstance(event, Closed):
            why = f"the server closed the connection (code {event.code}) with the request unanswered"
            self._fail(ConnectionClosed(why, **event._asdict()))
        elif isinstance(event, Reply | Faulted):
            future = self._waiting.pop(event.request, None)
            if future is None or future.done():
                return
            if isinstance(event, Reply):
                future.set_result(event.payload)
            else:
                future.set_exception(RemoteError(event.code, event.text))
        else:
            assert isinstance(event, Ponged)  # noqa: S101 - what is left

    def _fail(self, error: SealwireError) -> None:
        if self.failure is None:
            self.failure = error
        if not self.established.done():
            self.established.set_exception(self.failure)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self.failure)
        if self._transport is not None:
            self._write()
            self._transport.close()

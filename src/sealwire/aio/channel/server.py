"""The server's end on asyncio: accept, requests in, replies out."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from sealwire.aio.channel.stream import Stream
from sealwire.channel.plain import PlainObject
from sealwire.channel.server import (
    FAULT_TEXTS,
    MAX_UNANSWERED,
    Lease,
    established,
    local,
    secured,
    tls_failure,
)
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    InvalidState,
    PayloadTooLarge,
)
from sealwire.security import Security
from sealwire.standing import Lapse, Standing
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Closed, Request
from sealwire.wire.frames import CloseCode, FaultCode, Payload
from sealwire.wire.server import ServerProtocol


class AsyncServerChannel(Stream):
    """The server's end of a sealed connection; what an ``async def handle`` is given as ``self.request``.

    local: whether it is a Unix socket. peer, key_id, deadline, lapse: as of a ServerChannel. One task takes requests;
    any number of them may answer.
    """

    _protocol: ServerProtocol
    _standing: Standing
    _reads_while_full = False

    def __init__(self, security: Security, *, local: bool, lease: Lease, busy: Callable[[], int | None]) -> None:
        self._security = security
        self._credentials = security.present()
        super().__init__(None if local else security.server_context(self._credentials), server_side=True)
        self._lease = lease
        self._busy = busy
        self._promoted = False
        self._limits = security.limits
        self._frame_timeout = security.limits.frame_timeout
        self._end: int | None = None
        self._active = 0.0
        self.key_id = ""
        self.lapse: Lapse | None = None
        self.deadline: float | None = None

    @property
    def peer(self) -> PeerIdentity | None:
        """Who is at the other end; None for a client without a certificate."""
        return self._lease.peer

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; the transport closes its socket next."""
        self._lease.hold(None)
        super().connection_lost(exc)

    async def accept(self) -> None:
        """TLS and Sealwire's handshake, all under Limits.handshake_timeout.

        Raises HandshakeFailed, PeerNotAllowed, RemoteProtocolError, ConnectionClosed, DeadlineExceeded.
        """
        deadline = monotonic() + self._limits.handshake_timeout
        assert self._transport is not None  # noqa: S101 - it is connected
        if isinstance(self._tls, PlainObject):
            sock = self._transport.get_extra_info("socket")
            protocol, self._standing = local(
                sock, self._security, self._credentials, lease=self._lease, busy=self._busy
            )
        else:
            try:
                await self.secure(deadline)
            except DeadlineExceeded:
                raise
            except OSError as error:
                raise tls_failure(error, self._credentials) from None
            protocol, self._standing = secured(
                self._tls, self._security, self._credentials, lease=self._lease, busy=self._busy
            )
        self.seal(protocol)
        self.key_id = established(await self.next_event(deadline), protocol, self._standing)

    async def next_request(self) -> Request | None:
        """The next request, which is not handed to a handler before :meth:`take`; None where the connection ends,
        whoever wanted it. Raises RemoteProtocolError, ConnectionClosed.
        """
        if self._protocol.unanswered >= MAX_UNANSWERED:
            raise InvalidState(f"{MAX_UNANSWERED} requests are unanswered; answer them before the next one")
        self._active = monotonic()
        frame: float | None = None
        while self._end is None:
            event = self._event()
            if isinstance(event, Closed) or (event is None and self.ended):
                return None
            if event is None:
                frame = (frame or self._frame_deadline()) if self._protocol.inside_frame else None
                idle = self._active + self._limits.idle_timeout
                if not await self._more(idle if frame is None else frame):
                    self._look_at_time(frame)
                continue
            if not self._promoted and self._protocol.authenticated:
                self._promoted = self._lease.promote()
                if not self._promoted:
                    self._end = CloseCode.GOING_AWAY
                    break
            if isinstance(event, Request):
                self.deadline = None if event.wait is None else monotonic() + event.wait
                return event
            frame = None
        return None

    def take(self, request: Request, deadline: float | None) -> bool:
        """Whether that request goes to a handler now: not where its time is over, or the connection's."""
        if self._end is not None or self.ended:
            return False
        if deadline is not None and monotonic() >= deadline:
            self.send_fault(request.sequence, FaultCode.DEADLINE_EXCEEDED)
            return False
        self._protocol.hand_over(request.sequence)
        self._lease.count()
        return True

    def send_reply(self, request: int, payload: Payload) -> None:
        """Queue the answer to a request; FAULT 18 where the payload is over the client's cap.

        Raises ConnectionClosed, InvalidState, PayloadTooLarge.
        """
        self.look()
        if self.ended:
            raise ConnectionClosed("the connection was ended before the reply, which was dropped")
        try:
            self._protocol.send_reply(request, payload)
        except PayloadTooLarge:
            self.send_fault(request, FaultCode.TOO_LARGE)
            raise
        self._active = monotonic()
        self.flush_soon()

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; ``text``: by default the fixed one for the code. Raises like send_reply."""
        if self.ended:
            raise ConnectionClosed("the connection was ended before the reply, which was dropped")
        self._protocol.send_fault(request, code, FAULT_TEXTS[FaultCode(code)] if text is None else text)
        self._active = monotonic()
        self.flush_soon()

    @property
    def oldest_unanswered(self) -> int | None:
        """The request that has waited longest for its answer."""
        return self._protocol.oldest_unanswered

    async def recv_async(self) -> bytes | None:
        """The next request's payload; None at the clean end. ``await sealwire.recv_async(channel)`` is the usual way.

        Waits until what was sent is on its way, so that a client which takes nothing is asked nothing.
        """
        await self.drained()
        while (request := await self.next_request()) is not None:
            if self.take(request, self.deadline):
                return bytes(request.payload)
        return None

    def send_msg(self, payload: Payload) -> None:
        """Answer the oldest unanswered request. Raises InvalidState where there is none."""
        request = self.oldest_unanswered
        if request is None:
            raise InvalidState("there is no unanswered request; a server sends nothing unasked")
        self.send_reply(request, payload)

    def leave(self) -> None:
        """Take no more requests: the server is going away."""
        if self._end is None:
            self._end = CloseCode.GOING_AWAY
        self._wake()

    def look(self) -> None:
        """Look, where it is time to, whether what the connection was made by still holds; end it where not."""
        if not self.key_id or self.lapse is not None or monotonic() < self._standing.next_look:
            return
        self.lapse = self._standing.look()
        if self.lapse is not None:
            self._end = self.lapse.code
            if self.lapse.at_once:
                self._protocol.close(self.lapse.code)
                self.flush_soon()
            self._wake()

    async def end(self) -> None:
        """Close with the code that says why, or 0."""
        await self.close(CloseCode.DONE if self._end is None else self._end)

    def _look_at_time(self, frame: float | None) -> None:
        """A deadline has come. Requests in a handler's hands keep a connection from being idle."""
        now = monotonic()
        if frame is not None or (now >= self._active + self._limits.idle_timeout and not self._protocol.unanswered):
            self._end = CloseCode.IDLE
        elif self._protocol.unanswered:
            self._active = now

    def _frame_deadline(self) -> float:
        return monotonic() + self._limits.frame_timeout

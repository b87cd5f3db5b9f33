"""A client's end of a connection on a blocking socket: requests out, replies in."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    RemoteError,
    SealwireError,
    TruncatedFrame,
)
from sealwire.fork import leave_in_children
from sealwire.security import Security
from sealwire.session import explain, misuse
from sealwire.session.call_metadata import CallMetadata, sendable
from sealwire.session.client import ClientSession, ConnectionLost
from sealwire.sync.client_parts import ClientPartsChannel
from sealwire.sync.pump import WOULD_BLOCK, Carrier
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Event, Ponged, Reply
from sealwire.wire.frames import CloseCode, Payload, VerifiedPayload
from sealwire.wire.protocol import State

_OPEN: Final = State.OPEN
_LOOKS: Final = 16
"""Reads that show whether a connection without a request in flight is usable, at most."""


class ClientChannel(ClientPartsChannel):
    """A client's end of a sealed connection, made by :func:`sealwire.sync.connect`.

    Args:
        sock: The connection's socket.
        protocol: The connection's protocol.
        session: The rules of the connection.
        security: The client's Security.

    Attributes:
        peer: The server's verified identity.
        idle_since: The time of the last use, for a client that sends a PING after some time.
    """

    idle_since = 0.0

    _protocol: ClientProtocol

    def __init__(self, sock: Carrier, protocol: ClientProtocol, session: ClientSession, security: Security) -> None:
        super().__init__(sock, protocol)
        self._session = session
        self._server = session.address
        self._security = security
        self._limits = security.limits
        self._queued: list[int] = []
        """The requests of :meth:`send` whose frames are queued."""
        self._unsent: deque[tuple[int, memoryview]] = deque()
        """Pieces of the requests of :meth:`send` that were not passed to TLS, and the number of the first in each."""
        self.peer: PeerIdentity = session.peer
        leave_in_children(self)

    def request(self, payload: Payload, deadline: float, call_metadata: CallMetadata | None = None) -> VerifiedPayload:
        """Send a request and return its reply.

        If the connection breaks while sending, the server's last frames are read before the error is raised, since they
        may explain it. If the time runs out, the server is told that the request is cancelled.

        Raises DeadlineExceeded, PayloadTooLarge, InvalidState, RemoteError, RemoteProtocolError, ConnectionLost.
        """
        metadata = None
        if call_metadata is not None:
            metadata = sendable(call_metadata.metadata, self._protocol.features, self._session.address)
        sequence, sent = self._send_request(payload, deadline, metadata)
        try:
            if sent:
                self.receive(deadline)
            return self.receive_reply(deadline, call_metadata)
        except DeadlineExceeded:
            self.cancel(sequence)
            raise
        except (ConnectionClosed, TruncatedFrame) as error:
            raise self._session.lost(error, sequence if sent else None) from None

    def receive_reply(self, deadline: float, call_metadata: CallMetadata | None = None) -> VerifiedPayload:
        """Return the next reply. Raises RemoteError, DeadlineExceeded, RemoteProtocolError, ConnectionClosed."""
        while True:
            event = self._protocol.next_event()
            if event is None:
                event = self._wait_for_event(deadline)
            if type(event) is Reply:
                if call_metadata is not None:
                    call_metadata.receive(event.metadata)
                return event.payload
            answer = self._session.receive(event)
            if answer is not None:
                if isinstance(answer[1], RemoteError):
                    raise answer[1]
                return answer[1]

    def ping(self, deadline: float) -> float:
        """Return the seconds until the server's answer to a PING.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionLost.
        """
        start = monotonic()
        self._protocol.send_ping()
        try:
            self.flush(deadline)
            while not isinstance(event := self._wait_for_event(deadline), Ponged):
                self._session.receive(event)
        except (ConnectionClosed, TruncatedFrame) as error:
            raise self._session.lost(error, None) from None
        return monotonic() - start

    def send(self, payload: Payload, wait: float) -> int:
        """Queue a request, for :meth:`send_queued`, and return its number. Raises PayloadTooLarge, InvalidState."""
        sequence = self._protocol.send_request(payload, wait=wait)
        self._queued.append(sequence)
        return sequence

    def send_queued(self) -> None:
        """Send as much as possible of what is queued without waiting, small requests together."""
        numbers, self._queued = self._queued, []
        if not numbers:
            return
        if self._records is not None and not self._unsent:
            self._broken_off = True
            try:
                if self._records.write(self._protocol.queued):
                    self._broken_off = False
                    return
            except OSError as error:
                self.failure = explain.without_frames(error)  # the server's last frames can still be read
        frames = self._protocol.frames_to_send()
        if len(frames) != len(numbers):  # they are in one piece, of which the kernel has a part
            numbers = numbers[:1] * len(frames)
        for number, frame in zip(numbers, frames, strict=True):
            self._unsent.extend((number, memoryview(piece).cast("B")) for piece in frame)
        self._write_some()

    @property
    def has_unsent(self) -> bool:
        """True if the last byte of the last request from :meth:`send_queued` was not passed to TLS yet."""
        return bool(self._unsent)

    def was_sent(self, sequence: int) -> bool:
        """Return True if the last byte of a request from :meth:`send` was passed to TLS."""
        first = self._unsent[0][0] if self._unsent else min(self._queued, default=sequence + 1)
        return sequence < first

    @property
    def has_frames(self) -> bool:
        """True if a frame that was read, or a part of one, was not taken."""
        return not self._protocol.reader.empty

    @property
    def has_input(self) -> bool:
        """True if something has arrived that was not read."""
        return self._sock.buffered or bool(self._input.poll(0))

    def answer_now(self, seconds: float) -> tuple[int, VerifiedPayload | RemoteError] | None:
        """Return the next answer if it has arrived, or arrives within ``seconds``. Raises like :meth:`request`."""
        event = self._protocol.next_event()
        if event is None and (self._sock.buffered or self._input.poll(seconds * 1000)):
            self._read_now()
            event = self._protocol.next_event()
        return None if event is None else self._session.receive(event)

    def wait_for_answer(self, deadline: float) -> tuple[int, VerifiedPayload | RemoteError] | None:
        """Return the next answer, or None when the last request is sent.

        Writing and reading at a time keeps two ends that both send much from waiting for each other. Raises like
        :meth:`request`.
        """
        self.send_queued()
        unsent = self.has_unsent
        while self.has_unsent or not unsent:
            event = self._protocol.next_event()
            if event is not None:
                answer = self._session.receive(event)
                if answer is not None:
                    return answer
            elif self._protocol.state is State.ENDED:
                raise explain.closed_here()
            elif monotonic() >= deadline:
                raise explain.nothing_came(self._server)
            elif not self._write_some() and not self._read_now():
                self._wait_for_either(self.has_unsent, deadline)
        return None

    def lost(self, error: ConnectionClosed | TruncatedFrame, sequence: int) -> ConnectionLost:
        """Return the error for a request that was in flight when the connection ended."""
        return self._session.lost(error, sequence)

    def is_current(self) -> bool:
        """Return True if certificates, key and age allow the next request. Checks them if due."""
        now = monotonic()
        if now < self._session.validity.next_check:
            return True
        self._security.refresh()
        return self._session.usable(now)

    def usable(self) -> bool:
        """Return True if the connection can take a request.

        Checks certificates and key if due, and reads a CLOSE or an end of the stream that has arrived. It waits for the
        network only if a request was cancelled: a moment, for the answer to it.
        """
        protocol = self._protocol
        if monotonic() >= self._session.validity.next_check and not self.is_current():
            protocol.close(CloseCode.DONE)
        if protocol.state is not _OPEN or (protocol.awaited and not self.forget_cancelled()):
            return False
        if not self._sock.buffered and not self._input.poll(0):
            return self.failure is None
        try:
            for _ in range(_LOOKS):
                if self.ended or not (self._sock.buffered or self._input.poll(0)):
                    return not self.ended
                self._read()
                if self._protocol.next_event() is not None:
                    return False
        except WOULD_BLOCK:
            return not self.ended  # only a part of a TLS record has arrived
        except SealwireError:
            return False
        return False  # nothing but CLOSE may come now, and that is short

    @property
    def idle(self) -> bool:
        """True if the connection is open, and no request is unanswered that was not cancelled."""
        protocol = self._protocol
        if protocol.awaited and (self._broken_off or not protocol.has_only_cancelled):
            return False
        return protocol.state is _OPEN and not self._closed and self.failure is None

    def interrupt(self) -> None:
        """End the connection under a call that uses it, in whatever thread: what it waits for does not come."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close the socket without sending anything.

        In a forked child, because the parent uses the connection; or if a step on it may have been left half done.
        """
        self._closed = True
        self._protocol.close()
        self._release()

    leave_to_parent = abandon

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._sock.close()

    def send_msg(self, payload: Payload) -> None:
        """Send a request. Usually called as ``sealwire.send_msg(channel, payload)``.

        Args:
            payload: The encoded message.

        Raises:
            PayloadTooLarge: The payload is over the server's limit; nothing was sent.
            ConnectionClosed: The connection broke; the server did not receive the request.
            DeadlineExceeded: The server did not take the request within Limits.frame_timeout.
        """
        if not self._send_request(payload, monotonic() + self._limits.frame_timeout)[1]:
            raise ConnectionClosed("the connection broke while sending; the request was not received")

    def recv_msg(self) -> bytes | None:
        """Return the payload of the next reply. Usually called as ``sealwire.recv_msg(channel)``.

        Returns:
            The encoded reply, or None if the server has closed the connection.

        Raises:
            InvalidState: No request is unanswered.
            RemoteError: The server answered with an error.
            DeadlineExceeded: There was no reply within Limits.idle_timeout.
            ConnectionClosed: The connection broke.
            RemoteProtocolError: The server broke the protocol.
        """
        if not self._protocol.unanswered:
            raise misuse.nothing_awaited()
        try:
            return bytes(self.receive_reply(monotonic() + self._limits.idle_timeout))
        except ConnectionClosed as closed:
            if closed.code is None:
                raise
            return None

    def _send_request(
        self, payload: Payload, deadline: float, metadata: Mapping[str, str] | None = None
    ) -> tuple[int, bool]:
        """Return the request's number, and True if its last byte was passed to TLS."""
        sequence = self._protocol.send_request(payload, wait=max(0.0, deadline - monotonic()), metadata=metadata)
        try:
            self.flush(deadline)
        except ConnectionClosed:  # reported by the missing reply, with the server's explanation
            return sequence, False
        return sequence, True

    def _wait_for_event(self, deadline: float) -> Event:
        event = self.next_event(deadline)
        if event is None:
            raise explain.closed_here()
        return event

    def _read_now(self) -> bool:
        """Read once without waiting; return False if there is nothing."""
        try:
            self._read()
        except WOULD_BLOCK:
            return False
        return True

    def _write_some(self) -> bool:
        """Write as much as possible without waiting; return True if anything was written."""
        unsent = self._unsent
        wrote = False
        self._broken_off = True
        try:
            while unsent:
                number, piece = unsent[0]
                sent = self._write(piece)
                wrote = True
                if sent == len(piece):
                    unsent.popleft()
                else:
                    unsent[0] = number, piece[sent:]
        except WOULD_BLOCK:
            pass
        except OSError as error:
            # The server's last frames can still be read.
            self.failure = self.failure or explain.without_frames(error)
        self._broken_off = bool(unsent)
        return wrote

    def _wait_for_either(self, output: bool, deadline: float) -> None:
        """Wait for input, or with ``output`` also until something can be written. Raises DeadlineExceeded."""
        both = select.poll()
        both.register(self._sock, select.POLLIN | (select.POLLOUT if output else 0))
        seconds = deadline - monotonic()
        if seconds <= 0 or not both.poll(seconds * 1000):
            raise explain.nothing_came(self._server)

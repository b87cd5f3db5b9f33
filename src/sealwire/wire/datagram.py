"""Carries frames in datagrams, which may be lost, repeated or reordered (docs/protocol.md, section 6).

The contract with the pump, which receives authenticated datagrams (DTLS)::

    protocol.datagram_received(datagram)    returns an event or None; raises an error of the peer
    protocol.frames_to_send()               send each frame in its own datagram, after every call that may queue some
    protocol.timeout                        for a client, the time to call handle_timeout

Frames that are repeated or not sealed with the right key are dropped silently. Any other error of the peer ends the
connection, as on a stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from hmac import compare_digest
from typing import ClassVar, Final, Unpack

from sealwire.backoff import Backoff
from sealwire.errors import RemoteProtocolError
from sealwire.limits import MIN_MAX_FRAME
from sealwire.wire.client import ClientParameters, ClientSide
from sealwire.wire.events import Event
from sealwire.wire.features import NO_FEATURES
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import HANDSHAKE_CAP, HEAD, MIN_LENGTH, TAG, CloseCode, Kind
from sealwire.wire.handshake import HandshakeResult, Rejection
from sealwire.wire.keys import Mac
from sealwire.wire.length_prefix import BYTE_COUNT
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.sequence import HeaderChecker, ReplayWindow
from sealwire.wire.server import ServerParameters, ServerSide

MAX_FRAME: Final = MIN_MAX_FRAME
"""``max_frame`` of both sides, which keeps packets with DTLS, UDP and IPv6 within 1,280 bytes (RFC 8200, section 5)."""
_FIRST_PAUSE: Final = 0.25
_TIMES: Final = 5


class Retransmission:
    """The times to send HELLO again: five times, after pauses that double from 0.25 s."""

    def __init__(self, now: float) -> None:
        self._backoff = Backoff(_FIRST_PAUSE)
        self._remaining = _TIMES
        self.due = now + self._backoff.next()
        """The time to send it next, or infinity after the last time."""

    def is_due(self, now: float) -> bool:
        """Return whether to send it now; if so, schedule the next time."""
        if now < self.due:
            return False
        self._remaining -= 1
        self.due = now + self._backoff.next() if self._remaining else math.inf
        return True


class DatagramProtocol(Protocol):
    """One side of a connection over datagrams."""

    _header_checker_class: ClassVar[type[HeaderChecker]] = ReplayWindow
    _header_checker: ReplayWindow
    _size_limit: ClassVar[str] = "a datagram holds at most {limit}; send it in parts, or over TCP"
    _opening: ClassVar[tuple[Kind, ...]]
    """The kinds of frame that are accepted before the connection is established."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(min(max_frame, MAX_FRAME))
        self._receiving: Mac | None = None

    def datagram_received(self, datagram: bytes) -> Event | None:
        """Process a datagram and return its event, if any. Raises RemoteProtocolError."""
        frame = self._acceptable(datagram)
        if frame is None:
            return None
        try:
            return self._handshake(frame) if self.state is State.HANDSHAKE else self._frame(frame)
        except RemoteProtocolError:
            if self.state is not State.ENDED:  # if it has, REJECT was the answer
                self._fail()
            raise

    def _acceptable(self, datagram: bytes) -> Frame | None:
        """Return the frame of a datagram, or None to drop it. Changes no state."""
        mac = self._receiving
        cap = HANDSHAKE_CAP if mac is None else self._max_frame
        if self.state is State.ENDED or not MIN_LENGTH <= len(datagram) - BYTE_COUNT <= cap:
            return None
        length, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(datagram)
        frame = Frame(kind, flags, wait, sequence, reply_to, datagram[HEAD.size : -TAG], datagram)
        if length != len(datagram) - BYTE_COUNT or not self._header_checker.is_new(frame.sequence):
            return None
        if mac is None:
            return frame if frame.sequence == 0 and frame.kind in self._opening else None
        return frame if compare_digest(mac.tag(datagram[:-TAG]), datagram[-TAG:]) else None

    def _begin_sealing(self, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:
        super()._begin_sealing(sending, receiving, min(peer_max_frame, MAX_FRAME))
        self._receiving = receiving


class ClientDatagrams(ClientSide, DatagramProtocol):
    """A client's side of a connection over datagrams.

    HELLO is queued from the start, and again after growing pauses until there is an answer.

    Args:
        now: The current time of the caller's clock.
        parameters: Those of ClientParameters.
    """

    _opening = (Kind.WELCOME, Kind.REJECT)

    def __init__(self, now: float, **parameters: Unpack[ClientParameters]) -> None:
        parameters["max_frame"] = MAX_FRAME
        parameters["features"] = parameters.get("features", NO_FEATURES).without_parts
        super().__init__(**parameters)
        self._retransmission = Retransmission(now)

    @property
    def timeout(self) -> float:
        """The time to call handle_timeout, or infinity."""
        return self._retransmission.due if self.state is State.HANDSHAKE else math.inf

    def handle_timeout(self, now: float) -> None:
        """Queue the same HELLO again if it is due."""
        if self.state is State.HANDSHAKE and self._retransmission.is_due(now):
            self.queued.append((self._client_handshake.hello,))


class ServerDatagrams(ServerSide, DatagramProtocol):
    """A server's side of a connection over datagrams.

    A repeated HELLO gets the same answer, byte for byte, until a frame shows that the client has received it.
    """

    _opening = (Kind.HELLO,)

    def __init__(self, parameters: ServerParameters) -> None:
        super().__init__(replace(parameters, max_frame=MAX_FRAME, features=parameters.features.without_parts))
        self._answered: tuple[bytes, Iterable[bytes | memoryview]] | None = None
        """The HELLO frame and the answer to it, while the client may need that again."""

    def datagram_received(self, datagram: bytes) -> Event | None:
        """Process a datagram and return its event, if any. Raises RemoteProtocolError."""
        if self._answered is not None and datagram == self._answered[0]:
            self.queued.append(self._answered[1])
            return None
        return super().datagram_received(datagram)

    def close(self, code: int = CloseCode.DONE) -> None:
        """Queue CLOSE, and stop answering HELLO."""
        self._answered = None
        super().close(code)

    def _answer_hello(self, frame: Frame, answer: tuple[bytes, HandshakeResult] | Rejection) -> Event | None:
        try:
            return super()._answer_hello(frame, answer)
        finally:
            if self.queued:
                self._answered = frame.raw, self.queued[-1]

    def _frame(self, frame: Frame) -> Event | None:
        self._answered = None
        return super()._frame(frame)

"""On datagrams: one frame in each, which comes in any order, twice or not at all (docs/protocol.md, section 6).

The pump contract, for a carrier that keeps strangers out (DTLS)::

    protocol.datagram_received(datagram)    what happened, or None; raises what the peer did wrong
    protocol.frames_to_send()               send each in a datagram of its own, after every call that may queue some
    protocol.timeout                        a client's: call handle_timeout then, if nothing else happens before

What was not made by the holder of the key, or came before, is dropped in silence. What he did wrong ends the
connection, as it does on a stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from hmac import compare_digest
from typing import ClassVar, Final, Unpack

from sealwire.errors import RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD, MIN_MAX_FRAME
from sealwire.wire.client import ClientSide, Offer
from sealwire.wire.events import Event
from sealwire.wire.frames import HANDSHAKE_CAP, HEAD, MIN_LENGTH, TAG, CloseCode, Kind
from sealwire.wire.framing import BYTE_COUNT
from sealwire.wire.keys import Mac
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.reader import Frame
from sealwire.wire.sealing import Opener, Window
from sealwire.wire.server import ServerSide, Terms

MAX_FRAME: Final = MIN_MAX_FRAME
"""``max_frame`` of both sides: with DTLS, UDP and IPv6 a datagram stays within 1,280 bytes (RFC 8200, section 5)."""
MAX_PAYLOAD: Final = MAX_FRAME - FRAME_OVERHEAD
DATAGRAM: Final = BYTE_COUNT + MAX_FRAME
"""Bytes of the largest datagram, before DTLS."""
_FIRST_PAUSE: Final = 0.25
_TIMES: Final = 5


class Resending:
    """When what may be lost is sent again: after 0.25 s, then after twice as long each time, five times in all.

    now: when it was sent first. ``due``: when it is sent next; infinite where it is not any more.
    """

    def __init__(self, now: float) -> None:
        self._pause = _FIRST_PAUSE
        self._left = _TIMES
        self.due = now + self._pause

    def take(self, now: float) -> bool:
        """Whether it is due now; the next time is set then."""
        if now < self.due:
            return False
        self._left -= 1
        self._pause *= 2
        self.due = now + self._pause if self._left else math.inf
        return True


class DatagramProtocol(Protocol):
    """One side of a connection over datagrams."""

    _opener_class: ClassVar[type[Opener]] = Window
    _opener: Window
    _taken: ClassVar[str] = "a datagram takes {most} at most; send it in parts, or over TCP"
    _opening: ClassVar[tuple[Kind, ...]]
    """The kinds that can begin the connection."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(min(max_frame, MAX_FRAME))
        self._receiving: Mac | None = None

    def datagram_received(self, datagram: bytes) -> Event | None:
        """What a datagram brought, if anything. Raises RemoteProtocolError."""
        frame = self._acceptable(datagram)
        if frame is None:
            return None
        try:
            return self._handshake(frame) if self.state is State.HANDSHAKE else self._frame(frame)
        except RemoteProtocolError:
            if self.state is not State.ENDED:  # as it is after REJECT, which is the answer
                self._fail()
            raise

    def _acceptable(self, datagram: bytes) -> Frame | None:
        """The frame, unless it is to be dropped. Nothing is changed by looking."""
        mac = self._receiving
        cap = HANDSHAKE_CAP if mac is None else self._max_frame
        if self.state is State.ENDED or not MIN_LENGTH <= len(datagram) - BYTE_COUNT <= cap:
            return None
        length, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(datagram)
        frame = Frame(kind, flags, wait, sequence, reply_to, datagram[HEAD.size : -TAG], datagram)
        if length != len(datagram) - BYTE_COUNT or not self._opener.is_new(frame.sequence):
            return None
        if mac is None:
            return frame if frame.sequence == 0 and frame.kind in self._opening else None
        return frame if compare_digest(mac.tag(datagram[:-TAG]), datagram[-TAG:]) else None

    def _establish(self, *, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:
        super()._establish(sending=sending, receiving=receiving, peer_max_frame=min(peer_max_frame, MAX_FRAME))
        self._receiving = receiving


class ClientDatagrams(ClientSide, DatagramProtocol):
    """A client's side of one connection over datagrams. now: a moment of the caller's clock; the rest: as Offer
    has it.

    HELLO is among what is to be sent from the start, and again when its time has come, until there is an answer.
    """

    _opening = (Kind.WELCOME, Kind.REJECT)

    def __init__(self, now: float, **offer: Unpack[Offer]) -> None:
        offer["max_frame"] = MAX_FRAME
        super().__init__(**offer)
        self._resending = Resending(now)

    @property
    def timeout(self) -> float:
        """When handle_timeout is to be called; infinite for never."""
        return self._resending.due if self.state is State.HANDSHAKE else math.inf

    def handle_timeout(self, now: float) -> None:
        """Queue HELLO again, byte for byte, if it is time to."""
        if self.state is State.HANDSHAKE and self._resending.take(now):
            self._out.append((self._offer.hello,))


class ServerDatagrams(ServerSide, DatagramProtocol):
    """A server's side of one connection over datagrams.

    The byte-identical HELLO gets the byte-identical answer until the client has shown that it has one.
    """

    _opening = (Kind.HELLO,)

    def __init__(self, terms: Terms) -> None:
        super().__init__(replace(terms, max_frame=MAX_FRAME))
        self._answered: tuple[bytes, Iterable[bytes | memoryview]] | None = None
        """HELLO, and the answer to it."""

    def datagram_received(self, datagram: bytes) -> Event | None:
        """What a datagram brought, if anything. Raises RemoteProtocolError."""
        if self._answered is not None and datagram == self._answered[0]:
            self._out.append(self._answered[1])
            return None
        return super().datagram_received(datagram)

    def close(self, code: int = CloseCode.DONE) -> None:
        """Queue CLOSE; see Protocol.close. HELLO gets no answer any more."""
        self._answered = None
        super().close(code)

    def _handshake(self, frame: Frame) -> Event | None:
        try:
            return super()._handshake(frame)
        finally:
            if self._out:
                self._answered = frame.raw, self._out[-1]

    def _frame(self, frame: Frame) -> Event | None:
        self._answered = None
        return super()._frame(frame)

"""One side of a connection, as its owner uses it and as the attacker sees it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from attacker.deployment import ClientKind, ServerKind
from sealwire.errors import InvalidState, PayloadTooLarge
from sealwire.wire.events import (
    Cancelled,
    Closed,
    Credited,
    Event,
    Faulted,
    Part,
    PartsEnded,
    Pinged,
    Ponged,
    Reply,
    Request,
)
from sealwire.wire.frames import HEAD, TAG, Flag, Kind
from sealwire.wire.metadata import unpack
from sealwire.wire.protocol import State


class Endpoint:
    """One side of a connection.

    Attributes:
        kind: what it is, and what TLS shows it.
        sent: its frames, each whole, by their sequence.
        received: the bytes, or the last datagram, that were put into it.
        partner: the endpoint that it is connected with, once the handshake has proved that.
        offering: of a server, the client whose HELLO it has accepted.
        seen: the sequences of the frames that it has delivered.
        requests: the requests that it may still act on.
    """

    def __init__(self, kind: ClientKind | ServerKind) -> None:
        self.kind = kind
        self.is_client = isinstance(kind, ClientKind)
        self.is_datagrams = kind.carrier == "DTLS"
        self.protocol: Any = kind.make()
        self.sent: list[bytes] = []
        self.received = b""
        self.partner: Endpoint | None = None
        self.offering: Endpoint | None = None
        self.seen: set[int] = set()
        self.requests: list[int] = []
        self.collect()

    @property
    def open(self) -> bool:
        return self.protocol.state is State.OPEN

    @property
    def ended(self) -> bool:
        return self.protocol.state is State.ENDED

    @property
    def next_sequence(self) -> int:
        """The sequence that a stream must bring next."""
        return self.protocol._header_checker.sequence

    @property
    def peer(self) -> Endpoint | None:
        """The endpoint with which it is connected, or would like to be."""
        return self.partner or self.offering

    def next_frame(self) -> bytes | None:
        """Return its peer's next frame, if that has sent one."""
        place, peer = self.next_sequence, self.peer
        return peer.sent[place] if self.open and peer is not None and place < len(peer.sent) else None

    @property
    def own_next_kind(self) -> int | None:
        """The kind of its own frame with the sequence that it must receive next."""
        place = self.next_sequence
        return self.sent[place][4] if self.open and place < len(self.sent) else None

    def collect(self) -> None:
        """Take the frames that it has queued."""
        self.sent += [b"".join(frame) for frame in self.protocol.frames_to_send()]

    def first_frame(self) -> bytes:
        """Return the first frame of those that were put into it, the handshake's."""
        return self.received[: 4 + int.from_bytes(self.received[:4], "big")]

    @property
    def can_act(self) -> bool:
        """True if it can send something that may arrive."""
        is_connected = self.open and self.peer is not None and not self.peer.ended
        return is_connected and (self.is_client or bool(self._unanswered()))

    def _unanswered(self) -> list[int]:
        return [each for each in self.requests if self.protocol.is_unanswered(each)]

    def act(self, what: int, which: int, payload: bytes) -> None:
        """Do one of the things that its program might do; a plain request or reply, if it cannot do that now."""
        # No credit, an answer that is too long, a ping that is unanswered: the program would do something else.
        with suppress(InvalidState, PayloadTooLarge):
            (self._ask if self.is_client else self._answer)(what, which, payload)
        if not self.protocol.queued:
            with suppress(PayloadTooLarge):
                (self._ask if self.is_client else self._answer)(0, which, payload)
        self.collect()

    def _ask(self, what: int, which: int, payload: bytes) -> None:
        protocol = self.protocol
        requests = self._unanswered()
        if what < 6 or not requests:
            flags = (0, 0, Flag.PARTS, Flag.PARTS | Flag.UPLOAD, Flag.PARTS | Flag.UPLOAD, 0)[what % 6]
            flags = flags if protocol.features.parts else 0
            metadata = {"request-id": payload[:8].hex()} if what == 1 and protocol.features.metadata else None
            request = protocol.send_request(
                b"" if flags & Flag.UPLOAD else payload, wait=what or None, metadata=metadata, flags=flags
            )
            self.requests.append(request)
            return
        if what < 10:
            requests = [each for each in requests if protocol.may_send_part(each)] or requests
        request = requests[which % len(requests)]
        if what < 10:
            protocol.send_part(request, payload)
        elif what == 10:
            protocol.end_parts(request)
        elif what == 11:
            protocol.cancel(request)
        elif what == 12:
            protocol.note_processed(request, 1 << 18)
        elif what == 13:
            protocol.send_ping(payload)
        elif what == 14 and which == 0:
            protocol.close()

    def _answer(self, what: int, which: int, payload: bytes) -> None:
        protocol, requests = self.protocol, self._unanswered()
        request = requests[which % len(requests)]
        if what < 5:
            metadata = {"request-id": payload[:8].hex()} if what == 1 and protocol.features.metadata else None
            protocol.send_reply(request, payload, metadata)
        elif what == 5:
            protocol.send_fault(request, 64 + which, payload[:8].hex())
        elif what < 12:
            protocol.send_part(request, payload)
        elif what < 14:
            protocol.note_processed(request, 1 << 18)
        elif what == 14 and which == 0:
            protocol.close()


def meaning(frame: bytes, *, of_client: bool) -> Event | None:
    """Return what a frame tells the peer of the endpoint that sent it; None for one that brings no message."""
    _, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(frame)
    payload = frame[HEAD.size : -TAG]
    if kind == Kind.MESSAGE:
        metadata, size = unpack(payload) if flags & Flag.METADATA else (None, 0)
        if of_client:
            return Request(sequence, payload[size:], wait / 100 if wait else None, flags & ~Flag.METADATA, metadata)
        return Reply(reply_to, payload[size:], metadata)
    numbers = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:10], "big")
    meanings = {
        Kind.FAULT: lambda: Faulted(reply_to, numbers[0], payload[2:].decode()),
        Kind.PING: lambda: Pinged(sequence),
        Kind.PONG: lambda: Ponged(reply_to, payload),
        Kind.CLOSE: lambda: Closed(*numbers),
        Kind.CANCEL: lambda: Cancelled(reply_to),
        Kind.PART: lambda: Part(reply_to, payload),
        Kind.CREDIT: lambda: Credited(reply_to),
        Kind.END: lambda: PartsEnded(reply_to),
    }
    return meanings[Kind(kind)]() if kind in meanings else None

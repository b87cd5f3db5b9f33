"""The events that a pump receives, in order."""

from __future__ import annotations

from typing import NamedTuple

from sealwire.wire.frames import VerifiedPayload


class Established(NamedTuple):
    """The handshake is complete, with the key ``key_id``."""

    key_id: str
    max_frame: int
    """The largest ``length`` that the peer accepts."""


class Doubted(NamedTuple):
    """HELLO is not authorised by the keys in use; look for others, then call ``answer_hello``."""


class Rejected(NamedTuple):
    """The server answered REJECT, which only TLS authenticates."""

    code: int


class Request(NamedTuple):
    """A client's MESSAGE."""

    sequence: int
    payload: VerifiedPayload
    wait: float | None
    """Seconds for which the client waits for the reply, or for the next part of it; None for no limit."""
    flags: int = 0
    """A sum of the Flags PARTS and UPLOAD."""
    metadata: dict[str, str] | None = None
    """None if there is none, and nothing to fill."""


class Reply(NamedTuple):
    """The server's MESSAGE in answer to ``request``."""

    request: int
    payload: VerifiedPayload
    metadata: dict[str, str] | None = None


class Part(NamedTuple):
    """A part of the reply to ``request``, or at a server a part of the request."""

    request: int
    payload: VerifiedPayload


class PartsEnded(NamedTuple):
    """The end of the parts of a client's request."""

    request: int


class Credited(NamedTuple):
    """More parts may be sent for ``request``."""

    request: int


class Cancelled(NamedTuple):
    """The client does not want the reply to ``request``, which is unanswered; it still gets an answer."""

    request: int


class Faulted(NamedTuple):
    """The server's FAULT in place of the reply to ``request``."""

    request: int
    code: int
    text: str


class Pinged(NamedTuple):
    """A client's PING; its PONG is queued already."""

    sequence: int


class Ponged(NamedTuple):
    """The server's PONG to ``request``."""

    request: int
    payload: VerifiedPayload


class Closed(NamedTuple):
    """The peer's CLOSE, a clean end; the answer to it is queued already."""

    code: int
    last: int


Event = (
    Doubted
    | Established
    | Rejected
    | Request
    | Reply
    | Part
    | PartsEnded
    | Credited
    | Cancelled
    | Faulted
    | Pinged
    | Ponged
    | Closed
)

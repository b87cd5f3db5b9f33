"""What a pump is told, in the order in which it happened."""

from __future__ import annotations

from typing import NamedTuple

from sealwire.wire.frames import VerifiedPayload


class Established(NamedTuple):
    """The handshake is complete. ``key_id`` names the key that both sides hold."""

    key_id: str
    max_frame: int
    """What the peer takes: the largest ``length`` that may be sent to it."""


class Rejected(NamedTuple):
    """The server answered REJECT (only TLS vouches for it)."""

    code: int


class Request(NamedTuple):
    """A client's MESSAGE."""

    sequence: int
    payload: VerifiedPayload
    wait: float | None
    """Seconds that the client will still wait for the reply; None where it did not say."""


class Reply(NamedTuple):
    """The server's MESSAGE in answer to ``request``."""

    request: int
    payload: VerifiedPayload


class Faulted(NamedTuple):
    """The server's FAULT in place of the reply to ``request``."""

    request: int
    code: int
    text: str


class Pinged(NamedTuple):
    """A client's PING; its PONG is already among the bytes to send."""

    sequence: int


class Ponged(NamedTuple):
    """The server's PONG to ``request``."""

    request: int
    payload: VerifiedPayload


class Closed(NamedTuple):
    """The peer's CLOSE: a clean end. The answer to it is already among the bytes to send."""

    code: int
    last: int


Event = Established | Rejected | Request | Reply | Faulted | Pinged | Ponged | Closed

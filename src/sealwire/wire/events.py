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
    """Seconds for which the client waits for the reply; None for no limit."""


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


Event = Doubted | Established | Rejected | Request | Reply | Faulted | Pinged | Ponged | Closed

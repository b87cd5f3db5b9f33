"""Retry policy of all clients: when to connect again, to another address, and when to send a lost request again.

Connecting is repeated while the server answers that it is overloaded or shutting down, and once if the client's files
have changed since the server refused its key or certificate. A request that was lost with its
connection is sent again at most once, and only if no handler can have seen it or the caller declared it idempotent
(docs/protocol.md, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import SystemRandom
from time import monotonic
from typing import Final, TypeVar

from sealwire.backoff import Backoff
from sealwire.errors import (
    ConnectionClosed,
    HandshakeFailed,
    HandshakeRejected,
    PeerNotAllowed,
    SealwireError,
    TransportError,
)
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.client import ConnectionLost
from sealwire.trust.certificates import Certificates
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.wire.frames import CloseCode, RejectCode

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_RETRIED: Final = (RejectCode.OVERLOADED, RejectCode.SHUTTING_DOWN)
_RESENDABLE: Final = (None, CloseCode.DONE, CloseCode.IDLE, CloseCode.GOING_AWAY, CloseCode.CREDENTIAL)
"""The codes of CLOSE, and None for an end without CLOSE, after which requests may be sent again.

Any other code reports a protocol error, which would only repeat itself.
"""
_random = SystemRandom()
_T = TypeVar("_T")


def shares(found: Sequence[_T], deadline: float) -> Iterator[tuple[_T, float]]:
    """Yield each address of a host with its share of the seconds until the deadline.

    The remaining addresses share the remaining time, so that one without an answer does not use it up.
    """
    for number, address in enumerate(found):
        yield address, (deadline - monotonic()) / (len(found) - number)


class ConnectRetry:
    """Decides if and when a client that could not connect tries again.

    While the server answers that it is overloaded or shutting down, or cuts connections without a reason, a client
    tries again, with back-off. If one side refuses the other's key, certificate or name, the client checks its files
    and, if they have changed, or no longer have a key that it still uses, tries once more.

    Args:
        security: The client's Security.
        deadline: The time (``time.monotonic()``) after which no attempt begins.

    Attributes:
        refused: The last such answer. At the deadline it explains more than a timeout does.
    """

    def __init__(self, security: Security, deadline: float) -> None:
        self._security = security
        self._deadline = deadline
        # Between half and all of the pause, so that clients refused together do not come back together.
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter=lambda: _random.uniform(0.5, 1.0))
        self._used = security.pinned(), security.credentials.current, security.keys.current
        self._looked_for: SealwireError | None = None
        self.refused: TransportError | None = None

    def wants_look(self, failed: SealwireError) -> bool:
        """Return True if the client must check its files (``Security.look``) before :meth:`delay`: once at most."""
        if self._looked_for is not None or not _concerns_credentials(failed):
            return False
        self._looked_for = failed
        return True

    def delay(self, failed: TransportError) -> float:
        """Return the seconds to wait before the next attempt. Raises ``failed`` if no other attempt is made."""
        remaining = self._deadline - monotonic()
        if remaining < _FIRST_PAUSE:
            raise failed
        if is_transient(failed):
            self.refused = failed
            return min(self._backoff.next(), remaining)
        if failed is self._looked_for and (self._security.keys.let_go() or not self._uses(*self._used)):
            return 0.0
        raise failed

    def _uses(self, pinned: Security, certificates: Certificates, keys: KeySnapshot) -> bool:
        security = self._security
        unchanged = security.credentials.current is certificates and security.keys.current is keys
        return unchanged and security.pinned() is pinned


def is_transient(failed: SealwireError) -> bool:
    """Return True if the same server may accept a connection a moment later: it is overloaded, or shuts down."""
    if isinstance(failed, HandshakeRejected):
        return failed.code in _RETRIED
    return isinstance(failed, HandshakeFailed) and failed.transient


def _concerns_credentials(failed: SealwireError) -> bool:
    if isinstance(failed, HandshakeRejected):
        return failed.code == RejectCode.NOT_AUTHORISED
    return isinstance(failed, PeerNotAllowed) or (isinstance(failed, HandshakeFailed) and not failed.transient)


class Resend:
    """Decides if one request that was lost with its connection is sent again (docs/protocol.md, section 5).

    Every client asks it, each time that a request is lost: it is sent again at most once, while its caller still waits,
    never after a protocol error, and only if no handler can have seen it or the caller declared it idempotent.

    Args:
        deadline: The time (``time.monotonic()``) at which the caller stops waiting.
        idempotent: True if the caller allows the server to act on the request twice.
        times: The number of times that a request which no handler can have seen may be sent again: once for each server
            that may go away. Default: 1.
    """

    def __init__(self, deadline: float, *, idempotent: bool, times: int = 1) -> None:
        self.deadline = deadline
        self._idempotent = idempotent
        self._left = times

    def wants_look(self, lost: ConnectionLost) -> bool:
        """Return True if the client must check its files (``Security.look``) before :meth:`after`.

        After CLOSE 3 their content decides if the request may be sent again.
        """
        return lost.code == CloseCode.CREDENTIAL and self._left > 0

    def after(self, lost: ConnectionLost) -> float:
        """Return the seconds that remain for connecting and sending again.

        Raises ConnectionClosed (outcome unknown) if the request is not sent again, and DeadlineExceeded if it is too
        late for that.
        """
        unprocessed = lost.unprocessed
        if not self._left or lost.code not in _RESENDABLE or not (self._idempotent or unprocessed):
            raise outcome_unknown(lost) from None
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise explain.no_time_to_resend(sent=not unprocessed) from None
        self._left = self._left - 1 if unprocessed else 0
        return seconds


def outcome_unknown(lost: ConnectionClosed) -> ConnectionClosed:
    """Return the error for a request with an unknown outcome."""
    return ConnectionClosed(
        "the connection ended while the request was under way; the server may or may not have acted on it. Requests "
        "for which acting twice does no harm can be sent with idempotent=True",
        code=lost.code,
        last=lost.last,
    )

"""Retry policy of all clients: when to connect again, and when to send a lost request again.

Connecting is repeated while the server answers that it is overloaded or shutting down, and once if the client's files
have changed since the server refused its key or certificate. A request that was lost with its
connection is sent again at most once, and only if no handler can have seen it or the caller declared it idempotent
(docs/protocol.md, section 5).
"""

from __future__ import annotations

from random import SystemRandom
from time import monotonic
from typing import Final

from sealwire.backoff import Backoff
from sealwire.errors import ConnectionClosed, HandshakeFailed, HandshakeRejected, TransportError
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


class ConnectRetry:
    """Decides if and when a client that could not connect tries again.

    While the server answers that it is overloaded or shutting down, or cuts connections without a reason, a client
    tries again, with back-off. If one side refuses the other's key or certificate, the client looks at its files and,
    if they have changed, or no longer have a key that it still uses, tries once more.

    Args:
        security: The client's Security.
        deadline: Moment of ``time.monotonic()`` after which no attempt begins.

    Attributes:
        refused: The last such answer. At the deadline it explains more than a timeout does.
    """

    def __init__(self, security: Security, deadline: float) -> None:
        self._security = security
        self._deadline = deadline
        # Between half and all of the pause, so that clients refused together do not come back together.
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter=lambda: _random.uniform(0.5, 1.0))
        self._used = security.credentials.current, security.keys.current
        self._looked_for: TransportError | None = None
        self.refused: TransportError | None = None

    def wants_look(self, failed: TransportError) -> bool:
        """Return True if the client must look at its files (``Security.look``) before :meth:`delay`: once at most."""
        if self._looked_for is not None or not _concerns_credentials(failed):
            return False
        self._looked_for = failed
        return True

    def delay(self, failed: TransportError) -> float:
        """Return the seconds to wait before the next attempt. Raises ``failed`` if no other attempt is made."""
        remaining = self._deadline - monotonic()
        if remaining < _FIRST_PAUSE:
            raise failed
        if _is_transient(failed):
            self.refused = failed
            return min(self._backoff.next(), remaining)
        if failed is self._looked_for and (self._security.keys.let_go() or not self._uses(*self._used)):
            return 0.0
        raise failed

    def _uses(self, certificates: Certificates, keys: KeySnapshot) -> bool:
        return self._security.credentials.current is certificates and self._security.keys.current is keys


def _is_transient(failed: TransportError) -> bool:
    if isinstance(failed, HandshakeRejected):
        return failed.code in _RETRIED
    return isinstance(failed, HandshakeFailed) and failed.transient


def _concerns_credentials(failed: TransportError) -> bool:
    if isinstance(failed, HandshakeRejected):
        return failed.code == RejectCode.NOT_AUTHORISED
    return isinstance(failed, HandshakeFailed) and not failed.transient


class Resend:
    """Decides if one request that was lost with its connection is sent again (docs/protocol.md, section 5).

    Every client asks it, each time that a request is lost: it is sent again at most once, while its caller still waits,
    never after a protocol error, and only if no handler can have seen it or the caller declared it idempotent.

    Args:
        deadline: The time of ``time.monotonic()`` at which the caller stops waiting.
        idempotent: Whether the caller allows the server to act on the request twice.
    """

    def __init__(self, deadline: float, *, idempotent: bool) -> None:
        self.deadline = deadline
        self._idempotent = idempotent
        self._used = False

    def wants_look(self, lost: ConnectionLost) -> bool:
        """Return True if the client must look at its files (``Security.look``) before :meth:`after`.

        After CLOSE 3 their content decides if the request may be sent again.
        """
        return lost.code == CloseCode.CREDENTIAL and not self._used

    def after(self, lost: ConnectionLost) -> float:
        """Return the seconds that remain for connecting and sending again.

        Raises ConnectionClosed (outcome unknown) if the request is not sent again, and DeadlineExceeded if it is too
        late for that.
        """
        if self._used or lost.code not in _RESENDABLE or not (self._idempotent or lost.unprocessed):
            raise outcome_unknown(lost) from None
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise explain.no_time_to_resend(sent=not lost.unprocessed) from None
        self._used = True
        return seconds


def outcome_unknown(lost: ConnectionClosed) -> ConnectionClosed:
    """Return the error for a request with an unknown outcome."""
    return ConnectionClosed(
        "the connection ended while the request was under way; the server may or may not have acted on it. Requests "
        "for which acting twice does no harm can be sent with idempotent=True",
        code=lost.code,
        last=lost.last,
    )

"""The middleware that counts the requests of clients."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    RemoteError,
    RemoteProtocolError,
    TransportError,
)
from sealwire.metrics import ANSWERED, CLIENT, CLIENT_FAMILIES, OUTCOMES, observe_in, outcome_of
from sealwire.middleware.calling import CallContext
from sealwire.middleware.chain import CallNext
from sealwire.middleware.outcome import observe

_WITHOUT_ANSWER: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (DeadlineExceeded, "timeout"),
    (ConnectionClosed, "lost"),
    (TransportError, "not_connected"),
    (RemoteProtocolError, "lost"),
    (DecodeError, "reply_refused"),
    (EncodeError, "not_sent"),
    (GeneratorExit, "cancelled"),
)


def measure(context: CallContext, message: Any, call_next: CallNext) -> Any:
    """Count each request of a client or pool, by outcome, and its seconds: a middleware for clients.

    The numbers are those of all clients in this process. ``sealwire.integrations.prometheus.ClientCollector`` exports
    them. As the outermost middleware it measures a call as its caller sees it, with connecting and sending again; a
    stream until it is exhausted or closed.

    Args:
        context: The context of the call.
        message: The message.
        call_next: Passes it on.

    Returns:
        The reply, as ``call_next`` returned it.
    """
    begun = monotonic()
    in_flight = CLIENT_FAMILIES["requests_in_flight"].first
    CLIENT[in_flight] += 1

    def done(error: BaseException | None) -> None:
        CLIENT[in_flight] -= 1
        CLIENT[CLIENT_FAMILIES["requests"].column(outcome(error))] += 1
        observe_in(CLIENT, CLIENT_FAMILIES["request_duration_seconds"], monotonic() - begun)

    return observe(context, message, call_next, done)


def outcome(error: BaseException | None) -> str:
    """Return the outcome of a request that ended with this error, or with a reply."""
    if error is None:
        return "answered"
    if isinstance(error, RemoteError):
        return OUTCOMES[outcome_of(error.code) - ANSWERED]
    if type(error).__name__ == "CancelledError":  # asyncio's, which is not imported here
        return "cancelled"
    return next((name for cls, name in _WITHOUT_ANSWER if isinstance(error, cls)), "other")

"""The error messages of connections that fail, for both ends and every transport.

No message contains text that the peer chose, except the names in its verified certificate.
"""

from __future__ import annotations

import errno
import re
import ssl
from copy import copy
from typing import Final, TypeVar

from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    RemoteProtocolError,
    SealwireError,
    TransportError,
    TruncatedFrame,
    because,
)
from sealwire.listeners import too_long
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import ALPN, verification_problem
from sealwire.wire.frames import FaultCode, RejectCode

_E = TypeVar("_E", bound=BaseException)

FAULT_TEXTS: Final = {
    FaultCode.MALFORMED_PAYLOAD: "the payload is not an acceptable message",
    FaultCode.TYPE_NOT_ALLOWED: "the payload has a type that is not on the server's allowlist",
    FaultCode.TOO_LARGE: "the payload or the reply is over a limit",
    FaultCode.HANDLER_FAILED: "the handler failed",
    FaultCode.DEADLINE_EXCEEDED: "the deadline was over before the request was run",
    FaultCode.OVERLOADED: "the server is overloaded",
    FaultCode.CANCELLED: "the request was cancelled",
    FaultCode.IN_PARTS: "the reply comes in parts; ask for it with stream()",
}
"""The default texts of FAULT."""

_REJECTED: Final = {
    RejectCode.VERSION: "it speaks another version of the protocol; upgrade the older side",
    RejectCode.CODEC: "it uses another codec; configure the same on both sides",
    RejectCode.NOT_AUTHORISED: "not authorised; check that both sides hold the same key under the same id, that this "
    "client's identity is among the server's peers, and that host name and service are the server's (its log says "
    "which)",
    RejectCode.OVERLOADED: "it is overloaded; try again later",
    RejectCode.SHUTTING_DOWN: "it is shutting down; try again later",
}
_REJECT_REASONS: Final = {
    RejectCode.VERSION: "version",
    RejectCode.CODEC: "codec",
    RejectCode.NOT_AUTHORISED: "not_authorised",
    RejectCode.OVERLOADED: "overloaded",
    RejectCode.SHUTTING_DOWN: "draining",
}
_REJECTING: Final[dict[int | None, str]] = {
    RejectCode.OVERLOADED: "max_connections are established (REJECT 4)",
    RejectCode.SHUTTING_DOWN: "the server is shutting down (REJECT 5)",
}


# What the other end may have found, by the name of its TLS alert (RFC 8446, section 6.2). OpenSSL sends the same alert
# for a certificate and for the list or the CA that it is verified with.
_REFUSALS: Final = {
    "bad certificate": "not acceptable: perhaps it is not valid yet, or its names, key or signature are not acceptable",
    "unsupported certificate": "it is not meant for this use; its extended key usage must have serverAuth for a "
    "server, clientAuth for a client",
    "certificate revoked": "revoked; get another one",
    "certificate expired": "expired; renew it (or the CA or the revocation list that it was verified with has expired)",
    "certificate unknown": "for a reason that only the other side's log says",
    "unknown ca": "unknown CA; the other side's ca file must have that CA, its crl file the CA's list if it has any "
    "lists, and the cert file here the intermediate certificates",
    "decrypt error": "a signature in its chain, or of a revocation list, is not the CA's",
}
_TLS_WORDS: Final = {
    "wrong version number": "what came is not TLS",
    "http request": "what came is an HTTP request without TLS",
    "unexpected eof while reading": "the other end ended the connection",
}
"""Plain words for OpenSSL's."""
_ALERT: Final = re.compile(r"(?:ssl|tls)(?:v\d+)? alert ")


def without_frames(error: _E) -> _E:
    """Return a copy of an error to keep, without the frames that the error came through.

    A connection that kept those would keep itself, with its buffers, until the garbage collector comes. An error that
    is raised gathers frames, so raise a copy of a kept one as well.
    """
    return copy(error)


def reason(error: OSError) -> str:
    """Return an error of a socket or of TLS as text; the name of an alert without OpenSSL's names of old protocols."""
    if isinstance(error, ssl.SSLError):
        words = _ALERT.sub("", (error.reason or "TLS error").lower().replace("_", " "))
        return _TLS_WORDS.get(words, words)
    return error.strerror or type(error).__name__


# A client that cannot connect

_NO_WAY: Final = "check the address, and this machine's network and its routes"
_ADVICE: Final = {
    errno.ENETUNREACH: _NO_WAY,
    errno.EHOSTUNREACH: f"{_NO_WAY}; the machine there may be off",
    errno.ENETDOWN: "check this machine's network",
    errno.EADDRNOTAVAIL: "check the address; if it is right, this machine may have no free port left",
    errno.ETIMEDOUT: "check that it is on, and that no firewall drops packets",
    errno.EACCES: "a firewall or policy of this machine does not permit it",
    errno.EPERM: "a firewall or policy of this machine does not permit it",
}
"""What to check, by the error; of all others, such as a refused connection, whether the server runs."""


def unresolved(address: str) -> TransportError:
    """Explain a host name that was not resolved."""
    error = TransportError(f"{address}: the host's address cannot be found; check its spelling and this machine's DNS")
    return because(error, "unreachable")


def unreachable_path(address: str, path: str, error: OSError) -> TransportError:
    """Explain why a Unix socket accepted no connection."""
    long = too_long(path)
    advice = "check that the server runs and listens there, and that the socket's mode permits this user"
    text = f"{long}; choose a shorter one at both ends" if long else f"{reason(error)}; {advice}"
    return because(TransportError(f"cannot connect to {address}: {text}"), "unreachable")


def unreachable(address: str, why: str, error: OSError | None = None) -> TransportError:
    """Explain why no address of the server accepted a connection; ``error`` is the system's, if there is one."""
    advice = _ADVICE.get((error and error.errno) or 0, "check that the server runs and listens there")
    return because(TransportError(f"cannot connect to {address}: {why}; {advice}"), "unreachable")


def not_accepted(address: str, why: str, error: OSError | None) -> TransportError:
    """Explain why no address of the server accepted a connection, by the last one's error."""
    failed = unreachable(address, why, error)
    # An overloaded one may reset connections before it has seen them.
    reset = isinstance(error, ConnectionResetError)
    return because(HandshakeFailed(str(failed), transient=True), "unreachable") if reset else failed


def no_answer(address: str) -> DeadlineExceeded:
    """Explain that a connection was not accepted in time."""
    return DeadlineExceeded(
        f"{address} did not answer in time; check that it is on and not overloaded, and that no firewall drops packets"
    )


def incomplete(address: str, step: str = "the handshake") -> DeadlineExceeded:
    """Explain that a handshake took longer than the client's timeout."""
    return DeadlineExceeded(
        f"{address} did not complete {step} in time; check that a Sealwire server is there, and is not overloaded"
    )


def server_certificate(address: str, problem: str) -> HandshakeFailed:
    """Explain why a server's certificate was refused."""
    error = HandshakeFailed(
        f"the certificate of {address} is not acceptable: {problem}; it must come from a CA in this client's ca file, "
        "be valid now, and have the host name among its subject alternative names"
    )
    return because(error, "certificate")


def revoked_above(certificates: Certificates) -> str:
    """Explain that a CA's certificate in a peer's chain is revoked, by our revocation lists."""
    return (
        f"the certificate of a CA above it is revoked, by {certificates.paths.get('crl', '')}; "
        "get a certificate of another CA"
    )


def client_tls(error: OSError, address: str, certificates: Certificates) -> HandshakeFailed:
    """Explain why TLS with a server failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return server_certificate(address, verification_problem(error.verify_code, error.verify_message, certificates))
    cut = not isinstance(error, ssl.SSLError) or "EOF" in (error.reason or "")
    return HandshakeFailed(f"TLS with {address} failed: {reason(error)}; is a Sealwire server there?", transient=cut)


def client_refused(address: str, why: str, *, anonymous: bool) -> HandshakeFailed:
    """Explain a TLS alert from the server.

    In TLS 1.3 the alert for a refused client certificate comes after the client's handshake is complete, on its first
    read.
    """
    why = _ALERT.sub("", why)
    if not anonymous and why not in _REFUSALS:
        return HandshakeFailed(f"{address} ended the handshake ({why}); its log says why")
    if anonymous:
        return HandshakeFailed(
            f"{address} ended the handshake ({why}): it requires a certificate, and this client has none; "
            "configure cert and key"
        )
    return because(HandshakeFailed(f"{address} refused this client's certificate: {_REFUSALS[why]}"), "certificate")


def missing_welcome(error: SealwireError, address: str, failure: OSError | None, *, anonymous: bool) -> SealwireError:
    """Explain a missing or invalid WELCOME.

    Args:
        error: The protocol's error while the client waited for WELCOME.
        address: The server's address.
        failure: The error of the socket or of TLS that ended the stream, if any.
        anonymous: True if the client has no certificate.
    """
    if isinstance(error, DeadlineExceeded):
        return incomplete(address)
    if isinstance(error, ConnectionClosed):
        if isinstance(failure, ssl.SSLError) and "ALERT" in (failure.reason or ""):
            return client_refused(address, reason(failure), anonymous=anonymous)
        return HandshakeFailed(
            f"{address} ended the connection during the handshake; its log says why "
            "(often: it was overloaded, or the handshake took too long)",
            transient=True,
        )
    if isinstance(error, TruncatedFrame):
        return HandshakeFailed(f"{address} ended the connection inside its answer to the handshake")
    failed = HandshakeFailed(
        f"{address} did not prove that it holds this client's key: {error}; "
        "compare the keyrings, and check whether a proxy ends TLS between the two"
    )
    failed.__cause__ = error
    return failed


def rejected(address: str, code: int) -> HandshakeRejected:
    """Explain a server's REJECT."""
    error = HandshakeRejected(f"{address} refused: {_REJECTED[RejectCode(code)]}", code=code)
    return because(error, _REJECT_REASONS[RejectCode(code)])


def other_protocol(address: str) -> HandshakeFailed:
    """Explain a TLS server that did not negotiate Sealwire's protocol."""
    return HandshakeFailed(f"{address} did not agree to the protocol {ALPN}; something else listens there")


def ended_handshake(address: str) -> HandshakeFailed:
    """Explain a handshake that the server ended without an answer."""
    return because(HandshakeFailed(f"{address} ended the handshake"), "ended")


# A client that a server does not serve


def server_tls(error: OSError, certificates: Certificates) -> HandshakeFailed:
    """Explain why TLS with a client failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return client_certificate(verification_problem(error.verify_code, error.verify_message, certificates))
    if isinstance(error, ssl.SSLError):
        return server_refused(reason(error))
    return because(HandshakeFailed(f"the connection ended during TLS: {reason(error)}"), "ended")


def silent() -> HandshakeFailed:
    """Explain a connection that the client ended before its first byte, as a load balancer's probe does."""
    return because(HandshakeFailed("the client ended the connection before its first byte"), "silent")


def server_refused(why: str, carrier: str = "TLS") -> HandshakeFailed:
    """Explain an error of TLS with a client, which may be the alert of one that refused this server's certificate."""
    why = _ALERT.sub("", why)
    if why in _REFUSALS:
        refused = HandshakeFailed(f"the client refused this server's certificate: {_REFUSALS[why]}")
        return because(refused, "server_certificate")
    return because(HandshakeFailed(f"{carrier} failed: {why}"), "ended" if _is_end(why) else "tls")


def _is_end(why: str) -> bool:
    return "eof" in why.lower() or why == _TLS_WORDS["unexpected eof while reading"]


def client_certificate(problem: str) -> HandshakeFailed:
    """Explain why a client's certificate was refused."""
    return because(HandshakeFailed(f"the client's certificate is not acceptable: {problem}"), "certificate")


def not_established(code: int | None) -> HandshakeFailed:
    """Explain a handshake that ended without a connection, by REJECT if ``code`` is not None."""
    word = "ended" if code is None else _REJECT_REASONS[RejectCode(code)]
    return because(HandshakeFailed(_REJECTING.get(code, "the client ended the handshake")), word)


def ended_at_start(error: OSError, step: str = "at its beginning") -> HandshakeFailed:
    """Explain a connection that the client ended before its handshake."""
    return because(HandshakeFailed(f"the connection ended {step}: {reason(error)}"), "ended")


def too_many_of_address() -> HandshakeFailed:
    """Explain why a connection is refused: its address, as a proxy told it, has too many already."""
    return HandshakeFailed("its address has most of max_handshakes, or max_handshakes_per_source")


def without_header() -> HandshakeFailed:
    """Explain a connection that ended before the proxy's header was complete."""
    return HandshakeFailed("the connection ended before its PROXY header")


def header_too_slow() -> DeadlineExceeded:
    """Explain that a proxy took too long for its header."""
    return DeadlineExceeded("the PROXY header was not complete in time")


# Both ends of an established connection


def broken(why: str) -> ConnectionClosed:
    """Explain a connection on which nothing more can be sent."""
    return ConnectionClosed(f"the connection broke while sending: {why}")


def closed_here() -> ConnectionClosed:
    """Explain that this side closed the connection."""
    return ConnectionClosed("the connection was closed by this side")


def forked() -> ConnectionClosed:
    """Explain that a connection is not used in a forked child."""
    return ConnectionClosed("the connection belongs to the process that this one was forked from; it gets the reply")


def dropped_reply() -> ConnectionClosed:
    """Explain that a reply came after the end of its connection."""
    return ConnectionClosed("the connection was ended before the reply, which was dropped")


def nothing_came(address: str = "") -> DeadlineExceeded:
    """Explain that nothing was received in time. To a client: the request was sent, the reply has not come.

    Args:
        address: The server's address, at a client.
    """
    advice = "; allow more time (wait), or see in the server's log and its load what keeps it" if address else ""
    return DeadlineExceeded(f"nothing came from {address or 'the peer'} in time{advice}", sent=True)


def no_time_to_resend(*, sent: bool) -> DeadlineExceeded:
    """Explain that a request was lost with its connection too late to be sent again."""
    return DeadlineExceeded(
        "the connection ended before the reply, and no time is left to send the request again", sent=sent
    )


def not_encoded() -> DeadlineExceeded:
    """Explain that a request's time ran out while it was encoded."""
    return DeadlineExceeded("the request was not encoded in time, and not sent; allow more time, or send it in parts")


def other_requests() -> DeadlineExceeded:
    """Explain that a request's time ran out behind others of the same client."""
    return DeadlineExceeded(
        "other requests of this client were in flight all the time, and this one was not sent; use another client, or "
        "send fewer requests at a time"
    )


def no_reply(address: str, *, sent: bool) -> DeadlineExceeded:
    """Explain that a request's time ran out."""
    if not sent:
        return DeadlineExceeded(f"{address} did not take the whole request in time; no handler has seen it")
    return nothing_came(address)


def not_taken(*, sent: bool = False) -> DeadlineExceeded:
    """Explain that the peer did not read the data sent to it in time. ``sent`` tells that it has an earlier request."""
    return DeadlineExceeded("the peer did not take what was sent to it in time", sent=sent)


def shed() -> ConnectionClosed:
    """Explain a connection that was ended because it held most of the server's memory."""
    return ConnectionClosed("it held most of the bytes that the server may buffer (max_buffered in its Limits)")


def gave_way() -> ConnectionClosed:
    """Explain an association that was ended so that its identity could have another."""
    return ConnectionClosed(
        "it was silent for longest of its identity, which has as many as it may (max_connections and "
        "max_identity_share in Limits)"
    )


def only_ciphertext() -> RemoteProtocolError:
    """Explain a connection that brought TLS records, but no data."""
    return RemoteProtocolError("the peer sent nothing but TLS records without data, such as KeyUpdates")


def tls_too_slow() -> DeadlineExceeded:
    """Explain that a client took too long for TLS."""
    return DeadlineExceeded("TLS was not complete in time")

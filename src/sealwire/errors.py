"""Every error that Sealwire raises on purpose. Any other exception that escapes from the package is a bug in it.

::

    SealwireError
    ├── ConfigurationError (ValueError)      files or arguments that cannot work
    ├── ProtocolError
    │   ├── LocalProtocolError               the calling program's fault
    │   │   ├── InvalidState                 not possible now (sent on a closed connection, nothing to answer, …)
    │   │   ├── FeatureNotSupported          the server does not have it: an older one, or one on UDP
    │   │   └── PayloadTooLarge              more than the peer announced that it takes
    │   └── RemoteProtocolError              the peer's fault; the connection is over
    │       ├── FrameTooLarge
    │       ├── TruncatedFrame (EOFError)
    │       ├── BadVersion
    │       └── AuthenticationError
    │           ├── BadTag
    │           ├── UnknownKey
    │           └── BadSequence
    ├── EncodeError                          a value that decode would refuse; nothing was sent
    ├── DecodeError                          bytes that are not an acceptable value; nothing was built
    │   ├── TypeNotAllowed
    │   ├── MalformedPickle
    │   ├── LimitExceeded
    │   └── InvalidValue
    ├── EnvelopeError                        an envelope that cannot be opened; no value was decoded
    │   ├── EnvelopeTooLarge
    │   ├── EnvelopeMalformed
    │   ├── EnvelopeVersionUnknown
    │   ├── EnvelopeKeyUnknown
    │   ├── EnvelopeForged
    │   ├── EnvelopeExpired
    │   └── EnvelopeContextMismatch
    ├── TransportError (OSError)
    │   ├── HandshakeFailed                  TLS, or Sealwire's handshake inside it, did not complete
    │   ├── HandshakeRejected                the server answered REJECT (attribute ``code``)
    │   ├── PeerNotAllowed                   the peer's certificate is genuine, its identity is not on our list
    │   ├── NoServerAvailable                a pool could connect to none of its servers (attribute ``failures``)
    │   └── ConnectionClosed                 the connection ended (attributes ``code`` and ``last``)
    ├── DeadlineExceeded (TimeoutError)      the time ran out (attribute ``sent``)
    └── RemoteError                          the server's FAULT in place of a reply (attributes ``code`` and ``text``)

No message holds a key, a payload or bytes from the peer, but for three texts, which are bounded and escaped: the text
of a ``RemoteError``, the name of a type that is not on the allowlist, and names of fields that a type does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar


class SealwireError(Exception):
    """Base of every error that this package raises on purpose.

    ``reason``: the cause in a word that does not change, as audit records and metrics have it.
    """

    reason = "other"


_E = TypeVar("_E", bound=SealwireError)


def because(error: _E, reason: str) -> _E:
    """Return an error with another ``reason`` than its class's."""
    error.reason = reason
    return error


class ConfigurationError(SealwireError, ValueError):
    """A file, an argument or a combination of them cannot work; the message names it and the remedy."""


class ProtocolError(SealwireError):
    """The wire protocol was violated, by our caller or by the peer (see the subclasses)."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow. Nothing was sent."""


class InvalidState(LocalProtocolError):
    """The call is not possible in the connection's present state."""


class FeatureNotSupported(LocalProtocolError):
    """The call needs a feature that the server does not have. Nothing was sent."""


class PayloadTooLarge(LocalProtocolError):
    """A payload is over the receiver's announced ``max_frame`` less 52 bytes. Nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol. The connection cannot be used any more."""

    reason = "protocol"


class FrameTooLarge(RemoteProtocolError):
    """A frame's length is over the cap in force. None of the frame's body was read."""

    reason = "frame_too_large"


class TruncatedFrame(RemoteProtocolError, EOFError):
    """The stream ended inside a frame."""

    reason = "truncated"


class BadVersion(RemoteProtocolError):
    """The peer speaks another version of the protocol."""

    reason = "version"


class AuthenticationError(RemoteProtocolError):
    """The peer did not prove that it holds the key."""

    reason = "not_authorised"


class BadTag(AuthenticationError):
    """A frame's HMAC does not match: it was altered, or made with another key."""

    reason = "bad_tag"


class UnknownKey(AuthenticationError):
    """The key id is not in the keyring, not valid now, or not for this certificate's identity."""

    reason = "unknown_key"


class BadSequence(AuthenticationError):
    """A frame was out of order, repeated, or in answer to nothing."""

    reason = "bad_sequence"


class EncodeError(SealwireError):
    """A value cannot be sent; the message has the path to the offending part. Nothing was sent.

    Attributes:
        over_limit: True if only a limit is in the way: the value is too large, or nested too deeply.
    """

    def __init__(self, message: str, *, over_limit: bool = False) -> None:
        super().__init__(message)
        self.over_limit = over_limit


class DecodeError(SealwireError):
    """The bytes are not the pickle of an acceptable value. No object was built from them."""

    reason = "malformed"


class TypeNotAllowed(DecodeError):
    """The message names a type that is not on the allowlist, or uses one in a way that is not allowed.

    Attributes:
        name: The name in the message, as ``module:name``: at most 100 characters, control characters escaped. Empty if
            it is on the list.
    """

    reason = "type_not_allowed"

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class MalformedPickle(DecodeError):
    """The bytes are not what CPython's own pickler writes for an accepted value."""


class LimitExceeded(DecodeError):
    """One of the bounds in ``Limits`` would have been exceeded; the message names it."""

    reason = "limit"


class InvalidValue(DecodeError):
    """The parts of a value are not acceptable for its type; the message begins with the path to it.

    The path has the names of declared fields, and positions: ``$.items[3].price``, ``$.<value 2>``. It begins with the
    parameter instead, as in ``message.items[3].price``, if a handler declares the types of its messages.
    """

    reason = "invalid_value"

    root = "$"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._segments: list[str] = []

    def inside(self, *segments: str) -> None:
        """Extend the path outwards by ``segments``, innermost first."""
        self._segments += segments

    @property
    def path(self) -> str:
        """Path to the value from the root of the message."""
        return "".join((self.root, *reversed(self._segments)))

    def __str__(self) -> str:
        return f"{self.path}: {self.args[0]}" if self._segments or self.root != "$" else str(self.args[0])


class EnvelopeError(SealwireError):
    """An envelope that cannot be opened. No value was decoded."""


class EnvelopeTooLarge(EnvelopeError):
    """An envelope over ``max_size``. None of it was examined; or, from ``seal``, none was made."""


class EnvelopeMalformed(EnvelopeError):
    """Bytes that are not an envelope, or the beginning of one."""


class EnvelopeVersionUnknown(EnvelopeError):
    """An envelope of another version of the format."""


class EnvelopeKeyUnknown(EnvelopeError):
    """The envelope's key is not in the keyring, revoked, not valid now, or bound to an identity."""


class EnvelopeForged(EnvelopeError):
    """The tag does not match: the envelope was altered, or made without the key."""


class EnvelopeExpired(EnvelopeError):
    """A genuine envelope that has expired."""


class EnvelopeContextMismatch(EnvelopeError):
    """A genuine envelope for another purpose, codec or context: it was moved, or the opening side is mistaken."""


class TransportError(SealwireError, OSError):
    """The connection could not be made, or broke."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class HandshakeFailed(TransportError):
    """TLS, or Sealwire's handshake inside it, did not complete.

    ``transient``: True if the server cut the connection without a reason, as an overloaded one does. Clients then try
    again within their ``timeout``.
    """

    reason = "tls"

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class HandshakeRejected(TransportError):
    """The server answered HELLO with REJECT.

    ``code``: 1 version, 2 codec, 3 not authorised, 4 overloaded, 5 shutting down (docs/protocol.md, section 3).
    """

    def __init__(self, message: str, *, code: int = 3) -> None:
        super().__init__(message)
        self.code = code


class PeerNotAllowed(TransportError):
    """The peer's certificate is genuine, but its identity is not on this side's list."""

    reason = "peer_not_listed"


class NoServerAvailable(TransportError):
    """A client pool could connect to none of its servers.

    ``failures``: the last error of each server, by its address.
    """

    def __init__(self, message: str, *, failures: Mapping[str, SealwireError] | None = None) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})


class ConnectionClosed(TransportError):
    """The connection ended.

    ``code`` and ``last`` are those of the peer's CLOSE (docs/protocol.md, section 5). Both are None if the stream ended
    without one: then the outcome of pending requests is unknown.
    """

    reason = "ended"

    def __init__(self, message: str, *, code: int | None = None, last: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.last = last


class DeadlineExceeded(SealwireError, TimeoutError):
    """The time that the caller allowed ran out.

    ``sent``: False if the request was never sent whole, so that no handler can have seen it: sending it again is as
    safe as the first time. True if the server may act on it, now or later: then send it again only if acting twice does
    no harm.
    """

    reason = "timeout"

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class RemoteError(SealwireError):
    """The server sent FAULT in place of a reply. The connection stays usable.

    ``code``: 16 malformed payload, 17 type not allowed, 18 payload or reply too large, 19 handler failed, 20 deadline
    exceeded, 21 overloaded, 22 cancelled, 23 reply in parts (docs/protocol.md, section 3), 64 to 255 defined by the
    application (see ``Refuse``). ``text``: at most 1,024 bytes of UTF-8, control characters escaped.
    ``request_id``: the id of the request in the logs of both ends; empty if the error did not come over a connection.
    """

    request_id = ""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"the server answered fault {self.code}: {self.text}"

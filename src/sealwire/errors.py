"""Every error that Sealwire raises on purpose. Any other exception that escapes from the package is a bug in it.

::

    SealwireError
    ├── ConfigurationError (ValueError)      files or arguments that cannot work
    ├── ProtocolError
    │   ├── LocalProtocolError               the calling program's fault
    │   │   ├── InvalidState                 not possible now (sent on a closed connection, nothing to answer, …)
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
    ├── DecodeError                          bytes that are no acceptable value; nothing was built
    │   ├── TypeNotAllowed
    │   ├── MalformedPickle
    │   ├── LimitExceeded
    │   └── InvalidValue
    ├── TransportError (OSError)
    │   ├── HandshakeFailed                  TLS, or Sealwire's handshake inside it, did not complete
    │   ├── HandshakeRejected                the server answered REJECT (attribute ``code``)
    │   ├── PeerNotAllowed                   the peer's certificate is genuine, its identity is not on our list
    │   └── ConnectionClosed                 the connection ended (attributes ``code`` and ``last``)
    ├── DeadlineExceeded (TimeoutError)      the time ran out (attribute ``sent``)
    └── RemoteError                          the server's FAULT in place of a reply (attributes ``code`` and ``text``)

No message holds a key, a payload or bytes from the peer, but for three texts, which are bounded and escaped: the text
of a ``RemoteError``, the name of a type that is not on the allowlist, and names of fields that a type does not have.
"""

from __future__ import annotations


class SealwireError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(SealwireError, ValueError):
    """A file, an argument or a combination of them that cannot work; the message names it and the remedy."""


class ProtocolError(SealwireError):
    """The wire protocol was violated, by our caller or by the peer (see the subclasses)."""


class LocalProtocolError(ProtocolError):
    """Our caller asked for something that the protocol does not allow. Nothing was sent."""


class InvalidState(LocalProtocolError):
    """The call is not possible in the connection's present state."""


class PayloadTooLarge(LocalProtocolError):
    """A payload over the receiver's announced ``max_frame`` less 52 bytes. Nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol. The connection cannot be used any more."""


class FrameTooLarge(RemoteProtocolError):
    """A length field over the cap in force. None of the frame's body was read."""


class TruncatedFrame(RemoteProtocolError, EOFError):
    """The stream ended inside a frame."""


class BadVersion(RemoteProtocolError):
    """The peer speaks another version of the protocol."""


class AuthenticationError(RemoteProtocolError):
    """The peer did not prove that it holds the key."""


class BadTag(AuthenticationError):
    """A frame's HMAC does not match: it was altered, or made with another key."""


class UnknownKey(AuthenticationError):
    """The key id is not in the keyring, not valid now, or not for this certificate's identity."""


class BadSequence(AuthenticationError):
    """A frame out of order, repeated, or in answer to nothing."""


class EncodeError(SealwireError):
    """A value that cannot be sent; the message has the path to the offending part. Nothing was sent.

    Attributes:
        over_limit: whether the value is acceptable but for a limit: it is too large, or nested too deeply.
    """

    def __init__(self, message: str, *, over_limit: bool = False) -> None:
        super().__init__(message)
        self.over_limit = over_limit


class DecodeError(SealwireError):
    """Bytes that are not the pickle of an acceptable value. No object was built from them."""


class TypeNotAllowed(DecodeError):
    """The message names a type that is not on the allowlist, or uses one in a way that is not allowed.

    Attributes:
        name: What the message names, as ``module:name``: at most 100 characters, control characters escaped. Empty if
            it is on the list.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class MalformedPickle(DecodeError):
    """Not a pickle that CPython's own pickler writes for an accepted value."""


class LimitExceeded(DecodeError):
    """One of the bounds in ``Limits`` would have been passed; the message names it."""


class InvalidValue(DecodeError):
    """The parts of a value are not acceptable for its type; the message begins with the path to it.

    The path has the names of declared fields, and positions: ``$.items[3].price``, ``$.<value 2>``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._segments: list[str] = []

    def inside(self, *segments: str) -> None:
        """Extend the path outwards by ``segments``, innermost first."""
        self._segments += segments

    @property
    def path(self) -> str:
        """Path to the value from the root of the message, ``$``."""
        return "".join(("$", *reversed(self._segments)))

    def __str__(self) -> str:
        return f"{self.path}: {self.args[0]}" if self._segments else str(self.args[0])


class TransportError(SealwireError, OSError):
    """The connection could not be made, or broke."""


class HandshakeFailed(TransportError):
    """TLS, or Sealwire's handshake inside it, did not complete.

    ``transient``: whether the server cut the connection without a reason, as one does that has too much to do. Clients
    try again within their ``timeout``.
    """

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


class ConnectionClosed(TransportError):
    """The connection ended.

    ``code`` and ``last`` are those of the peer's CLOSE (docs/protocol.md, section 5). Both are None if the stream ended
    without one: then the outcome of pending requests is unknown.
    """

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

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class RemoteError(SealwireError):
    """The server sent FAULT in place of a reply. The connection stays usable.

    ``code``: 16 malformed payload, 17 type not allowed, 18 payload or reply too large, 19 handler failed,
    20 deadline exceeded, 21 overloaded (docs/protocol.md, section 3). ``text``: at most 1,024 bytes of UTF-8, control
    characters escaped.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"the server answered fault {self.code}: {self.text}"

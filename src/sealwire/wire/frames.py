"""The header of a frame, and the payload of each kind (docs/protocol.md, sections 2 and 3).

The tags of HELLO and WELCOME can be checked only after parsing. Parsing is therefore free of side effects and bounded
by the length of the frame. A value out of range raises RemoteProtocolError.
"""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple, NewType

from sealwire.errors import RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD, MIN_MAX_FRAME

VERSION = 1
HANDSHAKE_CAP = 1024
"""The largest ``length`` until the handshake is complete."""
NONCE = 32
TAG = 32
MAX_FAULT_TEXT = 1024
APPLICATION_CODES = range(64, 256)
"""Codes of FAULT that an application gives a meaning."""
MAX_PING = 125

HEAD = Struct(">IBBHQQ")
"""length, kind, flags, wait, sequence, reply_to."""
MIN_LENGTH = FRAME_OVERHEAD

VerifiedPayload = NewType("VerifiedPayload", bytes)
"""A payload with a valid tag. Parameters of this type do not accept unverified bytes.

A large payload is really a read-only memoryview, which works like bytes for reading.
"""

Payload = bytes | bytearray | memoryview | list[bytes | bytearray]
"""A payload to send, in one piece or several."""


def payload_size(payload: Payload) -> int:
    """Return the size of a payload to send, in bytes."""
    if isinstance(payload, list):
        return sum(map(len, payload))
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)


class Kind(IntEnum):
    """The kinds of frame."""

    HELLO = 1
    WELCOME = 2
    MESSAGE = 3
    FAULT = 4
    PING = 5
    PONG = 6
    CLOSE = 7
    REJECT = 8
    CANCEL = 9
    PART = 10
    CREDIT = 11
    END = 12


class Flag(IntFlag):
    """The flags of a MESSAGE (docs/protocol.md, section 9)."""

    METADATA = 1
    """Metadata precedes the application's bytes."""
    PARTS = 2
    """The client accepts a reply in parts."""
    UPLOAD = 4
    """The request goes on in parts."""


def verified(payload: bytes | memoryview) -> VerifiedPayload:
    """Mark a payload as verified. Call this only after a successful check of the tag."""
    return payload  # type: ignore[return-value]  # this is the one place that makes it so


class RejectCode(IntEnum):
    """Reasons to reject a handshake. Unknown codes are read as NOT_AUTHORISED."""

    VERSION = 1
    CODEC = 2
    NOT_AUTHORISED = 3
    OVERLOADED = 4
    SHUTTING_DOWN = 5


class CloseCode(IntEnum):
    """Reasons to end a connection. Unknown codes are read as PROTOCOL_ERROR."""

    DONE = 0
    IDLE = 1
    GOING_AWAY = 2
    CREDENTIAL = 3
    PROTOCOL_ERROR = 4


class FaultCode(IntEnum):
    """Reasons for the lack of a reply beside APPLICATION_CODES. Unknown codes are read as HANDLER_FAILED."""

    MALFORMED_PAYLOAD = 16
    TYPE_NOT_ALLOWED = 17
    TOO_LARGE = 18
    HANDLER_FAILED = 19
    DEADLINE_EXCEEDED = 20
    OVERLOADED = 21
    CANCELLED = 22
    IN_PARTS = 23


class Hello(NamedTuple):
    """The client's offer. ``extensions`` holds the well-formed bytes after server_name."""

    nonce: bytes
    max_frame: int
    key_id: str
    codec: str
    server_name: str
    extensions: bytes = b""
    version: int = VERSION

    def pack(self) -> bytes:
        return b"".join(
            (
                bytes((self.version,)),
                self.nonce,
                self.max_frame.to_bytes(4, "big"),
                _s8(self.key_id),
                _s8(self.codec),
                _s8(self.server_name),
                self.extensions,
            )
        )

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> Hello:
        fields = _Fields(payload, "HELLO")
        version = fields.number(1)
        nonce = fields.take(NONCE)
        max_frame = fields.max_frame()
        key_id = fields.token()
        codec = fields.token()
        server_name = fields.s8(_PRINTABLE)
        return cls(nonce, max_frame, key_id, codec, server_name, fields.extensions(), version)


class Welcome(NamedTuple):
    """The server's answer."""

    nonce: bytes
    max_frame: int
    codec: str
    extensions: bytes = b""
    version: int = VERSION

    def pack(self) -> bytes:
        return b"".join(
            (bytes((self.version,)), self.nonce, self.max_frame.to_bytes(4, "big"), _s8(self.codec), self.extensions)
        )

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> Welcome:
        fields = _Fields(payload, "WELCOME")
        version = fields.number(1)
        nonce = fields.take(NONCE)
        max_frame = fields.max_frame()
        codec = fields.token()
        return cls(nonce, max_frame, codec, fields.extensions(), version)


class Fault(NamedTuple):
    """The reason for the lack of a reply. A ``text`` from the peer is escaped."""

    code: int
    text: str

    def pack(self) -> bytes:
        text = self.text.encode("utf-8", "backslashreplace")[:MAX_FAULT_TEXT]
        # Drop a character that the limit has cut in two.
        return self.code.to_bytes(2, "big") + text.decode("utf-8", "ignore").encode()

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> Fault:
        fields = _Fields(payload, "FAULT")
        code = fields.number(2)
        raw = fields.rest()
        if len(raw) > MAX_FAULT_TEXT:
            raise RemoteProtocolError(f"FAULT with a text of {len(raw)} bytes; the maximum is {MAX_FAULT_TEXT}")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("FAULT with a text that is not UTF-8") from None
        known = code in APPLICATION_CODES or any(code == each for each in FaultCode)
        return cls(code if known else FaultCode.HANDLER_FAILED, escaped(text))


class Close(NamedTuple):
    """The end of a connection, and the highest sequence that was processed (docs/protocol.md, section 5)."""

    code: int
    last: int

    def pack(self) -> bytes:
        return self.code.to_bytes(2, "big") + self.last.to_bytes(8, "big")

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> Close:
        fields = _Fields(payload, "CLOSE")
        code, last = fields.number(2), fields.number(8)
        fields.end()
        return cls(_known(CloseCode, code, CloseCode.PROTOCOL_ERROR), last)


def pack_reject(code: int) -> bytes:
    return code.to_bytes(2, "big")


def unpack_reject(payload: bytes | memoryview) -> int:
    fields = _Fields(payload, "REJECT")
    code = fields.number(2)
    fields.end()
    return _known(RejectCode, code, RejectCode.NOT_AUTHORISED)


def pack_credit(credit: int) -> bytes:
    return credit.to_bytes(4, "big")


def unpack_credit(payload: bytes | memoryview) -> int:
    fields = _Fields(payload, "CREDIT")
    credit = fields.number(4)
    fields.end()
    if not credit:
        raise RemoteProtocolError("CREDIT of 0 bytes")
    return credit


def escaped(text: object) -> str:
    """Return ``text`` with a backslash escape for every character that could control a terminal or a log."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def kind_name(kind: int) -> str:
    return _KIND_NAMES.get(kind, f"kind {kind}")


_KIND_NAMES = {kind.value: kind.name for kind in Kind}
_TOKEN = re.compile(rb"[\x21-\x7e]{1,64}")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")


def _known(codes: type[IntEnum], code: int, otherwise: int) -> int:
    return code if any(code == known for known in codes) else otherwise


def _s8(text: str) -> bytes:
    raw = text.encode("ascii")
    return bytes((len(raw),)) + raw


class _Fields:
    """Reads the fields of a payload one by one; raises RemoteProtocolError if they do not fit it exactly."""

    def __init__(self, payload: bytes | memoryview, frame: str) -> None:
        self._rest = bytes(payload)
        self._frame = frame

    def _error(self, problem: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._frame} with {problem}")

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise self._error("fewer bytes than its fields need")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def max_frame(self) -> int:
        value = self.number(4)
        if value < MIN_MAX_FRAME:
            raise self._error(f"max_frame {value}; the minimum is {MIN_MAX_FRAME}")
        return value

    def s8(self, form: re.Pattern[bytes]) -> str:
        raw = self.take(self.number(1))
        if not form.fullmatch(raw):
            raise self._error("a name that is empty, too long or has characters outside the allowed range")
        return raw.decode("ascii")

    def token(self) -> str:
        return self.s8(_TOKEN)

    def extensions(self) -> bytes:
        whole = self._rest
        before = -1
        while self._rest:
            kind = self.number(2)
            if kind <= before:
                raise self._error("extensions out of order")
            before = kind
            self.take(self.number(2))
        return whole

    def rest(self) -> bytes:
        return self.take(len(self._rest))

    def end(self) -> None:
        if self._rest:
            raise self._error("bytes after its last field")

"""What is inside a frame: the header, and the payload of each kind (docs/protocol.md, sections 2 and 3).

Parsing here has no effect and is bounded by the frame's length, so that HELLO and WELCOME, whose tags can be checked
only afterwards, may go through it. What is out of range raises RemoteProtocolError.
"""

from __future__ import annotations

import re
from enum import IntEnum
from struct import Struct
from typing import NamedTuple, NewType, cast

from sealwire.errors import RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD, MIN_MAX_FRAME

VERSION = 1
HANDSHAKE_CAP = 1024
"""The cap on ``length`` until the handshake is complete."""
NONCE = 32
TAG = 32
MAX_FAULT_TEXT = 1024
MAX_PING = 125

HEAD = Struct(">IBBHQQ")
"""length, kind, flags, wait, sequence, reply_to."""
MIN_LENGTH = FRAME_OVERHEAD

VerifiedPayload = NewType("VerifiedPayload", bytes)
"""A payload whose tag was right. What takes this type cannot be given bytes that were not verified.

It is bytes, or for a large one a read-only memoryview, which serves wherever bytes are only read.
"""


Payload = bytes | bytearray | memoryview | list[bytes | bytearray]
"""What is to be sent: in one piece, or in several."""


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


def verified(payload: bytes | memoryview) -> VerifiedPayload:
    """Called where a tag has been verified, and nowhere else."""
    return cast("VerifiedPayload", payload)


class RejectCode(IntEnum):
    """Why a server refuses the handshake. Unknown codes are read as NOT_AUTHORISED."""

    VERSION = 1
    CODEC = 2
    NOT_AUTHORISED = 3
    OVERLOADED = 4
    SHUTTING_DOWN = 5


class CloseCode(IntEnum):
    """Why a side ends the connection. Unknown codes are read as PROTOCOL_ERROR."""

    DONE = 0
    IDLE = 1
    GOING_AWAY = 2
    CREDENTIAL = 3
    PROTOCOL_ERROR = 4


class FaultCode(IntEnum):
    """Why there is no reply. Unknown codes are read as HANDLER_FAILED."""

    MALFORMED_PAYLOAD = 16
    TYPE_NOT_ALLOWED = 17
    TOO_LARGE = 18
    HANDLER_FAILED = 19
    DEADLINE_EXCEEDED = 20
    OVERLOADED = 21


class Hello(NamedTuple):
    """The client's offer. ``extensions`` are the bytes after server_name, in range and ascending."""

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
    """Why there is no reply, in words for people. ``text``: escaped where it came from the peer."""

    code: int
    text: str

    def pack(self) -> bytes:
        text = self.text.encode("utf-8", "backslashreplace")[:MAX_FAULT_TEXT]
        # A character cut in two at the end is left out.
        return self.code.to_bytes(2, "big") + text.decode("utf-8", "ignore").encode()

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> Fault:
        fields = _Fields(payload, "FAULT")
        code = fields.number(2)
        raw = fields.rest()
        if len(raw) > MAX_FAULT_TEXT:
            raise RemoteProtocolError(f"FAULT with a text of {len(raw)} bytes; the most is {MAX_FAULT_TEXT}")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("FAULT with a text that is not UTF-8") from None
        return cls(_known(FaultCode, code, FaultCode.HANDLER_FAILED), escaped(text))


class Close(NamedTuple):
    """The end, and the highest sequence that counts (docs/protocol.md, section 5)."""

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


def escaped(text: str) -> str:
    """``text`` with everything that could act on a terminal or a log as a backslash escape."""
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
    """The fields of a payload, taken from its front; raises RemoteProtocolError where they do not fit it exactly."""

    def __init__(self, payload: bytes | memoryview, frame: str) -> None:
        self._rest = bytes(payload)
        self._frame = frame

    def _wrong(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._frame} with {what}")

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise self._wrong("fewer bytes than its fields need")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def max_frame(self) -> int:
        value = self.number(4)
        if value < MIN_MAX_FRAME:
            raise self._wrong(f"max_frame {value}; the least is {MIN_MAX_FRAME}")
        return value

    def s8(self, form: re.Pattern[bytes]) -> str:
        raw = self.take(self.number(1))
        if not form.fullmatch(raw):
            raise self._wrong("a name that is empty, too long or has characters that are not allowed")
        return raw.decode("ascii")

    def token(self) -> str:
        return self.s8(_TOKEN)

    def extensions(self) -> bytes:
        whole = self._rest
        before = -1
        while self._rest:
            kind = self.number(2)
            if kind <= before:
                raise self._wrong("extensions out of order")
            before = kind
            self.take(self.number(2))
        return whole

    def rest(self) -> bytes:
        return self.take(len(self._rest))

    def end(self) -> None:
        if self._rest:
            raise self._wrong("bytes after its last field")

"""HELLO, WELCOME and REJECT: both sides prove that they hold the key, on this very connection.

docs/protocol.md, section 3.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sealwire.errors import (
    AuthenticationError,
    BadTag,
    BadVersion,
    RemoteProtocolError,
    UnknownKey,
)
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.frames import HEAD, NONCE, TAG, VERSION, Hello, Kind, RejectCode, Welcome, pack_reject
from sealwire.wire.keys import Binding, Key, TrafficKeys, hello_mac, traffic_keys, transcript
from sealwire.wire.reader import Frame, verify


class Agreed(NamedTuple):
    """What a complete handshake leaves."""

    key: Key
    traffic: TrafficKeys
    max_frame: int
    """What the peer takes."""


class Refusal(NamedTuple):
    """Why the server answers REJECT: ``code`` for the client, ``error`` for the server's own log."""

    code: int
    error: RemoteProtocolError | None


class ClientHandshake:
    """The client's side: ``hello`` to send, then :meth:`complete` with what came back."""

    def __init__(
        self, *, key: Key, binding: Binding, codec: str, server_name: str, max_frame: int, nonce: bytes | None
    ) -> None:
        self._key = key
        self._binding = binding
        self._offer = Hello(nonce or secrets.token_bytes(NONCE), max_frame, key.id, codec, server_name)
        unsigned = _unsigned(Kind.HELLO, self._offer.pack())
        self.hello = unsigned + hello_mac(key.secret, binding).tag(unsigned)

    def complete(self, frame: Frame) -> Agreed:
        """Judge WELCOME. Raises RemoteProtocolError, BadTag, BadVersion."""
        welcome = Welcome.unpack(frame.payload)
        keys = traffic_keys(
            self._key.secret,
            client_nonce=self._offer.nonce,
            server_nonce=welcome.nonce,
            binding=self._binding,
            log=transcript(self.hello, frame.raw[:-TAG]),
        )
        verify(frame.raw, keys.server_to_client)
        if welcome.version != VERSION:
            raise BadVersion(f"the server welcomed version {welcome.version}; version {VERSION} was offered")
        if welcome.codec != self._offer.codec:
            raise RemoteProtocolError(f"the server welcomed another codec than {self._offer.codec}, which was offered")
        if welcome.extensions:
            raise RemoteProtocolError("the server answered extensions; none was offered")
        return Agreed(self._key, keys, welcome.max_frame)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a server asks of a client on this connection.

    lookup: the key of that id, if it is valid now and this certificate's identity may use it; else None.
    accepts_name: whether a server_name is one of this server's names with exactly its service.
    allowed: whether this certificate's identity may connect at all.
    busy: asked last: the code of REJECT (4 overloaded, 5 shutting down), or None to go on.
    nonce: 32 bytes, for test vectors alone; fresh ones from the system by default.
    """

    lookup: Callable[[str], Key | None]
    accepts_name: Callable[[str], bool]
    binding: Binding
    codec: str
    max_frame: int
    allowed: bool = True
    busy: Callable[[], int | None] = lambda: None
    nonce: bytes | None = None


class ServerHandshake:
    """The server's side: judge HELLO, then answer."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def judge(self, frame: Frame) -> tuple[bytes, Agreed] | Refusal:
        """WELCOME and what was agreed, or why not. Raises RemoteProtocolError for a HELLO that makes no sense.

        Key, tag and name fail in the same time: all of the work is done whatever fails first.
        """
        terms = self._terms
        if not frame.payload:
            raise RemoteProtocolError("HELLO without a version")
        if frame.payload[0] != VERSION:
            return Refusal(
                RejectCode.VERSION, BadVersion(f"HELLO of version {frame.payload[0]}; this side speaks {VERSION} alone")
            )
        hello = Hello.unpack(frame.payload)
        found = terms.lookup(hello.key_id)
        stranger = Key("unknown", secrets.token_bytes(32))
        key = found or stranger
        named = terms.accepts_name(hello.server_name)
        error: RemoteProtocolError | None = None
        if not named:
            error = AuthenticationError("HELLO for another server name than this server's (names and service)")
        try:
            verify(frame.raw, hello_mac(key.secret, terms.binding))
        except BadTag:
            error = BadTag(
                "HELLO with a wrong tag: the client has another secret under this key id, or a relay is between"
            )
        if found is None:
            error = UnknownKey("HELLO with a key id that is unknown, not valid now or not for this certificate")
        if not terms.allowed:
            error = AuthenticationError("the certificate's identity is not on the peer list")
        if error is not None:
            return Refusal(RejectCode.NOT_AUTHORISED, error)
        if hello.codec != terms.codec:
            return Refusal(RejectCode.CODEC, RemoteProtocolError(f"HELLO with another codec than {terms.codec}"))
        busy = terms.busy()
        if busy is not None:
            return Refusal(busy, None)
        return self._welcome(frame.raw, hello, key)

    def _welcome(self, raw_hello: bytes, hello: Hello, key: Key) -> tuple[bytes, Agreed]:
        terms = self._terms
        answer = Welcome(terms.nonce or secrets.token_bytes(NONCE), terms.max_frame, terms.codec)
        unsigned = _unsigned(Kind.WELCOME, answer.pack())
        keys = traffic_keys(
            key.secret,
            client_nonce=hello.nonce,
            server_nonce=answer.nonce,
            binding=terms.binding,
            log=transcript(raw_hello, unsigned),
        )
        return unsigned + keys.server_to_client.tag(unsigned), Agreed(key, keys, hello.max_frame)


def reject(code: int) -> bytes:
    """The REJECT frame, which no key vouches for."""
    return _unsigned(Kind.REJECT, pack_reject(code)) + bytes(TAG)


def _unsigned(kind: int, payload: bytes) -> bytes:
    return HEAD.pack(len(payload) + FRAME_OVERHEAD, kind, 0, 0, 0, 0) + payload

"""The handshake at both ends: HELLO, then WELCOME or REJECT (docs/protocol.md, section 3).

Both sides prove that they hold the key, and that they hold it on this connection and not on a relayed one.
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
    because,
)
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.features import NO_FEATURES, Features, extension_types
from sealwire.wire.frame_reader import Frame, verify
from sealwire.wire.frames import HEAD, NONCE, TAG, VERSION, Hello, Kind, RejectCode, Welcome, pack_reject
from sealwire.wire.keys import Binding, Key, TrafficKeys, hello_mac, traffic_keys, transcript


class HandshakeResult(NamedTuple):
    """The result of a complete handshake."""

    key: Key
    traffic: TrafficKeys
    max_frame: int
    """The largest ``length`` that the peer accepts."""
    features: Features
    """The features that both sides have, with the peer's parameters."""
    connection_id: str
    """The beginning of the transcript hash in hexadecimal, which both sides can show in their logs."""


class Rejection(NamedTuple):
    """The reason for REJECT: ``code`` for the client, ``error`` for the server's log."""

    code: int
    error: RemoteProtocolError | None


class ClientHandshake:
    """The client's handshake: send ``hello``, then call :meth:`complete` with the answer."""

    def __init__(
        self,
        *,
        key: Key,
        binding: Binding,
        codec: str,
        server_name: str,
        max_frame: int,
        nonce: bytes | None,
        features: Features = NO_FEATURES,
    ) -> None:
        self._key = key
        self._binding = binding
        self._offer = Hello(nonce or secrets.token_bytes(NONCE), max_frame, key.id, codec, server_name, features.pack())
        unsigned = _unsigned(Kind.HELLO, self._offer.pack())
        self.hello = unsigned + hello_mac(key.secret, binding).tag(unsigned)

    def complete(self, frame: Frame) -> HandshakeResult:
        """Check WELCOME and derive the keys. Raises RemoteProtocolError, BadTag, BadVersion."""
        welcome = Welcome.unpack(frame.payload)
        log = transcript(self.hello, frame.raw[:-TAG])
        keys = traffic_keys(
            self._key.secret,
            client_nonce=self._offer.nonce,
            server_nonce=welcome.nonce,
            binding=self._binding,
            log=log,
        )
        verify(frame.raw, keys.server_to_client)
        if welcome.version != VERSION:
            raise BadVersion(f"the server answered with version {welcome.version} instead of {VERSION}")
        if welcome.codec != self._offer.codec:
            raise RemoteProtocolError(f"the server answered with another codec than {self._offer.codec}")
        offered = extension_types(self._offer.extensions)
        if not extension_types(welcome.extensions) <= offered:
            raise RemoteProtocolError("the server answered with extensions that the client did not offer")
        features = Features.unpack(welcome.extensions, from_client=False)
        return HandshakeResult(self._key, keys, welcome.max_frame, features, _connection_id(log))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerParameters:
    """The parameters of a server's side, for one connection."""

    find_key: Callable[[str], Key | None]
    """Returns the key with an id, if it is valid now and the client's identity may use it."""
    accepts_name: Callable[[str], bool]
    """Returns True for a server_name that is one of the server's names, with exactly its service."""
    binding: Binding
    """The two leaf certificates of the connection."""
    codec: str
    """The name of the codec for payloads."""
    max_frame: int
    """The largest ``length`` to accept from the client."""
    peer_problem: str | None = None
    """The reason if the client may not connect at all; None if it may."""
    peer_reason: str = "peer_not_listed"
    """That reason in a word."""
    busy: Callable[[], int | None] = lambda: None
    """Called after all other checks; returns the code to REJECT an acceptable client with, or None to accept it."""
    features: Features = NO_FEATURES
    """The features that the server has."""
    doubt: Callable[[], bool] = lambda: False
    """Called before a client is rejected as not authorised; True puts the answer off until ``answer_hello``."""
    nonce: bytes | None = None
    """32 bytes, for test vectors only; random by default."""


class ServerHandshake:
    """The server's handshake: check HELLO and build the answer."""

    def __init__(self, parameters: ServerParameters) -> None:
        self._parameters = parameters

    def doubts(self, answer: tuple[bytes, HandshakeResult] | Rejection) -> bool:
        """Return True if the server wants to look for other keys before it gives this answer."""
        rejected = isinstance(answer, Rejection) and answer.code == RejectCode.NOT_AUTHORISED
        return rejected and self._parameters.peer_problem is None and self._parameters.doubt()

    def check_hello(self, frame: Frame) -> tuple[bytes, HandshakeResult] | Rejection:
        """Check HELLO; return WELCOME and the result of the handshake, or a rejection.

        A wrong key id, tag and name take the same time to fail: every step is done even if an earlier one has failed.

        Raises RemoteProtocolError for a malformed HELLO.
        """
        parameters = self._parameters
        if not frame.payload:
            raise RemoteProtocolError("HELLO without a version")
        if frame.payload[0] != VERSION:
            return Rejection(
                RejectCode.VERSION,
                BadVersion(f"HELLO with version {frame.payload[0]}; this server supports only {VERSION}"),
            )
        hello = Hello.unpack(frame.payload)
        offered = Features.unpack(hello.extensions, from_client=True)
        known_key = parameters.find_key(hello.key_id)
        decoy = Key("unknown", secrets.token_bytes(32))
        key = known_key or decoy
        name_accepted = parameters.accepts_name(hello.server_name)
        error: RemoteProtocolError | None = None
        if not name_accepted:
            error = AuthenticationError("HELLO with a server name or service that is not this server's")
        try:
            verify(frame.raw, hello_mac(key.secret, parameters.binding))
        except BadTag:
            error = BadTag(
                "HELLO with a wrong tag: the client has another secret for this key id, or the connection is relayed"
            )
        if known_key is None:
            error = UnknownKey("HELLO with a key id that is unknown, not valid now or not allowed for this certificate")
        if parameters.peer_problem is not None:
            error = because(AuthenticationError(parameters.peer_problem), parameters.peer_reason)
        if error is not None:
            return Rejection(RejectCode.NOT_AUTHORISED, error)
        if hello.codec != parameters.codec:
            return Rejection(
                RejectCode.CODEC,
                because(RemoteProtocolError(f"HELLO with another codec than {parameters.codec}"), "codec"),
            )
        busy = parameters.busy()
        if busy is not None:
            return Rejection(busy, None)
        return self._welcome(frame.raw, hello, offered, key)

    def _welcome(self, raw_hello: bytes, hello: Hello, offered: Features, key: Key) -> tuple[bytes, HandshakeResult]:
        parameters = self._parameters
        answer = Welcome(
            parameters.nonce or secrets.token_bytes(NONCE),
            parameters.max_frame,
            parameters.codec,
            parameters.features.agreed(offered).pack(),
        )
        unsigned = _unsigned(Kind.WELCOME, answer.pack())
        log = transcript(raw_hello, unsigned)
        keys = traffic_keys(
            key.secret,
            client_nonce=hello.nonce,
            server_nonce=answer.nonce,
            binding=parameters.binding,
            log=log,
        )
        features = offered.agreed(parameters.features)
        result = HandshakeResult(key, keys, hello.max_frame, features, _connection_id(log))
        return unsigned + keys.server_to_client.tag(unsigned), result


def _connection_id(log: bytes) -> str:
    return log[:4].hex()


def reject(code: int) -> bytes:
    """Return a REJECT frame. Its tag is zero because no key has been agreed on."""
    return _unsigned(Kind.REJECT, pack_reject(code)) + bytes(TAG)


def _unsigned(kind: int, payload: bytes) -> bytes:
    return HEAD.pack(len(payload) + FRAME_OVERHEAD, kind, 0, 0, 0, 0) + payload

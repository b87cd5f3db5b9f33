"""Exchange Python objects between hosts that do not trust each other.

TLS 1.3 with certificates on both sides around socketserver's servers and their clients, HMAC-signed and size-capped
frames, and a restricted unpickler with a type allowlist in place of raw pickle. See README.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sealwire.codec import Allowlist, Codec, decode, encode
from sealwire.errors import (
    AuthenticationError,
    BadSequence,
    BadTag,
    BadVersion,
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    EnvelopeContextMismatch,
    EnvelopeError,
    EnvelopeExpired,
    EnvelopeForged,
    EnvelopeKeyUnknown,
    EnvelopeMalformed,
    EnvelopeTooLarge,
    EnvelopeVersionUnknown,
    FeatureNotSupported,
    FrameTooLarge,
    HandshakeFailed,
    HandshakeRejected,
    InvalidState,
    InvalidValue,
    LimitExceeded,
    LocalProtocolError,
    MalformedPickle,
    NoServerAvailable,
    PayloadTooLarge,
    PeerNotAllowed,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
    SealwireError,
    TransportError,
    TruncatedFrame,
    TypeNotAllowed,
    UnknownKey,
)
from sealwire.faults import Refuse
from sealwire.handler import RequestHandler
from sealwire.limits import Limits
from sealwire.pool.client import ClientPool
from sealwire.prefork.supervisor import PreforkTCPServer
from sealwire.security import Security
from sealwire.send_rcv import (
    BYTE_COUNT,
    add_msg_header,
    len_frombytes,
    len_inbytes,
    recv_async,
    recv_msg,
    recvall,
    send_msg,
)
from sealwire.service import Service
from sealwire.session.context import Context
from sealwire.sync.client import SynchronousTCPClient, SynchronousUnixClient
from sealwire.sync.part_stream import PartStream
from sealwire.sync.server import ForkingTCPServer, TCPServer, ThreadingTCPServer, serve
from sealwire.sync.unix_server import ForkingUnixStreamServer, ThreadingUnixStreamServer, UnixStreamServer
from sealwire.trust.credentials import Credentials
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.keyring import Keyring
from sealwire.trust.peers import PeerPolicy
from sealwire.wire.keys import Key

if TYPE_CHECKING:
    from sealwire.aio.client import AsyncTCPClient, AsyncUnixClient
    from sealwire.aio.part_stream import AsyncPartStream
    from sealwire.aio.server import AsyncTCPServer
    from sealwire.aio.unix_server import AsyncUnixServer
    from sealwire.pool.async_client import AsyncClientPool

__version__ = "0.1.0"

_LAZY = {
    "AsyncClientPool": "sealwire.pool.async_client",
    "AsyncPartStream": "sealwire.aio.part_stream",
    "AsyncTCPClient": "sealwire.aio.client",
    "AsyncTCPServer": "sealwire.aio.server",
    "AsyncUnixClient": "sealwire.aio.client",
    "AsyncUnixServer": "sealwire.aio.unix_server",
}
"""Names imported on first use, so that programs without asyncio do not load it."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "BYTE_COUNT",
    "Allowlist",
    "AsyncClientPool",
    "AsyncPartStream",
    "AsyncTCPClient",
    "AsyncTCPServer",
    "AsyncUnixClient",
    "AsyncUnixServer",
    "AuthenticationError",
    "BadSequence",
    "BadTag",
    "BadVersion",
    "ClientPool",
    "Codec",
    "ConfigurationError",
    "ConnectionClosed",
    "Context",
    "Credentials",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "EnvelopeContextMismatch",
    "EnvelopeError",
    "EnvelopeExpired",
    "EnvelopeForged",
    "EnvelopeKeyUnknown",
    "EnvelopeMalformed",
    "EnvelopeTooLarge",
    "EnvelopeVersionUnknown",
    "FeatureNotSupported",
    "ForkingTCPServer",
    "ForkingUnixStreamServer",
    "FrameTooLarge",
    "HandshakeFailed",
    "HandshakeRejected",
    "InvalidState",
    "InvalidValue",
    "Key",
    "Keyring",
    "LimitExceeded",
    "Limits",
    "LocalProtocolError",
    "MalformedPickle",
    "NoServerAvailable",
    "PartStream",
    "PayloadTooLarge",
    "PeerIdentity",
    "PeerNotAllowed",
    "PeerPolicy",
    "PreforkTCPServer",
    "ProtocolError",
    "Refuse",
    "RemoteError",
    "RemoteProtocolError",
    "RequestHandler",
    "SealwireError",
    "Security",
    "Service",
    "SynchronousTCPClient",
    "SynchronousUnixClient",
    "TCPServer",
    "ThreadingTCPServer",
    "ThreadingUnixStreamServer",
    "TransportError",
    "TruncatedFrame",
    "TypeNotAllowed",
    "UnixStreamServer",
    "UnknownKey",
    "add_msg_header",
    "decode",
    "encode",
    "len_frombytes",
    "len_inbytes",
    "recv_async",
    "recv_msg",
    "recvall",
    "send_msg",
    "serve",
]

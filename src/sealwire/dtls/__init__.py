"""UDP over DTLS 1.2, with the same handlers and the same Security as on TCP. Requires the extra ``sealwire[dtls]``.

::

    with ThreadingUDPServer(("0.0.0.0", 7443), Orders, security) as server:
        server.serve_forever()

    reply = SynchronousUDPClient("server.example", 7443, security=security).send_request(data)

A message has at most 1,132 bytes encoded. It can be lost, but is never delivered twice (docs/protocol.md, sections 1
and 6).

records        DTLS records in datagrams
contexts       pyOpenSSL contexts and connections
association    one peer: DTLS and the wire protocol, without I/O; server_association and client_association are its ends
cookies        the stateless cookie exchange of a server
flight         a server's handshake messages, in proportion to what it received
demultiplexer  a server's associations on one socket, without I/O; association_table has their bounds
exchange       one request of a client, sent again until its reply comes, without I/O
server         the servers, on the pattern of socketserver; channel is what their handlers see
client         the synchronous client
aio            the client on asyncio

Code about datagrams and DTLS belongs here; rules that TCP shares belong in :mod:`sealwire.session`.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sealwire import extras

if find_spec("OpenSSL") is None:
    raise extras.missing("dtls", "sealwire.dtls")

from sealwire.dtls.client import SynchronousUDPClient
from sealwire.dtls.server import ThreadingUDPServer, UDPServer

if TYPE_CHECKING:
    from sealwire.dtls.aio import AsyncUDPClient

_LAZY = {"AsyncUDPClient": "sealwire.dtls.aio"}
"""Names imported on first use, so that programs without asyncio do not load it."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = ["AsyncUDPClient", "SynchronousUDPClient", "ThreadingUDPServer", "UDPServer"]

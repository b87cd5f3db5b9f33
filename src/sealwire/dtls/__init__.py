"""UDP over DTLS 1.2, with the same handlers, the same Security and the same guarantees; needs ``sealwire[dtls]``.

::

    with ThreadingUDPServer(("0.0.0.0", 7443), Orders, security) as server:
        server.serve_forever()

    reply = SynchronousUDPClient("server.example", 7443, security=security).send_request(data)

A message takes at most 1,132 bytes as it is encoded, can be lost, and is never delivered twice (docs/protocol.md,
sections 1 and 6).

records      DTLS records in datagrams
contexts     what is asked of DTLS
association  one peer: DTLS and the wire protocol, without any I/O
listener     cookies: no state for an address that has not answered one
endpoint     a server's peers on one socket
server       on socketserver
channel      a client's socket and its association
client       the synchronous client
aio          the client on asyncio
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sealwire.errors import ConfigurationError

try:
    import OpenSSL  # noqa: F401 - whether it is there
except ImportError:
    raise ConfigurationError("sealwire.dtls needs pyOpenSSL: pip install 'sealwire[dtls]'") from None

from sealwire.dtls.client import SynchronousUDPClient
from sealwire.dtls.server import ThreadingUDPServer, UDPServer

if TYPE_CHECKING:
    from sealwire.dtls.aio import AsyncUDPClient

_LAZY = {"AsyncUDPClient": "sealwire.dtls.aio"}
"""Names that pull in asyncio, which not everybody needs."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["AsyncUDPClient", "SynchronousUDPClient", "ThreadingUDPServer", "UDPServer"]

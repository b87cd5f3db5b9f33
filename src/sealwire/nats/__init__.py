"""Workers and clients on NATS, with the handlers and the Security of TCP. Requires the extra ``sealwire[nats]``.

::

    async with NATSServer("tls://nats.example", respond, security, subject="orders") as server:
        await server.serve_forever()

    async with AsyncNATSClient("tls://nats.example", "orders", security=security) as client:
        reply = await client.send_request(data)

NATS carries a session, which is a stream of bytes each way, between two inboxes; TLS, identity and sealed frames are
those of TCP, from end to end (docs/nats.md).

messages     the messages of a session, without I/O
session      one end of a session: an asyncio transport made of messages
link         a connection to a NATS server, which many sessions share
listener     the subject on which a worker takes sessions
server       the worker
client       the client on asyncio
sync_client  the same client for programs without an event loop
urls         URLs, subjects and options

Code about NATS belongs here; rules that TCP shares belong in :mod:`sealwire.aio` and :mod:`sealwire.session`.
"""

from __future__ import annotations

from importlib.util import find_spec

from sealwire import extras

if find_spec("nats") is None:
    raise extras.missing("nats", "sealwire.nats")

from sealwire.nats.client import AsyncNATSClient
from sealwire.nats.server import NATSServer
from sealwire.nats.sync_client import SynchronousNATSClient

__all__ = ["AsyncNATSClient", "NATSServer", "SynchronousNATSClient"]

"""The same on asyncio; nothing else imports that.

channel   a connection: TLS and the wire protocol on asyncio's transport
client    many requests under way on one connection
server    accepts, bounds, looks after connections, and drains
service   what is done with a connection: its handler, in a worker thread or on the loop
workers   threads for handlers that are no coroutines
"""

from sealwire.aio.client import connect, connect_unix

__all__ = ["connect", "connect_unix"]

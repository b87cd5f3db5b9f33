"""A TLS socket and the wire protocol on it, pumped, under one deadline.

pump        what both sides share
plain       a Unix socket in the place of TLS
requests    a server's end as handlers have it
client      requests out, replies in
connecting  a client's way to such a channel
server      accept, requests in, replies out
"""

from sealwire.channel.client import ClientChannel
from sealwire.channel.connecting import connect, connect_unix
from sealwire.channel.pump import LINGER, Channel, Sealed
from sealwire.channel.requests import Requests
from sealwire.channel.server import Lease, ServerChannel, accept

__all__ = [
    "LINGER",
    "Channel",
    "ClientChannel",
    "Lease",
    "Requests",
    "Sealed",
    "ServerChannel",
    "accept",
    "connect",
    "connect_unix",
]

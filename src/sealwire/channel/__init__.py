"""A TLS socket and the wire protocol on it, pumped, under one deadline.

pump      what both sides share
requests  a server's end as handlers have it
client    connect, requests out, replies in
server    accept, requests in, replies out
"""

from sealwire.channel.client import ClientChannel, connect, connect_unix
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

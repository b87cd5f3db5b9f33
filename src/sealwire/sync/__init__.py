"""Blocking clients and servers, on sockets and socketserver.

pump               moves bytes between a socket and the protocol, under one deadline; both ends share it
unix_socket        a Unix socket with the methods of a TLS socket
keep_alive         the thread that pings connections without requests
connecting         from an address to a client's connection
accepting          from an accepted socket to a server's connection
client_connection  a client's end of a connection: requests out, replies in
server_connection  a server's end of a connection: requests in, replies out
client_parts       a client's end, as far as it is about parts and cancellation
server_parts       a server's end while a handler is at work: parts, cancellation, the requests behind this one
part_stream        requests and replies in parts, each with a connection of its own
parts_client       the methods of clients and pools for them
read_ahead         the thread that records when requests arrive while a handler is at work
reply_batches      which replies wait for the next one, to be sent together with it
client             the clients
server             the TCP servers
mixins             threads and child processes for servers
unix_server        the servers on Unix sockets

Code that blocks a thread belongs here; rules that asyncio shares belong in :mod:`sealwire.session`.
:mod:`sealwire.aio` has the same files for asyncio.
"""

from sealwire.sync.connecting import connect, connect_unix

__all__ = ["connect", "connect_unix"]

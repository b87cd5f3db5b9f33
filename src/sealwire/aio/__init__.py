"""Clients and servers on asyncio; no module outside this package imports asyncio for them.

byte_stream        TLS on asyncio's transport; both ends share it
frame_input        takes frames out of that stream; both ends share it
pump               moves frames between that stream and the protocol; both ends share it
unix_socket        a Unix socket with the methods of a TLS object
connecting         from an address to a client's connection
client_connection  a client's end of a connection: requests out, each reply to its task
server_connection  a server's end of a connection: requests in, replies out
connections        the connections of one client in one event loop
client             the clients
in_order           many requests under way at a time, and their results in order
server             the TCP server
accepting          accepts the connections of a server
unix_server        the server on Unix sockets
counted_channel    a server's end of a connection, as far as it counts the bytes that it holds
handler_runner     runs handlers, each for a connection or for its requests
answering          answers the requests of a connection
first_steps        runs coroutines at once up to their first wait, and from there on in tasks
handler_calls      calls handlers and the codec, on the event loop or in threads
loop_turns         the turns of peers, and their places for requests
threaded_channel   the channel of a handler that runs in a thread
threads            threads for functions that would block the loop

Code that runs on an event loop belongs here; rules that blocking code shares belong in :mod:`sealwire.session`.
:mod:`sealwire.sync` has the same files for blocking sockets.
"""

from sealwire.aio.connecting import connect, connect_unix

__all__ = ["connect", "connect_unix"]

"""The rules of a connection, the same for every transport, without I/O: the caller passes in events and the time.

client         a client's end: replies matched to requests, and which lost requests no handler has seen
server         a server's end: requests admitted, handed to handlers, answered; limits, draining and the reason to close
validity       when a live connection must end: a certificate or key expired or was revoked, or it is too old
terms          a Security turned into TLS contexts and handshake parameters
begin          either end's protocol and session, after TLS
requests       the channel that handlers use
context        the context of one request, for its handler
parts          the parts of a request that have come, and why a handler must end
call_metadata  the metadata of one call of a client
call_time      the time of one call of a client, and its limit inside a handler
arrival_times  when bytes of a stream arrived, for deadlines that count from there
explain        the texts of all errors of connections
misuse         the texts of all errors of calls that cannot be made

A rule that holds on more than one transport belongs here. Sockets, loops and threads belong to the packages sync, aio
and dtls; bytes of frames to wire.
"""

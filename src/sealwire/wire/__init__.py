"""The wire protocol without any I/O: bytes go in, events and bytes come out (docs/protocol.md).

framing     the article's four bytes of length
frames      what is inside a frame, kind by kind
keys        pre-shared keys and what is derived from them
reader      bytes in, whole frames out, at bounded cost
sealing     tags and sequence numbers in both directions
handshake   HELLO, WELCOME and REJECT
events      what a pump is told
protocol    what both sides and all carriers share: states, errors, the end
stream      bytes in and out, every frame in its order
datagram    frames that come in any order, twice or not at all
client      requests out, replies in
server      requests in, replies out
"""

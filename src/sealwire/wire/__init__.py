"""The wire protocol without any I/O: bytes go in, events and bytes come out (docs/protocol.md).

framing     the article's four bytes of length
frames      what is inside a frame, kind by kind
keys        pre-shared keys and what is derived from them
reader      bytes in, whole frames out, at bounded cost
sealing     tags and sequence numbers in both directions
handshake   HELLO, WELCOME and REJECT
events      what a pump is told
protocol    what both sides share: states, errors, the end
client      requests out, replies in
server      requests in, replies out
"""

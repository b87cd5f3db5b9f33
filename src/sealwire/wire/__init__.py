"""The wire protocol without any I/O: bytes go in, events and bytes come out (docs/protocol.md).

length_prefix  four bytes of length, and the functions for them
frames         header and payload of each kind of frame
keys           pre-shared keys, and the MAC keys derived from them
frame_reader   cuts a stream of bytes into frames, at bounded cost: checks lengths and tags
sequence       checks the sequence numbers and headers of incoming frames; the replay window of datagrams
sealing        seals outgoing frames
handshake      HELLO, WELCOME and REJECT
features       the features that a client offers in HELLO, and a server takes up in WELCOME
metadata       the map of str to str that travels with a request or reply
parts          credit for the parts of a request or reply
events         the events that a pump receives
protocol       the part common to both sides and all carriers: states, errors, the end
stream         carries frames over a stream, in order
datagram       carries frames in datagrams, which may be lost, repeated or reordered
client         the client's side: requests out, replies in
server         the server's side: requests in, replies out
proxy_header   the header that a proxy sends before a connection: the client's address
"""

"""The wire protocol on an asyncio transport, as sealwire.channel has it on a socket.

stream   what both ends share: TLS, bytes in and out, the end
client   requests out, and each reply to whoever waits for it
server   accept, requests in, replies out
"""

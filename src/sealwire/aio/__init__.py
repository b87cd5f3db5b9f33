"""The same on asyncio; nothing else imports that.

channel  a connection: asyncio's transport, and the wire protocol on it
client   many requests under way on one connection
"""

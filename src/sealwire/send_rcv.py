"""The article's functions, on sealed channels."""

from __future__ import annotations

from typing import Any, Protocol

from sealwire.channel import Sealed
from sealwire.errors import ConnectionClosed, EncodeError, InvalidState, TruncatedFrame
from sealwire.wire.framing import BYTE_COUNT, add_msg_header, len_frombytes, len_inbytes

__all__ = [
    "BYTE_COUNT",
    "add_msg_header",
    "len_frombytes",
    "len_inbytes",
    "recv_async",
    "recv_msg",
    "recvall",
    "send_msg",
]

_PIECE = 65_536


class _Stream(Protocol):
    def recv(self, size: int, /) -> bytes: ...


def send_msg(sock: Sealed, msg: bytes | bytearray | memoryview) -> None:
    """Send one message: a client's is a request, a server's the reply to its oldest unanswered request.

    Raises InvalidState for anything but a sealed channel (nothing is ever sent over a plain socket) and where a server
    has nothing to answer; EncodeError for anything but bytes; PayloadTooLarge, DeadlineExceeded, ConnectionClosed.

    On a channel of asyncio it never waits: the message is sent while others are served, and before the next recv_async
    returns.
    """
    channel = _sealed(sock, "send_msg", "send_msg")
    if not isinstance(msg, bytes | bytearray | memoryview):
        raise EncodeError(f"send_msg takes bytes, not {type(msg).__name__}; use send_msg(sock, encode(value))")
    channel.send_msg(bytes(msg) if isinstance(msg, bytearray) else msg)


def recv_msg(sock: Sealed) -> bytes | None:
    """The next message's payload, verified; None after the peer's CLOSE, the only clean end.

    Raises InvalidState for anything but a sealed channel; ConnectionClosed where the connection ended without CLOSE,
    TruncatedFrame where it ended inside a frame; DeadlineExceeded, RemoteProtocolError, and for a client RemoteError.
    """
    message: bytes | None = _sealed(sock, "recv_msg", "recv_msg").recv_msg()
    return message


async def recv_async(sock: Sealed) -> bytes | None:
    """The same on a channel of asyncio: of ``async def handle`` in an AsyncTCPServer, or of sealwire.aio.connect."""
    message: bytes | None = await _sealed(sock, "recv_async", "recv_async").recv_async()
    return message


def recvall(sock: _Stream, length: int) -> bytes:
    """Exactly ``length`` bytes of a stream. They are allocated as they arrive.

    Raises ConnectionClosed where the stream ends before the first of them, TruncatedFrame where it ends among them.
    Bytes are all that this gives: what they are worth is for the caller to verify.
    """
    data = bytearray()
    while len(data) < length:
        piece = sock.recv(min(length - len(data), _PIECE))
        if not piece:
            if data:
                raise TruncatedFrame(f"the stream ended after {len(data)} of {length} bytes")
            raise ConnectionClosed("the stream ended")
        data += piece
    return bytes(data)


def _sealed(sock: object, name: str, method: str) -> Any:
    if isinstance(sock, Sealed) and hasattr(sock, method):
        return sock
    other = {"recv_msg": "; use `await recv_async(sock)` there", "recv_async": "; use recv_msg(sock) there"}
    raise InvalidState(
        f"{name} needs a sealed channel (a handler's self.request, or sealwire.channel.connect), "
        f"not a {type(sock).__name__}{other.get(name, '') if isinstance(sock, Sealed) else ''}; "
        "nothing was sent or received"
    )

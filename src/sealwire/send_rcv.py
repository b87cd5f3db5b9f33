"""The functions of the socketserver article, on sealed channels instead of plain sockets."""

from __future__ import annotations

from typing import Any, Protocol

from sealwire.errors import ConnectionClosed, EncodeError, InvalidState, TruncatedFrame
from sealwire.session.requests import Sealed
from sealwire.wire.length_prefix import BYTE_COUNT, add_msg_header, len_frombytes, len_inbytes

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
    """Send one message: from a client a request, from a server the reply to its oldest unanswered request.

    On an asyncio channel it never waits: the event loop sends the message, before the next recv_async returns.

    Args:
        sock: A sealed channel: a handler's ``self.request``, or the result of ``sealwire.sync.connect`` or
            ``sealwire.aio.connect``. Nothing is ever sent over a plain socket.
        msg: The payload.

    Raises:
        InvalidState: ``sock`` is not a sealed channel, or a server has no request to answer.
        EncodeError: ``msg`` is not bytes-like.
        PayloadTooLarge: The payload exceeds the peer's limit.
        DeadlineExceeded: The message could not be sent in time.
        ConnectionClosed: The connection has ended.
    """
    channel = _sealed(sock, "send_msg", "send_msg")
    if not isinstance(msg, bytes | bytearray | memoryview):
        raise EncodeError(f"send_msg takes bytes, not {type(msg).__name__}; use send_msg(sock, encode(value))")
    channel.send_msg(bytes(msg) if isinstance(msg, bytearray) else msg)


def recv_msg(sock: Sealed) -> bytes | None:
    """Receive one message.

    Args:
        sock: A sealed channel, as for :func:`send_msg`.

    Returns:
        The verified payload; None after the peer's CLOSE, which is the only clean end.

    Raises:
        InvalidState: ``sock`` is not a sealed channel.
        ConnectionClosed: The connection ended without CLOSE.
        TruncatedFrame: The connection ended inside a frame.
        DeadlineExceeded: No message came in time.
        RemoteProtocolError: The peer violated the protocol.
        RemoteError: To a client: the server answered with a fault.
    """
    message: bytes | None = _sealed(sock, "recv_msg", "recv_msg").recv_msg()
    return message


async def recv_async(sock: Sealed) -> bytes | None:
    """Receive one message on an asyncio channel.

    Results and errors are those of :func:`recv_msg`.

    Args:
        sock: ``self.request`` in ``async def handle`` of an AsyncTCPServer, or the result of ``sealwire.aio.connect``.
    """
    message: bytes | None = await _sealed(sock, "recv_async", "recv_async").recv_async()
    return message


def recvall(sock: _Stream, length: int) -> bytes:
    """Read exactly ``length`` bytes of a stream, without verifying them. Memory grows only as they arrive.

    Args:
        sock: Any object with ``recv``, such as a plain socket.
        length: Number of bytes.

    Returns:
        The bytes.

    Raises:
        ConnectionClosed: The stream ended before the first byte.
        TruncatedFrame: The stream ended after some of the bytes.
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
        f"{name} needs a sealed channel (a handler's self.request, or sealwire.sync.connect), "
        f"not a {type(sock).__name__}{other.get(name, '') if isinstance(sock, Sealed) else ''}; "
        "nothing was sent or received"
    )

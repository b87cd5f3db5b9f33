"""Reads the PROXY header of an accepted connection out of its socket, and not a byte that follows it.

What has arrived is looked at before it is taken (MSG_PEEK): the bytes behind a header are those of TLS.
"""

from __future__ import annotations

import socket
from typing import Any

from sealwire.errors import DeadlineExceeded, because
from sealwire.security import Security
from sealwire.session import explain
from sealwire.slot import Slot
from sealwire.wire.proxy_header import MAX_HEADER, ProxyHeader


def expected_header(security: Security, client_address: Any) -> ProxyHeader | None:
    """Return the header of a connection that was accepted from this address; None if no proxies are configured."""
    return None if security.proxies is None else security.proxies.header(client_address)


def take_header(sock: socket.socket, slot: Slot, client_address: Any) -> Any:
    """Take what has arrived of a connection's header. Does not wait.

    Args:
        sock: The socket.
        slot: The connection's slot, which has the header until it is complete.
        client_address: The address that the connection was accepted from.

    Returns:
        The client's address; None until the header is complete.

    Raises:
        HandshakeFailed: The connection has ended, or the client's address has too many already.
        RemoteProtocolError: The header is malformed or missing, or there must not be one.
    """
    header = slot.header
    if header is None:
        return client_address
    try:
        seen = sock.recv(MAX_HEADER, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        raise explain.ended_at_start(error, "before its PROXY header") from None
    if not seen:
        if not header.expected:
            raise explain.silent()
        raise because(explain.without_header(), "ended" if slot.header_bytes else "silent")
    if size := header.take(seen):
        sock.recv(size)
        slot.header_bytes += size
    if not header.complete:
        return None
    slot.header = None
    if not header.expected:
        return client_address
    client_address = header.source or client_address
    if not slot.come_from(client_address):
        raise because(explain.too_many_of_address(), "evicted")
    return client_address


def too_slow(slot: Slot) -> DeadlineExceeded:
    """Return the error for a header that is not complete in time, or for TLS where there must be none."""
    expected = slot.header is not None and slot.header.expected
    return explain.header_too_slow() if expected else explain.tls_too_slow()

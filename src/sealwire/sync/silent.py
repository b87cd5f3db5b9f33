"""Connections that a forking server has accepted, and on which nothing has come yet.

A fork costs milliseconds, and anyone can open a connection. So the parent keeps it until bytes have arrived. A TLS
client sends its ClientHello, and a client on a Unix socket its HELLO, as soon as it is connected. A connection that
ends before that, is evicted, or runs out of time costs no fork. A proxy sends its PROXY header at once, too, when
its client may have sent nothing: so the parent reads that, and waits for more.
"""

from __future__ import annotations

import math
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from sealwire.errors import SealwireError
from sealwire.proxy_header_reader import take_header
from sealwire.slot import Slot


class SilentConnections:
    """The silent connections of one server, oldest first. Used by the thread that accepts.

    Args:
        timeout: Seconds after which a connection is over its time: Limits.handshake_timeout.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._kept: dict[Any, tuple[Any, Slot]] = {}

    def add(self, request: Any, client_address: Any, slot: Slot) -> None:
        """Keep an accepted connection."""
        self._kept[request] = client_address, slot

    def discard(self, request: Any) -> None:
        """Keep a connection no longer, if it is here."""
        self._kept.pop(request, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._kept)

    @property
    def slots(self) -> list[Slot]:
        """The slots of the connections."""
        return [slot for _, slot in self._kept.values()]

    @property
    def until_due(self) -> float:
        """The seconds until the oldest connection is over its time; infinite without one."""
        for _, slot in self._kept.values():
            return max(0.0, slot.since + self._timeout - monotonic())
        return math.inf

    def take_due(self) -> Iterator[tuple[Any, Any, bool | SealwireError]]:
        """Take out the connections that have something for the server to do, one after the other.

        Yields:
            The connection, its client's address, and True if the client has sent something: False means that the
            connection has ended, was evicted, or is over its time, and an error is why its PROXY header is refused.
        """
        waiting = select.poll()
        for request in self._kept:
            waiting.register(request, select.POLLIN)
        found = dict(waiting.poll(0))
        now = monotonic()
        for request, (address, slot) in list(self._kept.items()):
            events = found.get(request.fileno(), 0)
            is_over = slot.evicted or now >= slot.since + self._timeout
            error: SealwireError | None = None
            if events and slot.header is not None and not is_over:
                try:
                    told = take_header(request, slot, address)
                except SealwireError as refused:
                    error = refused
                else:
                    self._kept[request] = (address if told is None else told), slot
                    continue
            if events or is_over:
                del self._kept[request]
                yield request, address, error or (bool(events) and not is_over and _has_bytes(request, events))


def _has_bytes(sock: socket.socket, events: int) -> bool:
    # A look at the bytes would take a pending error out of the socket, which is to be logged.
    if not events & select.POLLERR:
        with suppress(OSError):
            return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False

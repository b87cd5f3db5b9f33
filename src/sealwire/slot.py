"""The slot of one connection in a server's Admission: the facts about it, and how to end it from outside."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from sealwire.listeners import source_of
from sealwire.server_events import Source
from sealwire.session import explain
from sealwire.tcp_options import bytes_received
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.proxy_header import ProxyHeader

if TYPE_CHECKING:
    from sealwire.admission import Admission


class Slot:
    """The slot of one connection, acquired from an Admission."""

    def __init__(
        self,
        admission: Admission,
        index: int,
        sock: socket.socket,
        on_request: Callable[[], None] | None,
        address: Any,
        header: ProxyHeader | None = None,
    ) -> None:
        self._admission = admission
        self._sock: socket.socket | None = sock
        self._process = os.getpid()
        self.on_request = on_request
        """The function to call for each request handed to a handler, or None."""
        self.index = index
        """The slot's position in the shared table of states."""
        self.address = address
        """The client's address."""
        self.events = admission.events
        """Receives the events to report."""
        self.since = monotonic()
        self.header = header
        """The header that the connection must, or must not, begin with; None without one, or when it has been read."""
        self.header_bytes = 0
        """Bytes of it that have been read; they do not come from the client."""
        self.source = None if header is not None and header.expected else source_of(sock)
        """The address of the client, IPv6 as its /64; None on a Unix socket, and until a proxy has told it."""
        self.holding = admission.buffers.open()
        """The bytes that the connection holds."""
        self.holding.end = self.shed
        self.holding.publish = partial(admission.publish_held, index)
        self.evicted = False
        self.is_counted = False
        """True if the log counts the eviction instead of having a line for it."""
        self._peer: PeerIdentity | None = None
        self.key: Hashable = ("address", self.source)
        """The peer that work is counted for: an identity's account, before and without one the address."""
        self.thread: threading.Thread | None = None
        """The thread that serves the connection, if it has one of its own."""
        self.pid: int | None = None
        """The child process that serves the connection, or None for this process."""

    @property
    def peer(self) -> PeerIdentity | None:
        """The client's verified identity. Work is counted for it once it is set."""
        return self._peer

    @peer.setter
    def peer(self, peer: PeerIdentity | None) -> None:
        self._peer = peer
        if peer is not None:
            self.key = peer.account

    def come_from(self, address: object) -> bool:
        """Note the client's address, which a proxy has told; return False if that has too many connections already."""
        return self._admission.come_from(self, address)

    def track_socket(self, sock: socket.socket | None) -> None:
        """Set the socket that eviction shuts down; pass None just before closing it."""
        with self._admission.lock:
            self._sock = sock

    def close_copy(self) -> None:
        """Close this process's copy of the socket, in a forked child, without sending anything."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def mark_authenticated(self) -> bool:
        """Establish the connection; return False if max_connections are established already."""
        return self._admission.mark_authenticated(self)

    def mark_welcomed(self) -> None:
        """Note that the client's HELLO was good."""
        self._admission.mark_welcomed(self)

    @property
    def is_silent(self) -> bool:
        """True if nothing has come from the client, as far as the system can tell."""
        return self._sock is not None and bytes_received(self._sock) == self.header_bytes

    def until_late(self) -> float:
        """Return the seconds until the connection can be evicted, if it is not authenticated before."""
        return max(0.0, self.since + self._admission.grace(self) - monotonic())

    def is_late(self) -> bool:
        """Return True if the connection can be evicted."""
        return not self.until_late()

    def release(self) -> None:
        """Free the slot at the end of the connection. Without effect on the copy in a forked child."""
        if self._process == os.getpid():
            self._admission.release(self)

    def evict(self) -> None:
        """End the connection from outside; its thread sees the end of the stream. The caller holds the lock."""
        self.evicted = True
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        elif self._sock is not None:
            # The descriptor cannot belong to a new connection by now, because track_socket(None) takes the lock before
            # the close.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    @property
    def allow_request(self) -> Callable[[float], bool] | None:
        """The function that tells if another request may be handled now; None without a bound."""
        rates = self._admission.rates
        return None if rates is None else lambda now: rates.allow(self.key, now)

    def shed(self) -> None:
        """End the connection because it holds most of the bytes that the server may buffer."""
        self.events.hit("max_buffered", self.known, f"ended: {explain.shed()}")
        self._admission.evict([self])

    def turned_away(self) -> None:
        """Report that the connection is closed at once, because its address has too many that are not authenticated."""
        text = "refused: its address has most of max_handshakes, or max_handshakes_per_source"
        self.events.hit("max_handshakes", self.known, text, level=logging.INFO)

    @property
    def known(self) -> Source:
        """The facts about the client, for a report."""
        return Source(self.address, self._peer)

    def join(self, deadline: float) -> None:
        """Wait until the connection's thread has ended, or until the deadline."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(min(threading.TIMEOUT_MAX, max(0.0, deadline - monotonic())))

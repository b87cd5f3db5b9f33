"""Ends a TCP server: requests in progress are finished, and new clients are told that it is going away.

``shutdown``, or an exception that ends ``serve_forever``, lets requests in progress finish:

1. ``_start_draining`` makes ``_drain_reader`` readable. Each connection polls it together with its own socket, also in
   forked children. No reader takes the byte out, so one byte reaches all of them. Idle connections send CLOSE at once,
   the others after their request.
2. Unauthenticated connections have GRACE seconds and are evicted then: they have no request in progress.
3. Meanwhile new clients are accepted only to be rejected (``_reject_waiting``), so that they do not hang in the
   listening queue until draining ends.
4. Connections that remain after Limits.drain_timeout are evicted.

Pre-fork workers share one listening socket. A worker that is being replaced leaves new clients in the queue, for
its successor: ``rejects_while_draining`` is False. Clients that are in the middle of connecting to the worker would
be rejected in step 1 although a server is there for them. So before step 1 the worker waits until they are
authenticated, which they are by their first request, for handshake_timeout or half of drain_timeout at most.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic

from sealwire.admission import GRACE, Admission
from sealwire.life_cycle import LifeCycle
from sealwire.security import Security
from sealwire.session.server import TERMINATION_WAIT
from sealwire.slot import Slot

_WAKEUPS = 16
"""Bytes that threads which stop the server at the same moment may send, at most."""
_DRAIN_POLL = 0.05
"""Seconds between two checks for new connections while draining."""


class Draining:
    """The end of a server. A mix-in for TCPServer."""

    security: Security
    rejects_while_draining: bool
    request_queue_size: int
    _admission: Admission
    _life: LifeCycle
    _draining: bool
    _drain_reader: socket.socket
    _drain_writer: socket.socket
    socket: socket.socket
    _handle_request_noblock: Callable[[], None]  # socketserver's, which typeshed leaves out

    def _resume(self) -> None:
        """Take back the byte of an earlier drain, unless this one is to begin at once."""
        if self._draining and not self._life.stopping:
            self._draining = False
            self._drain_reader.recv(_WAKEUPS)

    def _start_draining(self) -> None:
        if not self._draining:
            self._draining = True
            with suppress(OSError):  # closed meanwhile
                self._drain_writer.send(b"x")

    def _drain(self, *, listening: bool = False) -> None:
        """Drain; see the head of the module. ``listening`` tells that the socket still accepts connections."""
        if self._drain_writer.fileno() < 0:
            return
        limits = self.security.limits
        deadline = monotonic() + limits.drain_timeout
        if not (self.rejects_while_draining or self._draining):
            self._admission.wait_until_authenticated(min(limits.handshake_timeout, limits.drain_timeout / 2))
        self._start_draining()
        start = monotonic()
        awaited = set(self._admission.slots())
        pending = set(self._admission.unauthenticated())
        while awaited.intersection(self._admission.slots()) and monotonic() < deadline:
            if pending and monotonic() >= min(deadline, start + GRACE):
                self._admission.evict(pending.intersection(self._admission.unauthenticated()))
                pending.clear()
            self._join(min(deadline, monotonic() + _DRAIN_POLL), awaited)
            if listening and self.rejects_while_draining:
                self._reject_waiting()
        self._join(min(deadline, monotonic() + GRACE), self._admission.slots())
        if self._admission.slots():
            self._admission.evict(self._admission.slots())
            self._join(monotonic() + TERMINATION_WAIT, self._admission.slots())

    def _reject_waiting(self) -> None:
        """Accept queued connections only to reject them, so that they do not hang until draining ends."""
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        for _ in range(self.request_queue_size):
            if not waiting.poll(0):
                return
            self._handle_request_noblock()

    def _join(self, deadline: float, slots: Iterable[Slot]) -> None:
        """Wait until the threads that serve these slots have ended, or until the deadline."""
        for slot in slots:
            slot.join(deadline)

"""Mix-ins for servers: each connection in a thread or in a child process, as in socketserver."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from sealwire.admission import GRACE, Admission, Slot
from sealwire.descriptors import Reserve
from sealwire.errors import InvalidState
from sealwire.fork import flush_output, forking, signals_held, take_signals
from sealwire.listeners import address_text
from sealwire.security import Security

_REAP_WAIT = 0.01
"""Seconds between two checks for children that have ended; no event reports the end of any of several children."""


class Threading(socketserver.ThreadingMixIn):
    """Serves each connection in a thread. A mix-in for TCPServer and classes derived from it."""

    security: Security
    _slots: dict[Any, Slot]
    _looking: threading.Thread | None = None
    # TCPServer drains with a time limit, so that a handler that never returns cannot keep the process alive.
    daemon_threads = True
    block_on_close = False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a new thread."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"sealwire {address_text(client_address)}",
            daemon=self.daemon_threads,
        )
        self._slots[request].thread = thread
        thread.start()

    def _look_at_files(self) -> None:
        # In a thread, because a disk that does not answer must not keep the server from accepting.
        if self.security.refresh_due() and (self._looking is None or not self._looking.is_alive()):
            looking = threading.Thread(target=self.security.refresh, name="sealwire files", daemon=True)
            with suppress(RuntimeError):  # no thread can be started now
                looking.start()
                self._looking = looking

    def _drain(self, *, listening: bool = False) -> None:
        super()._drain(listening=listening)  # type: ignore[misc]  # TCPServer's
        if self._looking is not None:
            self._looking.join(GRACE)


class Forking(socketserver.ForkingMixIn):
    """Serves each connection in a child process. A mix-in for TCPServer and classes derived from it.

    The parent accepts and keeps the slots; the states of slots are in shared memory (see :mod:`sealwire.admission`).
    A child closes its copies of the listening socket and of ``_drain_writer``: if the parent dies, the last copy of the
    writing end is gone, and all children see the other end become readable and drain.
    """

    block_on_close = False
    security: Security
    socket: socket.socket
    _slots: dict[Any, Slot]
    _admission: Admission
    _drain_writer: Any
    _reserve: Reserve
    _is_child = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._children: dict[int, Slot] = {}
        super().__init__(*arguments, **options)
        # socketserver's loop would block at this number of children; admission keeps it below.
        self.max_children = self.security.limits.max_threads + 1

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a new child process."""
        # Reload in the parent: files that a child reloads are lost with it.
        self.security.refresh()
        flush_output()
        # Holding the lock keeps other threads from holding it during the fork, which would lock it in the child for
        # ever.
        with self._admission.changed, signals_held() as self._held_signals, forking(self):
            super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end. Runs in the child."""
        take_signals(self._held_signals)
        self._is_child = True
        self.socket.close()
        self._drain_writer.close()
        self._reserve.close()
        self._admission.begin_child(self._slots[request])
        try:
            super().finish_request(request, client_address)  # type: ignore[misc]  # TCPServer's
        finally:
            flush_output()

    def _start_reading_ahead(self) -> None:
        """Do nothing: the parent serves no connections."""

    def shutdown(self) -> None:
        """Stop serve_forever from another thread of the parent; see TCPServer.shutdown.

        Raises:
            InvalidState: Called in a child process; its copy of the server has no loop.
        """
        self._refuse_in_child()
        super().shutdown()  # type: ignore[misc]  # TCPServer's

    def server_close(self) -> None:
        """Stop serving and release everything; see TCPServer.server_close. Raises InvalidState in a child process."""
        self._refuse_in_child()
        super().server_close()

    def _refuse_in_child(self) -> None:
        if self._is_child:
            raise InvalidState("a child process cannot stop the server: send SIGTERM to its parent, os.getppid()")

    def close_request(self, request: Any) -> None:
        """Close this process's copy of the connection; in the parent, the new child keeps the slot."""
        for pid in set(self.active_children or ()) - self._children.keys():
            slot = self._slots.pop(request)
            slot.pid = pid
            self._children[pid] = slot
        super().close_request(request)  # type: ignore[misc]  # TCPServer's

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap the children that have ended, and release their slots."""
        with self._admission.changed:
            super().collect_children(blocking=blocking)
            for pid in self._children.keys() - set(self.active_children or ()):
                self._children.pop(pid).release()
        self._admission.shed_children()

    def _join(self, deadline: float, slots: Iterable[Slot]) -> None:
        """Wait until the children that serve these slots have ended, or until the deadline."""
        awaited = set(slots)
        self.collect_children()
        while awaited.intersection(self._children.values()) and monotonic() < deadline:
            with self._admission.changed:
                self._admission.changed.wait(_REAP_WAIT)
            self.collect_children()

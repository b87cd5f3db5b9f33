"""Mix-ins for servers: each connection in a thread or in a child process, as in socketserver."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from sealwire.admission import GRACE
from sealwire.errors import InvalidState
from sealwire.fork import flush_output, forking, signals_held, take_signals
from sealwire.listeners import address_text
from sealwire.slot import Slot
from sealwire.sync.silent import SilentConnections

if TYPE_CHECKING:
    from sealwire.sync.server import TCPServer as _TCPServer
else:
    _TCPServer = object  # a server names TCPServer after the mix-in, as in socketserver

_REAP_WAIT = 0.01
"""Seconds between two checks for children that have ended; no event reports the end of any of several children."""


class Threading(socketserver.ThreadingMixIn, _TCPServer):
    """Serves each connection in a thread. A mix-in for TCPServer and classes derived from it."""

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
        super()._drain(listening=listening)
        if self._looking is not None:
            self._looking.join(GRACE)


class Forking(socketserver.ForkingMixIn, _TCPServer):
    """Serves each connection in a child process. A mix-in for TCPServer and classes derived from it.

    The parent accepts and keeps the slots; the states of slots are in shared memory (see :mod:`sealwire.admission`).
    It forks when the client has sent something (see :mod:`sealwire.sync.silent`).
    A child closes its copies of the listening socket and of ``_drain_writer``: if the parent dies, the last copy of the
    writing end is gone, and all children see the other end become readable and drain.
    """

    block_on_close = False
    _silent: SilentConnections
    _is_child = False
    _forks = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._children: dict[int, Slot] = {}
        super().__init__(*arguments, **options)
        # socketserver's loop would block at this number of children; admission keeps it below.
        self.max_children = self.security.limits.max_threads + 1

    def _make_state(self) -> None:
        super()._make_state()
        self._silent = SilentConnections(self.security.limits.handshake_timeout)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection and acquire its slot; see TCPServer. Silent ones that had to make room end before."""
        if not self._admission.wait_for_room(0.0):
            self._attend_silent()
        return super().get_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a new child process, as soon as the client has sent something."""
        self._silent.add(request, client_address, self._slots[request])

    def _is_served(self, slot: Slot) -> bool:
        return super()._is_served(slot) or slot in self._silent.slots

    def _connection_waits(self, seconds: float, *_: Any) -> bool:
        """Wait as TCPServer does, and attend to silent connections meanwhile."""
        pause = min(seconds, self._silent.until_due)
        waits: bool = super()._connection_waits(pause, *self._silent)
        self._attend_silent()
        return waits

    def _attend_silent(self) -> None:
        """Fork for the silent connections that have sent something, and end those that are over."""
        for request, client_address, speaks in self._silent.take_due():
            try:
                if speaks is True:
                    self._fork(request, client_address)
                    continue
                if speaks is False:  # it has nothing to read, or is over its time, so this does not wait
                    super().finish_request(request, client_address)
                else:
                    self._refused(self._slots[request], speaks)
                self.shutdown_request(request)
            except Exception:
                self.handle_error(request, client_address)
                self.shutdown_request(request)
            except BaseException:
                self.shutdown_request(request)
                raise

    def _fork(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a new child process."""
        # Reload in the parent: files that a child reloads are lost with it.
        self.security.refresh()
        flush_output()
        # Holding the lock keeps other threads from holding it during the fork, which would lock it in the child for
        # ever.
        with self._admission.lock, signals_held() as self._held_signals, forking(self):
            super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end. Runs in the child."""
        take_signals(self._held_signals)
        self._is_child = True
        self.socket.close()
        self._drain_writer.close()
        self._reserve.close()
        for silent in self._silent:
            silent.close()
        self._admission.begin_child(self._slots[request])
        try:
            super().finish_request(request, client_address)
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
        super().shutdown()

    def server_close(self) -> None:
        """Stop serving and release everything; see TCPServer.server_close. Raises InvalidState in a child process."""
        self._refuse_in_child()
        super().server_close()

    def _refuse_in_child(self) -> None:
        if self._is_child:
            raise InvalidState("a child process cannot stop the server: send SIGTERM to its parent, os.getppid()")

    def close_request(self, request: Any) -> None:
        """Close this process's copy of the connection; in the parent, the new child keeps the slot."""
        self._silent.discard(request)
        for pid in set(self.active_children or ()) - self._children.keys():
            slot = self._slots.pop(request)
            slot.pid = pid
            self._children[pid] = slot
        super().close_request(request)

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap the children that have ended, and release their slots."""
        with self._admission.lock:
            super().collect_children(blocking=blocking)
            for pid in self._children.keys() - set(self.active_children or ()):
                self._children.pop(pid).release()
        self._admission.shed_children()

    def _join(self, deadline: float, slots: Iterable[Slot]) -> None:
        """Wait until the children that serve these slots have ended, or until the deadline."""
        awaited = set(slots)
        self.collect_children()
        while awaited.intersection((*self._children.values(), *self._silent.slots)) and monotonic() < deadline:
            with self._admission.lock:
                self._admission.changed.wait(_REAP_WAIT)
            self._attend_silent()
            self.collect_children()

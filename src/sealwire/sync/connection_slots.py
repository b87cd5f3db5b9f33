"""Accepts connections, each into a slot, and serves each to its end.

The accepting loop never waits for a client: the TLS handshake is done by the thread or child process that serves the
connection. Otherwise a silent client would stop the server.
"""

from __future__ import annotations

import errno
import socketserver
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sealwire.admission import Admission
from sealwire.descriptors import Reserve
from sealwire.errors import SealwireError
from sealwire.failures import report_connection_error, report_termination, report_unserved
from sealwire.listeners import OUT_OF_RESOURCES
from sealwire.middleware.serving import Served
from sealwire.proxy_header_reader import expected_header
from sealwire.security import Security
from sealwire.server_events import Source
from sealwire.session.begin import reject_code
from sealwire.slot import Slot
from sealwire.sync.accepting import accept, receive_header
from sealwire.sync.read_ahead import ReadAhead

_SLOT_WAIT: Final = 0.05
"""Seconds for which the accepting loop waits for a slot before it does its other work."""


class ConnectionSlots(socketserver.TCPServer):
    """The connections of a server. The base of TCPServer, which makes what is declared here."""

    security: Security
    served: Served
    on_request: Callable[[], None] | None
    _admission: Admission
    _draining: bool
    _drain_reader: Any
    _in_parts: bool
    _read_ahead: ReadAhead
    _reserve: Reserve
    _slots: dict[Any, Slot]

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection and acquire its slot. Raises OSError, which socketserver's loop ignores."""
        if not self._admission.wait_for_room(_SLOT_WAIT):
            raise BlockingIOError(errno.EAGAIN, "no slot free")
        try:
            request, client_address = super().get_request()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                with self._admission.lock:
                    if not self._reserve.make_room(error):
                        # The connection stays in the queue, so the loop would spin without a pause.
                        self._admission.changed.wait(_SLOT_WAIT)
            raise
        header = expected_header(self.security, client_address)
        slot = self._admission.acquire(request, self.on_request, client_address, header)
        if slot.evicted:
            slot.turned_away()
            request.close()
            slot.release()
            raise BlockingIOError(errno.EAGAIN, "its address has too many connections")
        self._slots[request] = slot
        return request, client_address

    def _handle_request_noblock(self) -> None:
        try:
            super()._handle_request_noblock()  # type: ignore[misc]  # socketserver's, which typeshed leaves out
        except BaseException:  # of a signal handler, perhaps before anything knew the connection
            self._admission.release_unserved(self._is_served)
            self._slots = {request: slot for request, slot in self._slots.items() if self._is_served(slot)}
            raise

    def _is_served(self, slot: Slot) -> bool:
        """Return True if a connection goes on beside the thread that accepts."""
        return slot.pid is not None or (slot.thread is not None and slot.thread.ident is not None)

    def close_request(self, request: Any) -> None:
        """Close a connection's socket and release its slot."""
        slot = self._slots.get(request)
        if slot is not None:
            slot.track_socket(None)
        super().close_request(request)
        if slot is not None:
            slot.release()
        self._slots.pop(request, None)  # last: socketserver calls this again if a signal handler's exception ends it

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        slot = self._slots[request]
        try:
            deadline = slot.since + self.security.limits.handshake_timeout
            client_address = receive_header(request, slot, client_address, deadline)
            channel = accept(
                request,
                self.security,
                slot=slot,
                drain_fd=self._drain_reader.fileno(),
                busy=partial(self._busy, slot),
                read_ahead=self._read_ahead,
                in_parts=self._in_parts,
            )
        except SealwireError as error:
            self._refused(slot, error)
            return
        with channel:
            try:
                handler: Callable[..., Any] = self.served.under(channel.security)
                handler(channel, client_address, self)
            except (Exception, GeneratorExit, SystemExit) as error:
                report_connection_error(channel, error)
            report_termination(channel.session)

    def _refused(self, slot: Slot, error: SealwireError) -> None:
        """Report why a client was not served."""
        counted = slot.is_counted or (slot.evicted and self._draining)  # there may be hundreds
        slot.events.refused(slot.known, error, evicted=slot.evicted, counted=counted)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error outside of any handler: a bug of this package, or no more threads."""
        error = sys.exc_info()[1]
        assert error is not None  # socketserver calls this in an except clause
        slot = self._slots.get(request)
        source = Source(client_address, None if slot is None else slot.peer)
        report_unserved(self._admission.events, source, error)

    def _busy(self, slot: Slot | None = None) -> int | None:
        return reject_code(draining=self._draining, full=self._admission.overloaded(slot))

"""Servers on socketserver: its API, with TLS, keys and bounds underneath.

The TLS handshake is the worker's, never the accepting loop's: one silent client would stop the server. For the same
reason the loop never waits on a connection.
"""

from __future__ import annotations

import errno
import logging
import math
import select
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from sealwire.admission import GRACE, Admission, Place
from sealwire.channel import accept
from sealwire.errors import ConfigurationError, InvalidState, SealwireError
from sealwire.handler import handler_class, log_lapse, log_refusal, place_of, report_end
from sealwire.listening import BACKLOG, address_text, cannot_listen, family_of, is_local
from sealwire.security import Security
from sealwire.wire.frames import RejectCode
from sealwire.worker import Recycling, flush_output, signals_held, take_signals

logger = logging.getLogger("sealwire.server")

_ROOM_WAIT = 0.05
"""Seconds for which the accepting loop waits for a place before it looks at its other duties."""
_REAP_WAIT = 0.01
"""Seconds between two looks for children that have ended: nothing wakes whoever waits for several of them."""
_TURN = 0.05
"""Seconds between two looks for new connections while those in hand are waited for."""
_TERMINATION = 1.0
"""Seconds for those whose connections were ended under them."""


class TCPServer(socketserver.TCPServer):
    """Serves one connection at a time; socketserver.TCPServer's API.

    server_address: host and port; port 0 picks a free one (see the attribute of that name). RequestHandlerClass: a
    class derived from RequestHandler, or a function from message to reply. security: a Security with ``peers``.
    listener: a socket that listens already, instead of server_address; it is closed with the server.

    ``shutdown`` and the end of ``serve_forever`` let the requests in hand finish, at most for Limits.drain_timeout
    seconds, and tell the clients that the server is going away. Raises ConfigurationError.
    """

    allow_reuse_address = True
    request_queue_size = BACKLOG

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        bind_and_activate: bool = True,
        *,
        listener: socket.socket | None = None,
    ) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError("a server needs a Security; see Security.from_files and Security.from_toml")
        security.check_server(local=is_local(listener) or self.address_family == socket.AF_UNIX)
        self.recycling: Recycling | None = None
        self.turns_away = True
        """Whether clients that come while it drains are told so; if not, they are left to others that listen, and those
        that are connecting can ask once before they are told."""
        self.security = security
        self._admission = Admission(security.limits)
        self._places: dict[Any, Place] = {}
        # Never read from: once the server is going away, everybody who polls it sees that, forked children as well.
        self._leaving, self._leave = socket.socketpair()
        self._leave.setblocking(False)
        self._going = False
        self._starved = False
        self._drained = threading.Event()
        self._drained.set()
        try:
            if listener is not None:
                # Not socketserver.TCPServer's, which makes a socket: who is handed one may not be allowed to.
                socketserver.BaseServer.__init__(self, listener.getsockname(), handler_class(RequestHandlerClass))
                self.socket, self.address_family = listener, listener.family
            else:
                self._prepare(server_address)
                super().__init__(server_address, handler_class(RequestHandlerClass), bind_and_activate)
        except BaseException:
            self._leaving.close()
            self._leave.close()
            raise

    def _prepare(self, server_address: Any) -> None:
        self.address_family = family_of(server_address)

    def server_bind(self) -> None:
        """Bind. Raises TransportError, naming the address."""
        try:
            super().server_bind()
        except OSError as error:
            raise cannot_listen(address_text(self.server_address), error) from None

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until shutdown or an exception, then drain."""
        self._drained.clear()
        try:
            self._stay()
            super().serve_forever(poll_interval)
        finally:
            try:
                self._drain(listening=True)
            finally:
                self._drained.set()

    def reload(self) -> bool:
        """Look at the files of certificates and keys now, rather than within Limits.reload_interval.

        Whether what they hold is in service; if not, what was goes on, and the log and ``security.status()`` say why.
        """
        return self.security.reload()

    def handle_request(self) -> None:
        """Accept one connection, serve it to its end, return; ``timeout`` bounds the wait for it, as in socketserver.

        That is so for every kind of server: for many at once there is serve_forever.
        """
        self._stay()
        super().handle_request()
        self._join(math.inf, self._admission.places())

    def shutdown(self) -> None:
        """Stop serve_forever, from another thread; returns when it has drained.

        Clients that are connected and idle are told, and waited for at most two seconds: until their end of the
        connection, which a client that does nothing just then cannot bring about.

        Called by a handler it does not wait for that, since the handler's own request is among those in hand.
        """
        if self.turns_away:
            self._go()
        super().shutdown()
        if threading.current_thread() not in [place.thread for place in self._admission.places()]:
            self._drained.wait()

    def server_close(self) -> None:
        """Stop listening, drain, and release everything."""
        super().server_close()
        self._drain()
        self._leaving.close()
        self._leave.close()

    def get_request(self) -> tuple[Any, Any]:
        if not self._admission.room(_ROOM_WAIT):
            # socketserver takes an OSError here as: nothing to accept, look again.
            raise BlockingIOError(errno.EAGAIN, "no place free")
        try:
            request, client_address = super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                if not self._starved:
                    logger.error("cannot accept: %s; raise the descriptor limit or lower Limits", error.strerror)
                self._starved = True
                self._admission.drop_oldest()
                # The connection stays in the queue, so without a pause the loop would spin.
                with self._admission.changed:
                    self._admission.changed.wait(_ROOM_WAIT)
            raise
        self._starved = False
        self._places[request] = place = self._admission.enter(request)
        place.recycling = self.recycling
        return request, client_address

    def close_request(self, request: Any) -> None:
        place = self._places.pop(request, None)
        if place is not None:
            place.hold(None)
        super().close_request(request)
        if place is not None:
            place.leave()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        place = self._places[request]
        try:
            channel = accept(request, self.security, lease=place, leaving=self._leaving.fileno(), busy=self._busy)
        except SealwireError as error:
            log_refusal(client_address, place.peer, error, dropped=place.dropped)
            return
        with channel:
            try:
                self.RequestHandlerClass(channel, client_address, self)  # type: ignore[arg-type]  # typeshed's Self
                if channel.lapse is not None:
                    log_lapse(client_address, channel.peer, channel.lapse)
            except (Exception, GeneratorExit, SystemExit) as error:
                report_end(channel, client_address, error)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """Called by socketserver for an error outside of any handler: a bug of ours, or no more threads."""
        error = sys.exc_info()[1]
        assert error is not None  # noqa: S101 - socketserver calls this in an except clause
        logger.error("%s: not served: %s", address_text(client_address), place_of(error))
        logger.debug("not served", exc_info=error)

    def _busy(self) -> int | None:
        if self._going:
            return RejectCode.SHUTTING_DOWN
        return RejectCode.OVERLOADED if self._admission.overloaded() else None

    def _stay(self) -> None:
        if self._going:
            self._leaving.recv(1)
            self._going = False

    def _go(self) -> None:
        if not self._going:
            self._going = True
            self._leave.send(b"x")

    def _drain(self, *, listening: bool = False) -> None:
        if self._leave.fileno() < 0:
            return
        limits = self.security.limits
        deadline = monotonic() + limits.drain_timeout
        if not (self.turns_away or self._going):
            self._admission.settle(min(limits.handshake_timeout, limits.drain_timeout / 2))
        self._go()
        start = monotonic()
        awaited = set(self._admission.places())
        pending = set(self._admission.pending())
        while awaited.intersection(self._admission.places()) and monotonic() < deadline:
            if pending and monotonic() >= min(deadline, start + GRACE):
                # Those that have proved nothing have nothing in hand that would be lost.
                self._admission.drop(pending.intersection(self._admission.pending()))
                pending.clear()
            self._join(min(deadline, monotonic() + _TURN), awaited)
            if listening and self.turns_away:
                self._turn_away()
        self._join(min(deadline, monotonic() + GRACE), self._admission.places())
        if self._admission.places():
            self._admission.drop(self._admission.places())
            self._join(monotonic() + _TERMINATION, self._admission.places())

    def _turn_away(self) -> None:
        """Accept who waits, to be told by REJECT 5 at once rather than to hang until the server has drained."""
        waiting = select.poll()
        waiting.register(self, select.POLLIN)
        for _ in range(self.request_queue_size):
            if not waiting.poll(0):
                return
            self._handle_request_noblock()  # type: ignore[attr-defined]  # socketserver's, and not in typeshed

    def _join(self, deadline: float, places: Iterable[Place]) -> None:
        """Wait until nobody serves those places any more."""
        for place in places:
            place.join(deadline)


class Threading(socketserver.ThreadingMixIn):
    """Serves each connection in a thread of its own; for a class derived from TCPServer as well."""

    _places: dict[Any, Place]
    # Drained with a bound instead, which a handler that never returns cannot pass.
    daemon_threads = True
    block_on_close = False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"sealwire {address_text(client_address)}",
            daemon=self.daemon_threads,
        )
        self._places[request].thread = thread
        thread.start()


class ThreadingTCPServer(Threading, TCPServer):
    """Serves each connection in a thread of its own; at most Limits.max_threads of them."""


class Forking(socketserver.ForkingMixIn):
    """Serves each connection in a child process; for a class derived from TCPServer as well."""

    block_on_close = False
    security: Security
    socket: socket.socket
    _places: dict[Any, Place]
    _admission: Admission
    _leave: Any
    _is_child = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._children: dict[int, Place] = {}
        super().__init__(*arguments, **options)
        # At this number socketserver's loop would wait for a child, so it is never reached.
        self.max_children = self.security.limits.max_threads + 1

    def process_request(self, request: Any, client_address: Any) -> None:
        """Fork the child."""
        # Here, for what a child has loaded goes with it, and the next one would begin with what we started with.
        self.security.refresh()
        flush_output()
        # The lock, so that no other thread has it, who in the child would never give it back.
        with self._admission.changed, signals_held() as self._blocked:
            super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the child: serve one connection to its end."""
        take_signals(self._blocked)
        self._is_child = True
        self.socket.close()
        # The parent's alone: with it, everybody who polls the other end sees that the server is gone.
        self._leave.close()
        try:
            super().finish_request(request, client_address)  # type: ignore[misc]  # TCPServer's
        finally:
            flush_output()

    def shutdown(self) -> None:
        """As TCPServer's, in the parent. Raises InvalidState in a child, whose copy of the server has no loop."""
        if self._is_child:
            raise InvalidState("a child process cannot stop the server: send SIGTERM to its parent, os.getppid()")
        super().shutdown()  # type: ignore[misc]  # TCPServer's

    def close_request(self, request: Any) -> None:
        for pid in set(self.active_children or ()) - self._children.keys():
            # We are the parent, and the child that was just born has the connection: it keeps its place.
            place = self._places.pop(request)
            place.pid = pid
            self._children[pid] = place
        super().close_request(request)  # type: ignore[misc]  # TCPServer's

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap the children that have ended."""
        with self._admission.changed:
            super().collect_children(blocking=blocking)
            for pid in self._children.keys() - set(self.active_children or ()):
                self._children.pop(pid).leave()

    def _join(self, deadline: float, places: Iterable[Place]) -> None:
        awaited = set(places)
        self.collect_children()
        while awaited.intersection(self._children.values()) and monotonic() < deadline:
            with self._admission.changed:
                self._admission.changed.wait(_REAP_WAIT)
            self.collect_children()


class ForkingTCPServer(Forking, TCPServer):
    """Serves each connection in a child process; at most Limits.max_threads of them."""


def serve(
    function: Callable[[Any], Any] | type,
    host: str,
    port: int,
    security: Security,
    *,
    server_class: type[TCPServer] = ThreadingTCPServer,
) -> None:
    """Answer every message with ``function(message)``, until ^C. Raises ConfigurationError, TransportError."""
    with server_class((host, port), function, security) as server, suppress(KeyboardInterrupt):
        server.serve_forever()

"""Servers on UDP, with socketserver's API: a handler object for each datagram, as there."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from sealwire.channel.requests import Requests
from sealwire.dtls.association import ServerAssociation
from sealwire.dtls.endpoint import Endpoint
from sealwire.dtls.records import MOST
from sealwire.errors import ConfigurationError, SealwireError
from sealwire.handler import handler_class, place_of, report_end
from sealwire.listening import address_text, cannot_listen, family_of
from sealwire.security import Security
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode, Payload

logger = logging.getLogger("sealwire.server")

_AT_ONCE: Final = 64
"""Datagrams that are taken before there is a look at other duties."""
_TURN: Final = 0.01
_TERMINATION: Final = 1.0


class _OneRequest(Requests):
    """What a handler is given as ``self.request``: one request, then the end."""

    def __init__(self, server: UDPServer, association: ServerAssociation, request: Request, deadline: float | None):
        self._server = server
        self._association = association
        self._request: Request | None = request
        self._unanswered: int | None = request.sequence
        self.peer = association.peer
        self.key_id = association.key_id
        self.deadline = deadline

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._association.ended

    @property
    def oldest_unanswered(self) -> int | None:
        """The request, until it is answered."""
        return self._unanswered

    def next_request(self) -> Request | None:
        """The request; then None."""
        request, self._request = self._request, None
        if request is not None and self.deadline is not None and monotonic() >= self.deadline:
            self.send_fault(request.sequence, FaultCode.DEADLINE_EXCEEDED)
            return None
        return request

    def send_reply(self, request: int, payload: Payload) -> None:
        """Answer it. Raises PayloadTooLarge."""
        self._unanswered = None
        with self._server.lock:
            self._server.endpoint.send_reply(self._association, request, payload)

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer it with FAULT."""
        self._unanswered = None
        with self._server.lock:
            self._server.endpoint.send_fault(self._association, request, code, text)


class UDPServer:
    """Answers one datagram after the other; socketserver.UDPServer's API.

    server_address, RequestHandlerClass, security: as for TCPServer. A message takes at most 1,132 bytes as it is
    encoded. ``handle()`` gets one message and no more: there is an object for each datagram.

    Raises ConfigurationError, TransportError.
    """

    def __init__(
        self,
        server_address: tuple[str, int],
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
    ) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError("a server needs a Security; see Security.from_files and Security.from_toml")
        security.check_server()
        self.security = security
        self.RequestHandlerClass = handler_class(RequestHandlerClass)
        self.lock = threading.RLock()
        """Held by whoever uses the endpoint."""
        self.endpoint = Endpoint(security, send=self._send, handle=self._take)
        self._waiting: list[tuple[ServerAssociation, Request, float | None]] = []
        self._answered = 0
        self._leaving = False
        self._drained = threading.Event()
        self._drained.set()
        self.socket = socket.socket(family_of(server_address), socket.SOCK_DGRAM)
        try:
            try:
                self.socket.bind(server_address)
            except OSError as error:
                raise cannot_listen(address_text(server_address), error) from None
            self.socket.setblocking(False)
            self.server_address: Any = self.socket.getsockname()
            self._called, self._call = socket.socketpair()
            self._call.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until shutdown or an exception, then drain. poll_interval: the most seconds between two looks at other
        duties."""
        self._drained.clear()
        try:
            self.endpoint.stay()
            while not self._leaving:
                self._serve(poll_interval)
        finally:
            try:
                self._drain()
            finally:
                self._leaving = False
                self._drained.set()

    def handle_request(self) -> None:
        """Serve until one request was answered."""
        self.endpoint.stay()
        before = self._answered
        while self._answered == before:
            self._serve(_TURN)

    def shutdown(self) -> None:
        """Stop serve_forever, from another thread; returns when it has drained.

        Called by a handler in a thread of its own it does not wait for that, since the handler's own request is among
        those in hand.
        """
        self._leaving = True
        with suppress(OSError):
            self._call.send(b"x")
        if not self._is_handlers(threading.current_thread()):
            self._drained.wait()

    def reload(self) -> bool:
        """Look at the files of certificates and keys now; see TCPServer.reload."""
        return self.security.reload()

    def server_close(self) -> None:
        """Tell all peers, and release everything."""
        if self.socket.fileno() < 0:
            return
        with self.lock:
            self.endpoint.close()
        self._end_threads()
        for each in (self.socket, self._called, self._call):
            each.close()

    def _serve(self, most: float) -> None:
        with self.lock:
            pause = min(most, self.endpoint.pause)
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        waiting.register(self._called, select.POLLIN)
        for descriptor, _ in waiting.poll(pause * 1000):
            if descriptor == self.socket.fileno():
                self._receive()
            else:
                self._called.recv(100)
        with self.lock:
            self.endpoint.handle_timeouts()
        waiting_requests, self._waiting = self._waiting, []
        for request in waiting_requests:
            self._answer(*request)

    def _receive(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                datagram, address = self.socket.recvfrom(MOST)
            except OSError:  # nothing more, or what ICMP says of somebody who has gone
                return
            with self.lock:
                self.endpoint.datagram_received(datagram, address)

    def _send(self, datagram: bytes, address: Any) -> None:
        with suppress(OSError):  # as if it were lost on the way
            self.socket.sendto(datagram, address)

    def _take(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        """A request is in hand; the lock is held."""
        self._waiting.append((association, request, deadline))

    def _answer(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        channel = _OneRequest(self, association, request, deadline)
        handler: Callable[..., Any] = self.RequestHandlerClass
        try:
            handler(channel, association.address, self)
        except (Exception, GeneratorExit, SystemExit) as error:
            with suppress(SealwireError):
                report_end(channel, association.address, error)
        finally:
            with self.lock:
                if channel.oldest_unanswered is not None:
                    channel.send_fault(request.sequence, FaultCode.HANDLER_FAILED, "the handler has given no reply")
                self._answered += 1
                self.endpoint.release(association)

    def _drain(self) -> None:
        deadline = monotonic() + self.security.limits.drain_timeout
        with self.lock:
            self.endpoint.leave()
        for request in self._waiting:
            self._answer(*request)
        self._waiting = []
        while self.endpoint.in_hand and monotonic() < deadline:
            self._serve(_TURN)
        with self.lock:
            self.endpoint.close()

    def _is_handlers(self, thread: threading.Thread) -> bool:  # noqa: ARG002 - there are none here
        return False

    def _end_threads(self) -> None:
        """There are none."""


class ThreadingUDPServer(UDPServer):
    """Answers datagrams in threads: up to ``workers`` at a time, and Limits.max_in_flight of one peer."""

    def __init__(
        self,
        server_address: tuple[str, int],
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        *,
        workers: int = 32,
    ) -> None:
        if type(workers) is not int or not 1 <= workers <= 1024:
            raise ConfigurationError("workers must be a whole number of threads from 1 to 1024")
        self._most = workers
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[tuple[ServerAssociation, Request, float | None] | None] = SimpleQueue()
        super().__init__(server_address, RequestHandlerClass, security)

    def _take(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        self._jobs.put((association, request, deadline))
        if self.endpoint.in_hand > len(self._threads) < self._most:
            name = f"sealwire udp {len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # no more threads: those that there are will do, or a later request finds one
                self._threads.remove(thread)
                logger.error("no thread could be started for more requests; lower `workers`")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._answer(*job)
            except BaseException as error:
                logger.error("a datagram was not answered: %s", place_of(error))
            del job

    def _is_handlers(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def _end_threads(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        deadline = monotonic() + _TERMINATION
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        stuck = sum(thread.is_alive() for thread in self._threads)
        if stuck:
            logger.error("%d handlers have not returned, and are left behind in their threads", stuck)
        self._threads.clear()

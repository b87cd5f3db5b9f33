"""A small HTTP server for probes and scrapes: http.server of the standard library, with bounds.

It answers GET and HEAD of a few paths, and reads nothing but a request line and a few headers. http.server is as well
kept as Python, and what it lacks against hostile clients is added here: few connections, of which the oldest gives way
to a new one, a time for each as a whole, and few bytes. It runs in a thread of its own, which closes everything when it
ends.
"""

from __future__ import annotations

import io
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any, Final, NamedTuple

from sealwire.fork import leave_in_children
from sealwire.listeners import is_unix
from sealwire.wire.frames import escaped

logger = logging.getLogger("sealwire.admin")

MAX_CONNECTIONS: Final = 8
"""Connections at a time; above it the oldest is ended."""
MAX_SECONDS: Final = 5.0
"""Seconds for a connection as a whole."""
MAX_BYTES: Final = 8192
"""Bytes of a request line and its headers."""
_POLL: Final = 0.25
"""Seconds between two looks for connections that are over their time."""
_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]", "::1")


class Answer(NamedTuple):
    """The answer to a GET.

    Attributes:
        body: Its content.
        kind: Content-Type.
        status: The status code.
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Answer]]


class HTTPServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves pages on a listening socket, in a thread, until :meth:`close`.

    Args:
        listener: The listening socket. The server closes it.
        pages: Functions for the content by path.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, pages: Pages) -> None:
        socketserver.BaseServer.__init__(self, listener.getsockname(), _Handler)
        self.socket, self.address_family = listener, listener.family
        self.pages = pages
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, float] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=[_POLL], name="sealwire admin", daemon=True)
        leave_in_children(self)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and close all connections. Without effect when called again."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        self._end(list(self._connections))

    def leave_to_parent(self) -> None:
        """Close this process's copies of the sockets, in a forked child, without sending anything."""
        self._lock = threading.Lock()
        for sock in (self.socket, *self._connections):
            sock.close()
        self._connections = {}

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; end the oldest if there are too many."""
        sock, address = super().get_request()
        if len(self._connections) >= 4 * MAX_CONNECTIONS:  # their pages take long, as a slow disk may cause
            sock.close()
            raise OSError("too many connections")
        with self._lock:
            oldest = list(self._connections)[: len(self._connections) + 1 - MAX_CONNECTIONS]
            self._connections[sock] = monotonic() + MAX_SECONDS
        self._end(oldest)
        return sock, address

    def service_actions(self) -> None:
        """End the connections that are over their time."""
        now = monotonic()
        with self._lock:
            late = [sock for sock, deadline in self._connections.items() if now >= deadline]
        self._end(late)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log the failure of a page, but not of a connection."""
        logger.debug("an answer failed", exc_info=True)

    def _end(self, connections: list[socket.socket]) -> None:
        """End connections from outside; their threads close them."""
        for sock in connections:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Head(io.RawIOBase):
    """The first bytes of a connection, and no more than MAX_BYTES of them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left = MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        count = self._sock.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    server: HTTPServer
    protocol_version = "HTTP/1.0"  # so that a connection has one request
    timeout = MAX_SECONDS

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Head(self.connection))

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _refuse_method(self) -> None:
        self._send(Answer(b"this endpoint answers GET and HEAD\n", status=HTTPStatus.METHOD_NOT_ALLOWED))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method

    def _answer(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self._send(Answer(b"a request has no body here\n", status=HTTPStatus.BAD_REQUEST))
            return
        host = self.headers.get("Host", "localhost").lower()
        name = host[: host.rindex(":")] if host.rpartition(":")[2].isdecimal() and ":" in host else host
        if name not in _HOSTS and not is_unix(self.server.socket):
            # A page in a browser on this machine could have its own name lead here (DNS rebinding).
            text = b"this endpoint is asked by its address, 127.0.0.1, [::1] or localhost\n"
            self._send(Answer(text, status=HTTPStatus.MISDIRECTED_REQUEST))
            return
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            there = ", ".join(self.server.pages)
            self._send(Answer(f"there is nothing here; ask for {there}\n".encode(), status=HTTPStatus.NOT_FOUND))
            return
        self._send(page())

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        """Return the Server header, without versions."""
        return "sealwire"

    def log_message(self, form: str, *args: Any) -> None:
        """Log a request at level DEBUG."""
        logger.debug("%s", escaped(form % args)[:200])

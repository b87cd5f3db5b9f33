"""The server's side; actions.py says how a script makes it misbehave."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from reference import protocol as p
from reference.actions import Action
from reference.client import leaf_der
from reference.connection import Connection, Handler, Received
from reference.features import Features
from reference.protocol import Violation
from reference.transport import Adjust, End, shared_context, tls_context


class RefServer:
    """Listens on 127.0.0.1 at a free ``port`` until ``close()``, or to the end of a with block.

    ``keys``: key id to psk. ``names``: every server_name that is right. ``handler``: payload to payload or Fault; by
    default an echo. ``features``: those to take up; None is a server to which section 9 is unknown.
    ``client_certificate``: False asks for one, but goes on without. Leaving the with block raises
    the first Violation, if any; a test that provokes one takes it out of ``violations``.
    """

    def __init__(
        self,
        *,
        cert: str,
        key: str,
        ca: str,
        keys: Mapping[str, bytes],
        names: Iterable[str] = ("localhost",),
        codecs: Iterable[str] = ("raw", "pickle-5"),
        handler: Handler = lambda payload: payload,
        script: Sequence[Mapping[str | int, Action]] = (),
        max_frame: int = 2**20,
        features: Features | None = None,
        client_certificate: bool = True,
        timeout: float = 10.0,
        adjust: Adjust | None = None,
    ) -> None:
        self.adjust = adjust
        self._files = cert, key, ca
        self._verify = ssl.CERT_REQUIRED if client_certificate else ssl.CERT_OPTIONAL
        self.context()  # unreadable files are reported here, not in a thread
        self.der = leaf_der(cert)
        self.keys = {name.encode(): psk for name, psk in keys.items()}
        self.names, self.codecs = {name.encode() for name in names}, {codec.encode() for codec in codecs}
        self.handler, self.script, self.max_frame, self.timeout = handler, script, max_frame, timeout
        self.features = features
        self.received: list[Received] = []
        self.rejected: list[str] = []
        self.violations: list[Violation] = []
        self.errors: list[BaseException] = []
        self.ends: dict[int, End] = {}
        self.nonces: list[bytes] = []
        self.connections: list[Connection] = []
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="reference acceptor")]
        self._threads[0].start()

    def context(self) -> ssl.SSLContext:
        if self.adjust is None:
            return shared_context(True, *self._files, self._verify, False)
        context = tls_context(True, *self._files)
        context.verify_mode = self._verify
        self.adjust(context)
        return context

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # close() shut it down
            connection = Connection(self, sock, len(self.connections))
            thread = threading.Thread(target=self._serve, args=[connection], name="reference connection")
            self.note(self.connections, connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.run()
        except BaseException as error:
            self.note(self.errors, error)
        finally:
            connection.link.sock.close()

    def note(self, where: list[Any], what: Any) -> None:
        """Add to one of the records and wake the waiting threads."""
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    def note_end(self, index: int, end: End) -> None:
        with self._changed:
            self.ends[index] = end
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], Any], timeout: float | None = None) -> None:
        """Until what was recorded fulfils ``condition``. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, self.timeout if timeout is None else timeout):
                raise TimeoutError("the reference server did not see what was waited for")

    def wait_end(self, index: int = 0, timeout: float | None = None) -> End:
        """Return the end of that connection. Raises TimeoutError."""
        self.wait_for(lambda: index in self.ends, timeout)
        return self.ends[index]

    def payloads(self, kind: int = p.MESSAGE) -> list[bytes]:
        """Of every frame of a kind, over all connections, in order of arrival."""
        return [got.payload for got in self.received if got.kind == kind]

    def close(self) -> None:
        """Stop listening, cut what is open, and join every thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._threads[0].join(self.timeout)
        self._listener.close()
        deadline = time.monotonic() + self.timeout
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.link.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        if alive:
            raise TimeoutError(f"threads still running: {alive}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and (self.violations or self.errors):
            raise [*self.violations, *self.errors][0]

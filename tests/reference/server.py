"""The server's side; actions.py says how a script makes it misbehave."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from reference import protocol as p
from reference.actions import Action, answer, close, nothing, pong, welcome
from reference.client import leaf_der
from reference.protocol import Frame, Hello, Violation, demand
from reference.rules import FromClient, Rejected, agree, check_hello
from reference.transport import Adjust, End, Ended, Endpoint, shared_context, tls_context


@dataclass(frozen=True)
class Fault:
    """A handler returns this to have FAULT sent."""

    code: int
    text: str = ""


Handler = Callable[[bytes], "bytes | Fault"]


def is_address(host: str) -> bool:
    """Whether SNI must leave it out."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Connection(Endpoint):
    """One accepted connection, in its own thread. ``index`` counts from 0 in order of acceptance."""

    def __init__(self, server: RefServer, sock: socket.socket, index: int) -> None:
        super().__init__(sock, server.timeout)
        self.server, self.index = server, index
        self.script = server.script[index] if index < len(server.script) else {}
        self.hello: Hello | None = None
        self.sni: str | None = None
        self.handed = 0  # the highest MESSAGE handed over
        self.messages = 0
        self.gone = False  # an action ended TCP

    def _act(self, point: str | int, frame: Frame | None, default: Action) -> None:
        self.script.get(point, default)(self, frame)

    def run(self) -> None:
        """To the end of the connection; what was wrong is kept in ``server.violations``."""
        try:
            self._act("accept", None, nothing)
            if not self.gone:
                self.start_tls()
                self._act("tls", None, nothing)
            if not self.gone:
                self._handshake()
            while not (self.ended or self.gone):
                self._one()
        except Ended:
            pass
        except Violation as violation:
            self._violated(violation)
        except (ssl.SSLError, TimeoutError, OSError) as error:
            self.link.end.alert = self.link.end.alert or f"{type(error).__name__}: {error}"
        end = self.link.end
        if not self.gone:
            try:
                with contextlib.suppress(OSError):
                    end = self.expect_end()
            except Violation as violation:
                self.server.note(self.server.violations, violation)
        self.link.sock.close()
        self.server.note_end(self.index, end)

    def _violated(self, violation: Violation) -> None:
        self.server.note(self.server.violations, violation)
        self.discard = True
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.incoming is None:
                self.link.close_notify()
            elif not self.ended:
                self.send_close(4)

    def start_tls(self) -> None:
        context = self.server.context()
        context.sni_callback = self._took_sni
        self.link.start_tls(context, True, None, check=self.server.adjust is None)

    def _took_sni(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.sni = name

    def _handshake(self) -> None:
        got = self.read_unverified()
        self.took(got)
        server = self.server
        try:
            self.hello = check_hello(
                got,
                keys=server.keys,
                server_der=server.der,
                client_der=self.link.peer_der(),
                server_names=server.names,
                codecs=server.codecs,
            )
        except Rejected as rejected:
            server.note(server.rejected, str(rejected))
            self.reject(rejected.code)
            return
        host = self.hello.server_name.decode().partition("/")[0]
        expected = None if is_address(host) else host
        demand(not host or self.sni == expected, "3", f"SNI is {self.sni!r} for the host {host!r}")
        demand(not self.hello.extensions, "2", "version 1 sends no extensions")
        demand(self.hello.nonce not in server.nonces, "3", "a client's nonce came twice")
        server.note(server.nonces, self.hello.nonce)
        self._act("hello", got, welcome())
        if self.incoming is not None and not (self.ended or self.gone):
            self._act("welcomed", got, nothing)

    def _one(self) -> None:
        got = self.read_frame()
        self.took(got)
        if got.kind == p.PING:
            self._act("ping", got, pong())
        elif got.kind == p.CLOSE:
            self.link.end.frames.append(got)
            self._act("close", got, close(0))
        elif got.kind == p.MESSAGE:
            self.messages += 1
            point = self.messages if self.messages in self.script else "message"
            self._act(point, got, answer())

    def took(self, frame: Frame) -> None:
        got = Received(self.index, frame.kind, frame.sequence, frame.payload, frame.wait)
        self.server.note(self.server.received, got)

    # What actions are made of

    def welcome(self, got: Frame, *, tag_key: bytes | None = None, **fields: Any) -> None:
        """WELCOME with any field replaced; the keys follow from what is sent."""
        assert self.hello is not None
        mine: dict[str, Any] = {"nonce": os.urandom(32), "max_frame": self.server.max_frame, "codec": self.hello.codec}
        untagged = p.untagged(p.WELCOME, p.welcome_payload(**(mine | fields)))
        bound = p.binding(self.server.der, self.link.peer_der())
        k_c2s, self.key_out = agree(self.server.keys[self.hello.key_id], bound, got.raw, untagged)
        self.send_raw(untagged + p.tag(untagged, tag_key or self.key_out))
        self.next_sequence, self.peer_max_frame = 1, self.hello.max_frame
        self.incoming = FromClient(k_c2s, self.server.max_frame)

    def hand_over(self, frame: Frame) -> tuple[int, bytes]:
        """Run the handler: the kind and the payload of what answers."""
        self.handed = max(self.handed, frame.sequence)
        result = self.server.handler(frame.payload)
        if not isinstance(result, Fault) and len(result) > self.peer_max_frame - p.OVERHEAD:
            result = Fault(18, "reply too large")
        if isinstance(result, Fault):
            return p.FAULT, p.fault_payload(result.code, result.text)
        return p.MESSAGE, result

    def answered(self, sequence: int) -> None:
        """The request is not unanswered any more."""
        if self.incoming is not None:
            self.incoming.unanswered.pop(sequence, None)

    def reject(self, code: int) -> None:
        self.send_raw(p.frame(p.REJECT, p.u(code, 2), 0, 0, None))
        self.ended = True
        self.link.close_notify()

    def drop(self, how: str) -> None:
        if how == "notify":
            self.link.close_notify()
        self.link.abort(reset=how == "reset")
        self.gone = True

    def highest(self) -> int:
        return self.handed


@dataclass(frozen=True)
class Received:
    """A frame that came, HELLO included; ``connection`` counts from 0."""

    connection: int
    kind: int
    sequence: int
    payload: bytes
    wait: int


class RefServer:
    """Listens on 127.0.0.1 at a free ``port`` until ``close()``, or to the end of a with block.

    ``keys``: key id to psk. ``names``: every server_name that is right. ``handler``: payload to payload or Fault; by
    default an echo. ``client_certificate``: False asks for one, but goes on without. Leaving the with block raises
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
        """Add to one of the records and wake those who wait."""
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
        """How that connection ended. Raises TimeoutError."""
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

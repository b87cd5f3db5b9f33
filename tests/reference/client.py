"""The client's side, plain and blocking, with means to misbehave at each point."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from reference import protocol as p
from reference.features import NONE, Features, Terms, metadata
from reference.protocol import Frame, demand
from reference.rules import FromServer, Rejected, check_welcome
from reference.transport import Adjust, Endpoint, shared_context, tls_context

STAGES = ("tcp", "tls", "hello", "welcome")


def leaf_der(path: str | os.PathLike[str] | None) -> bytes | None:
    """The first certificate of a PEM file; None for None."""
    if path is None:
        return None
    return x509.load_pem_x509_certificates(Path(path).read_bytes())[0].public_bytes(Encoding.DER)


class Closed(Exception):
    """CLOSE came where a reply was awaited; ``frame`` has its code and last."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(f"CLOSE {frame.code}, last {frame.last}")
        self.frame = frame


def connected(host: str, port: int | None, timeout: float) -> socket.socket:
    """A connection to a port, or to the Unix socket at the path ``host``."""
    if port is not None:
        return socket.create_connection((host, port), timeout)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(host)
    return sock


class RefClient(Endpoint):
    """Connects on construction, as far as ``until`` says: "tcp", "tls", "hello" (sent, nothing read) or "welcome".

    ``port`` None connects to the Unix socket at the path ``host``. ``server_name`` goes into HELLO; its
    part before the "/" is also the host that TLS checks and SNI names, and no host is checked where that is empty.
    ``cert`` None connects without a client certificate. Later stages can be run by hand: start_tls, send_hello,
    read_welcome. ``features``: those to offer. Raises Violation, Rejected, ssl.SSLError, Ended, TimeoutError.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        ca: str,
        cert: str | None,
        key: str | None,
        psk: bytes,
        key_id: str = "client-1",
        server_name: str = "localhost",
        codec: str = "raw",
        max_frame: int = 2**20,
        features: Features = NONE,
        timeout: float = 10.0,
        until: str = "welcome",
        adjust: Adjust | None = None,
    ) -> None:
        super().__init__(connected(host, port, timeout), timeout)
        self.on_unix = port is None
        self.files = cert, key, ca
        self.adjust = adjust
        self.client_der = None if self.on_unix else leaf_der(cert)
        self.server_der: bytes | None = None
        self.psk, self.key_id, self.server_name = psk, key_id, server_name
        self.codec, self.max_frame, self.features = codec, max_frame, features
        self.hello_frame: bytes | None = None
        self.replies: dict[int, Frame] = {}
        self.parts: dict[int, list[bytes]] = {}
        self.identity = ""  # of the connection, in logs
        steps = (self.start_tls, self.send_hello, self.read_welcome)
        try:
            for step in steps[: STAGES.index(until)]:
                step()
        except BaseException:
            self.link.sock.close()
            raise

    def start_tls(self) -> None:
        """Section 1; the host of ``server_name`` is checked, if any. A Unix socket has no TLS."""
        if self.on_unix:
            return
        host = self.server_name.partition("/")[0]
        if self.adjust is None:
            context = shared_context(False, *self.files, ssl.CERT_REQUIRED, bool(host))
        else:
            context = tls_context(False, *self.files)
            self.adjust(context)
            context.check_hostname = bool(host)
        self.link.start_tls(context, False, host or None, check=self.adjust is None)
        self.server_der = self.link.peer_der()

    @property
    def bound(self) -> bytes:
        return p.binding(self.server_der, self.client_der)

    def hello_payload(self, **fields: Any) -> bytes:
        """This client's HELLO, any field replaced."""
        mine: dict[str, Any] = {
            "nonce": os.urandom(32),
            "max_frame": self.max_frame,
            "key_id": self.key_id.encode(),
            "codec": self.codec.encode(),
            "server_name": self.server_name.encode(),
            "extensions": self.features.extensions(),
        }
        return p.hello_payload(**(mine | fields))

    def send_hello(self, frame: bytes | None = None, **fields: Any) -> None:
        """HELLO, with any field replaced, or ``frame`` whole."""
        if frame is None:
            key = p.k_hello(self.psk, self.server_der, self.client_der)
            frame = p.frame(p.HELLO, self.hello_payload(**fields), 0, 0, key)
        self.hello_frame = frame
        self.send_raw(frame)
        self.next_sequence = 1

    def read_welcome(self) -> Frame:
        """WELCOME, checked. Raises Rejected where the server answered REJECT."""
        got = self.read_frame()
        if got.kind == p.REJECT:
            raise Rejected(got.code, "as the server answered")
        return got

    def read_frame(self, timeout: float | None = None) -> Frame:
        """The next frame, checked as the state demands; the first is WELCOME, from which the keys follow, or REJECT."""
        if self.incoming is not None:
            return super().read_frame(timeout)
        got = self.read_unverified(timeout)
        demand(self.hello_frame is not None, "3", "the server spoke before HELLO")
        assert self.hello_frame is not None
        with contextlib.suppress(Rejected):
            session = check_welcome(got, psk=self.psk, bound=self.bound, hello_frame=self.hello_frame)
            self.key_out, self.peer_max_frame = session.k_c2s, session.peer_max_frame
            self.identity = session.identity
            terms = Terms.between(self.features, session.features)
            self.incoming = FromServer(session.k_s2c, self.max_frame, terms=terms)
            self._check_no_ticket()
        return got

    def _check_no_ticket(self) -> None:
        if self.on_unix:
            return
        assert self.link.tls is not None
        session: ssl.SSLSession | None = self.link.tls.session
        demand(session is None or not session.has_ticket, "1", "the server sent a session ticket")

    def send_message(
        self, payload: bytes, wait: float | None = None, *, values: Mapping[str, str] | None = None, flags: int = 0
    ) -> int:
        """A request, with metadata unless ``values`` is None; ``wait`` in seconds. Returns its sequence."""
        if values is not None:
            payload, flags = metadata(values) + payload, flags | p.METADATA
        return self.send(p.MESSAGE, payload, wait=p.wait_field(wait), flags=flags)

    def upload(self, parts: Iterable[bytes], **options: Any) -> int:
        """A request in parts, each sent when there is credit, up to END. Returns its sequence."""
        sequence = self.send_message(b"", flags=p.UPLOAD | options.pop("flags", 0), **options)
        for part in parts:
            if not self.send_part(sequence, part):
                break
        self.end(sequence)
        return sequence

    def send_part(self, request: int, payload: bytes) -> bool:
        """Once there is credit, reading what comes until then. False where the answer has come before."""
        assert self.incoming is not None
        account = self.incoming.out[request]
        while account.credit <= 0 and request in self.incoming.unanswered:
            self.read_one()
        if request not in self.incoming.unanswered:
            return False
        self.send(p.PART, payload, reply_to=request)
        return True

    def end(self, request: int) -> None:
        """END of a request's parts."""
        self.send(p.END, reply_to=request)

    def cancel(self, request: int) -> None:
        """CANCEL; the answer is still to be received."""
        self.send(p.CANCEL, reply_to=request)

    def read_one(self, timeout: float | None = None) -> None:
        """Take a frame: a PART goes to ``parts`` and is granted again, an answer to ``replies``. Raises Closed."""
        got = self.read_frame(timeout)
        if got.kind == p.CLOSE:
            raise Closed(got)
        if got.kind == p.PART:
            self.parts.setdefault(got.reply_to, []).append(got.payload)
            self.grant(got)
        elif got.kind != p.CREDIT:
            self.replies[got.reply_to] = got

    def receive(self, sequence: int, timeout: float | None = None) -> Frame:
        """The answer to that request; others that come first are kept in ``replies``. Raises Closed."""
        while sequence not in self.replies:
            self.read_one(timeout)
        return self.replies.pop(sequence)

    def request(self, payload: bytes, wait: float | None = None) -> tuple[int, bytes, int]:
        """``(kind, payload, reply_to)`` of the MESSAGE or FAULT that answers."""
        got = self.receive(self.send_message(payload, wait))
        return got.kind, got.payload, got.reply_to

    def ping(self, payload: bytes = b"ping") -> None:
        """Raises Violation where the answer is not the right PONG."""
        self.receive(self.send(p.PING, payload))

    def highest(self) -> int:
        return self.incoming.expected - 1 if self.incoming else 0

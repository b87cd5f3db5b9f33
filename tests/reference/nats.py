"""A client's end of a session on NATS, written from docs/nats.md alone, with nothing of Sealwire's and of nats-py's.

``Bridge`` listens on TCP and carries what comes there over NATS, so that the reference client needs no change.
"""

from __future__ import annotations

import secrets
import select
import socket
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

DATA, OPEN, ACCEPT, PROBE, END, RESET = range(6)
WINDOW = 40_000


def message(kind: int, position: int, limit: int, data: bytes = b"") -> bytes:
    return bytes((1, kind)) + position.to_bytes(8, "big") + limit.to_bytes(8, "big") + data


class RawNATS:
    """A client of NATS on a blocking socket."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("nats://").partition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self._received = b""
        self._pongs = 0
        self.messages: deque[tuple[str, str, bytes]] = deque()
        """Subject, reply subject and payload; one with headers has the status for its payload."""
        self.sock.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        self.settle()

    def settle(self) -> None:
        """Return when the server has seen what was sent."""
        self.sock.sendall(b"PING\r\n")
        pongs = self._pongs
        while self._pongs == pongs:
            self._receive()

    def subscribe(self, subject: str, queue: str = "") -> None:
        self.sock.sendall(f"SUB {subject} {queue} 1\r\n".encode())
        self.settle()

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        self.sock.sendall(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def next(self) -> tuple[str, str, bytes]:
        """The next message. Raises TimeoutError."""
        while not self.messages:
            self._receive()
        return self.messages.popleft()

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._received += data
        while self._take_line():
            pass

    def _take_line(self) -> bool:
        """Process a line, with the payload after it; False if it is not complete."""
        line, end, rest = self._received.partition(b"\r\n")
        words = line.decode().split()
        if not end:
            return False
        if words[0] in ("MSG", "HMSG"):
            size = int(words[-1])
            if len(rest) < size + 2:
                return False
            payload, rest = rest[:size], rest[size + 2 :]
            if words[0] == "HMSG":
                payload = payload.partition(b"\r\n")[0]
            reply = words[3] if words[0] == "MSG" and len(words) == 5 else ""
            self.messages.append((words[1], reply, payload))
        elif words[0] == "PING":
            self.sock.sendall(b"PONG\r\n")
        self._pongs += words[0] == "PONG"
        self._received = rest
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()


class Session:
    """A client's end. ``worker``: its inbox, once it has accepted. ``received``: its bytes that were not taken yet.
    ``over``: END, RESET or a status, once one came."""

    def __init__(self, url: str, subject: str) -> None:
        self.nats = RawNATS(url)
        self.inbox = f"_INBOX.{secrets.token_hex(11)}.{secrets.token_hex(11)}"
        self.nats.subscribe(self.inbox)
        self._subject = subject
        self.sent = self.allowed = self.position = self._granted = 0
        self.worker = ""
        self.received = bytearray()
        self.over: int | bytes | None = None

    def open(self, data: bytes = b"") -> None:
        """Send OPEN, and take messages up to ACCEPT or the end."""
        self.publish(OPEN, data)
        while not self.worker and self.over is None:
            self.take()

    def send(self, data: bytes) -> None:
        """Send bytes as the worker makes room for them."""
        if not self.worker:
            self.open(data[:16_384])
            data = data[16_384:]
        while data and self.over is None:
            if self.allowed == self.sent:
                self.take()
                continue
            piece = data[: min(30_000, self.allowed - self.sent)]
            self.publish(DATA, piece)
            data = data[len(piece) :]

    def publish(self, kind: int, data: bytes = b"") -> None:
        self._granted = self.position + WINDOW
        reply = self.inbox if kind in (OPEN, PROBE) else ""
        self.nats.publish(self.worker or self._subject, message(kind, self.sent, self._granted, data), reply)
        self.sent += len(data)

    def take(self) -> int:
        """Take one message; its kind."""
        _, reply, payload = self.nats.next()
        if payload.startswith(b"NATS/1.0"):
            self.over = payload
            return -1
        version, kind = payload[:2]
        position, limit = int.from_bytes(payload[2:10], "big"), int.from_bytes(payload[10:18], "big")
        assert version == 1
        if kind != RESET:
            assert position == self.position
            assert limit >= self.allowed
            assert len(payload) == 18 or kind == DATA
            assert position + len(payload) - 18 <= self._granted
            self.allowed = limit
        self.position += len(payload) - 18
        self.received += payload[18:]
        if kind == ACCEPT:
            assert self.worker == ""
            self.worker = reply
        elif kind in (END, RESET):
            self.over = kind
        elif kind == PROBE or len(payload) > 18:
            self.publish(DATA)
        return kind


class Bridge:
    """Carries one connection of TCP over NATS. ``port``: of the loopback."""

    def __init__(self, url: str, subject: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._session = Session(url, subject)
        self._thread = threading.Thread(target=self._run, name="bridge")
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError), self._listener.accept()[0] as sock, self._session.nats:
            session, is_open = self._session, True
            while session.over is None:
                waiting = [sock, session.nats.sock] if is_open else [session.nats.sock]
                ready = [] if session.nats.messages else select.select(waiting, [], [], 10)[0]
                if sock in ready:
                    data = sock.recv(65536)
                    is_open = bool(data)
                    session.send(data)
                    if not data:
                        session.publish(END)
                if session.nats.messages or session.nats.sock in ready:
                    session.take()
                sock.sendall(session.received)
                session.received.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()

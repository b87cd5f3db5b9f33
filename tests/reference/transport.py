"""Blocking TLS 1.3 over TCP that tells exactly how a connection ended, and frames on top of it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from reference import protocol as p
from reference.protocol import Frame, demand
from reference.rules import Incoming, check_length

CHUNK = 65536


Adjust = Callable[[ssl.SSLContext], object]
"""Changes a TLS context, to misbehave; the result of TLS is then not checked on that side."""


def tls_context(server_side: bool, cert: str | None, key: str | None, ca: str) -> ssl.SSLContext:
    """TLS 1.3 only, ALPN, no tickets, certificates verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([p.ALPN])
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    # Without this CPython reports a cut stream just like close_notify.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if cert is not None:
        context.load_cert_chain(cert, key)
    if server_side:
        context.num_tickets = 0
    return context


def shared_context(
    server_side: bool, cert: str | None, key: str | None, ca: str, verify: ssl.VerifyMode, check_hostname: bool
) -> ssl.SSLContext:
    """The same, made once as long as the files do not change. Nobody may change it."""
    contents = tuple(Path(path).read_bytes() for path in (cert, key, ca) if path is not None)
    return _shared(server_side, cert, key, ca, verify, check_hostname, contents)


@lru_cache(maxsize=64)
def _shared(
    server_side: bool,
    cert: str | None,
    key: str | None,
    ca: str,
    verify: ssl.VerifyMode,
    check_hostname: bool,
    contents: tuple[bytes, ...],
) -> ssl.SSLContext:
    context = tls_context(server_side, cert, key, ca)
    context.check_hostname = check_hostname
    context.verify_mode = verify
    return context


class Ended(EOFError):
    """The stream ended; the link says how."""


@dataclass
class End:
    """The end of a connection.

    ``how``: what the TCP connection came to: "fin", "reset", or "timeout" where the peer left it open.
    After we answered, "reset" means that the peer closed without waiting for our end.
    ``close_notify``: whether TLS was ended first. ``alert``: the reason of a TLS alert or error, else None.
    ``truncated``: whether it ended inside a frame. ``frames``: those seen while waiting for the end.
    ``seconds``: how long that took.
    """

    how: str = "timeout"
    close_notify: bool = False
    alert: str | None = None
    truncated: bool = False
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0

    def _first(self, kind: int) -> Frame | None:
        return next((frame for frame in self.frames if frame.kind == kind), None)

    @property
    def code(self) -> int | None:
        """The code of the peer's CLOSE, None where there was none."""
        frame = self._first(p.CLOSE)
        return None if frame is None else frame.code

    @property
    def last(self) -> int | None:
        """The ``last`` of the peer's CLOSE, None where there was none."""
        frame = self._first(p.CLOSE)
        return None if frame is None else frame.last

    @property
    def reject(self) -> int | None:
        """The code of the peer's REJECT, None where there was none."""
        frame = self._first(p.REJECT)
        return None if frame is None else frame.code


class Link:
    """A TCP or Unix socket, then TLS over memory BIOs, so that each step of both is seen and in our hands."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.timeout = sock, timeout
        self.tls: ssl.SSLObject | None = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.plain = bytearray()
        self.end = End()
        self.over = False  # no more plain bytes will come

    def start_tls(self, context: ssl.SSLContext, server_side: bool, host: str | None, *, check: bool) -> None:
        """``check``: that TLS 1.3 and our ALPN came of it."""
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, host)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive(deadline):
                    raise Ended("the stream ended during the TLS handshake") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # our alert
                raise
            else:
                self._flush()
                break
        demand(not check or self.tls.version() == "TLSv1.3", "1", f"TLS is {self.tls.version()}")
        alpn = self.tls.selected_alpn_protocol()
        demand(not check or alpn == p.ALPN, "1", f"ALPN is {alpn}")

    def peer_der(self) -> bytes | None:
        """The peer's leaf certificate."""
        assert self.tls is not None
        return self.tls.getpeercert(binary_form=True)

    def _flush(self) -> None:
        if data := self.outgoing.read():
            self.sock.settimeout(self.timeout)
            self.sock.sendall(data)

    def _raw(self, deadline: float) -> bytes:
        """Return the next bytes of TCP, b"" at its end. Raises TimeoutError."""
        left = deadline - time.monotonic()
        if left <= 0:
            # Look once more, so that a wait of zero still sees what is there already.
            left = 1e-6
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(CHUNK)
        except ConnectionResetError:
            self.end.how = "reset"
            return b""
        if not data:
            self.end.how = "fin"
        return data

    def _receive(self, deadline: float) -> bool:
        data = self._raw(deadline)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return bool(data)

    def fill(self, seconds: float) -> bool:
        """Wait for plain bytes (sealed ones are opened; before TLS they are as they come); False at the end."""
        if self.over:
            return False
        deadline = time.monotonic() + seconds
        while True:
            try:
                data = self._raw(deadline) if self.tls is None else self.tls.read(CHUNK)
                # CPython gives b"" for close_notify, or SSLZeroReturnError once ours is sent as well.
                self.end.close_notify |= self.tls is not None and not data
            except ssl.SSLWantReadError:
                self._receive(deadline)
                continue
            except ssl.SSLZeroReturnError:
                self.end.close_notify, data = True, b""
            except ssl.SSLEOFError:
                data = b""
            except ssl.SSLError as error:
                self.end.alert, data = error.reason, b""
            self.plain += data
            self.over = not data
            return bool(data)

    def need(self, size: int, seconds: float) -> None:
        """Have at least ``size`` bytes in ``plain``. Raises Ended, TimeoutError; what came stays there."""
        deadline = time.monotonic() + seconds
        while len(self.plain) < size:
            if not self.fill(max(0.0, deadline - time.monotonic())):
                self.end.truncated = bool(self.plain)
                raise Ended(f"the stream ended: {self.end}")

    def send(self, data: bytes) -> None:
        if self.tls is None:
            self.sock.settimeout(self.timeout)
            self.sock.sendall(data)
        elif data:
            self.tls.write(data)
            self._flush()

    def close_notify(self) -> None:
        """End our direction of TLS; the other one stays readable."""
        assert self.tls is not None
        with contextlib.suppress(ssl.SSLError):
            # It also looks for the peer's close_notify, in vain unless that was read already.
            self.tls.unwrap()
        self._flush()

    def finish(self, seconds: float) -> None:
        """After the end of the plain bytes: wait for the end of TCP, where nothing else may come."""
        deadline = time.monotonic() + seconds
        if self.end.close_notify:  # it may share a segment with what follows it
            demand(not self.incoming.pending, "5", "bytes after close_notify")
        with contextlib.suppress(TimeoutError):
            while self.end.how == "timeout":
                trailing = self._raw(deadline)
                demand(not trailing or not self.end.close_notify, "5", "bytes after close_notify")

    def abort(self, reset: bool) -> None:
        """Close TCP with a FIN or a reset, without close_notify."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Endpoint:
    """The part common to both sides once TCP is up."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.link = Link(sock, timeout)
        self.timeout = timeout
        self.next_sequence = 0
        self.key_out: bytes | None = None
        self.incoming: Incoming | None = None  # None until the handshake is complete
        self.peer_max_frame = p.HANDSHAKE_CAP
        self.ended = False  # our CLOSE or REJECT is sent
        self.discard = False  # the peer broke the rules: what else comes is not looked at

    def send(
        self,
        kind: int,
        payload: bytes = b"",
        *,
        reply_to: int = 0,
        wait: int = 0,
        flags: int = 0,
        sequence: int | None = None,
        key: bytes | None = None,
    ) -> int:
        """Send any frame; returns its sequence. One given explicitly does not move the count."""
        number = self.next_sequence if sequence is None else sequence
        raw = p.frame(kind, payload, number, reply_to, key or self.key_out, wait, flags)
        self.link.send(raw)
        if sequence is None:
            self.next_sequence += 1
        if self.incoming is not None:
            self.incoming.note_sent(p.parse_frame(raw))
        return number

    def grant(self, part: Frame) -> None:
        """CREDIT for a PART that came and was processed, once half a window of them is due, unless no more can come."""
        assert self.incoming is not None
        account, request = self.incoming.into.get(part.reply_to), part.reply_to
        if account is None or request not in self.incoming.unanswered or request in self.incoming.cancelled:
            return
        due = account.to_grant(part)
        if due:
            self.send(p.CREDIT, p.u(due, 4), reply_to=request)

    def send_raw(self, data: bytes) -> None:
        """Any bytes, inside TLS if that is up."""
        self.link.send(data)

    def read_unverified(self, timeout: float | None = None) -> Frame:
        """The next frame, only its length checked. Raises Violation, Ended, TimeoutError."""
        seconds = self.timeout if timeout is None else timeout
        self.link.need(4, seconds)
        length = int.from_bytes(self.link.plain[:4], "big")
        check_length(length, self.incoming.cap if self.incoming else p.HANDSHAKE_CAP)
        self.link.need(4 + length, seconds)
        raw = bytes(self.link.plain[: 4 + length])
        del self.link.plain[: 4 + length]
        return p.parse_frame(raw)

    def read_frame(self, timeout: float | None = None) -> Frame:
        """The next frame after the handshake, checked. Raises Violation, Ended, TimeoutError."""
        got = self.read_unverified(timeout)
        if self.incoming is not None:
            self.incoming.check(got, self.next_sequence - 1)
        return got

    def took(self, frame: Frame) -> None:
        """Called for each frame that is taken."""

    def highest(self) -> int:
        """The ``last`` of our CLOSE."""
        raise NotImplementedError

    def send_close(self, code: int = 0, last: int | None = None) -> None:
        """CLOSE and close_notify; ``expect_end`` then does the rest."""
        self.send(p.CLOSE, p.close_payload(code, self.highest() if last is None else last))
        self.ended = True
        self.link.close_notify()

    def silent(self, seconds: float) -> None:
        """Raise Violation where anything comes within that time; the end of the stream may."""
        came = bool(self.link.plain)
        with contextlib.suppress(TimeoutError):
            came = came or self.link.fill(seconds)
        demand(not came, "3", "bytes came where the peer had to be silent")

    def expect_end(self, timeout: float | None = None, *, answer: bool = True) -> End:
        """Read on to the end of TCP, which the peer has ``timeout`` seconds for, and tell how it came.

        ``answer``: answer CLOSE with CLOSE 0, and end our directions of TLS and TCP once the peer's are ended, as
        section 5 has it. Without it nothing is sent, and the peer has to close by itself. Raises Violation for a wrong
        frame, and for a CLOSE or REJECT without close_notify.
        """
        started = time.monotonic()
        deadline = started + (self.timeout if timeout is None else timeout)
        end = self.link.end
        with contextlib.suppress(Ended, TimeoutError):
            while self.discard:
                self.link.plain.clear()
                if not self.link.fill(max(0.0, deadline - time.monotonic())):
                    raise Ended
            while True:
                got = self.read_frame(max(0.0, deadline - time.monotonic()))
                self.took(got)
                end.frames.append(got)
                if got.kind == p.CLOSE and answer and not self.ended:
                    with contextlib.suppress(OSError):
                        self.send_close()
        if end.frames and end.frames[-1].kind in (p.CLOSE, p.REJECT) and self.link.over:
            demand(end.close_notify, "5", f"{end.frames[-1].name} was not followed by close_notify: {end}")
        if answer and self.link.over:
            with contextlib.suppress(OSError, ssl.SSLError):
                if self.link.tls is not None and not self.ended:
                    self.link.close_notify()
                self.link.sock.shutdown(socket.SHUT_WR)
        if self.link.over:
            self.link.finish(max(0.0, deadline - time.monotonic()))
        end.seconds = time.monotonic() - started
        return end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.sock.close()

"""A TCP socket with TLS on two memory BIOs, so that each call does a bounded amount of work.

``ssl.SSLSocket.read`` processes records until one has data: a peer that floods it with KeyUpdates keeps the caller for
as long as it likes, whatever deadline there is. Here a read takes from the kernel once, and decrypts only that.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Any, Final

from sealwire.fork_gate import apart_from_forks
from sealwire.native import NATIVE
from sealwire.session.ciphertext import CiphertextBound
from sealwire.trust.contexts import certificates_above
from sealwire.trust.stale_errors import repeat

if NATIVE:
    _native = import_module("sealwire.native.records")  # compiled, and so not known to the linters

_READ: Final = 32_768
"""Bytes read from the kernel at a time."""
_FIRST_READ: Final = 4096
"""The same until the first frame."""
_RECORD: Final = 16_384
"""Bytes of data in one TLS record, at most (RFC 8446, section 5.1)."""
_CIPHERTEXT: Final = _RECORD + 22
"""Bytes of ciphertext of a full record with the cipher suites of TLS 1.3: header, type and tag."""
_RECORDS: Final = 16
"""Further records that one call reads, at most."""
_MORE: Final = getattr(socket, "MSG_MORE", 0)
"""Tells the kernel that the end of the stream follows, which goes in the same packet."""


class TLSSocket(socket.socket):
    """One end of a TLS connection, with the methods of SSLSocket that a channel uses.

    Args:
        sock: The TCP socket, which this object takes over.
        context: The TLS context.
        server_side: True if this is the server's end.
        host: The server's host name, for a client to verify.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool = False, host: str | None = None
    ) -> None:
        timeout = sock.gettimeout()
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.settimeout(timeout)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)
        self.buffered = False
        """True if something may be readable that poll(2) does not report."""
        self._read_size = _FIRST_READ
        self._ciphertext = CiphertextBound()
        self._more = False
        """True if the kernel probably has more than was read last."""
        self._error: OSError | None = None
        """The error that ended the last ``read``, which had data to return first."""
        self._unsent = memoryview(b"")
        """Ciphertext that the kernel has not taken."""
        self._accepted = 0
        """Bytes of the last ``write`` that are encrypted but not all sent."""
        self.held = False
        """True to keep what is written for :meth:`unwrap`, which sends it in one packet with close_notify."""

    def handshake(self, deadline: float) -> None:
        """Complete the TLS handshake. Raises ssl.SSLError, OSError, TimeoutError at the deadline.

        A client's last handshake message, which has its certificate, is sent with the first frame.
        """
        while True:
            try:
                try:
                    apart_from_forks(self._tls.do_handshake)
                except ssl.SSLError as error:
                    repeat(error, self._tls.do_handshake)
            except ssl.SSLWantReadError:
                self._send_all(deadline)
                self.settimeout(_remaining(deadline))
                ciphertext = self.recv(self._read_size)
                if ciphertext:
                    self._ciphertext.surplus += len(ciphertext)
                    self._incoming.write(ciphertext)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                self._send_all(deadline)  # the alert
                raise
            else:
                self._ciphertext.surplus = self._incoming.pending
                self.buffered = self._incoming.pending > 0
                return

    @property
    def is_silent(self) -> bool:
        """True as long as nothing has arrived in the TLS handshake."""
        return not self._ciphertext.surplus

    def records(self) -> Any:
        """Return the twin of :meth:`read` and :meth:`write` for small frames; None without the native core."""
        if not NATIVE:
            return None
        return _native.SocketRecords(self, self._tls, self._incoming, self._outgoing, self._ciphertext)

    def opened(self) -> None:
        """Note that the first frame has arrived, so that larger records are expected from now on."""
        self._read_size = _READ
        self._ciphertext.opened()

    def getpeercert(self) -> bytes | None:
        """Return the peer's verified certificate (DER), None without one."""
        return self._tls.getpeercert(binary_form=True)

    def certificates_above(self) -> tuple[bytes, ...]:
        """Return the certificates (DER) between the peer's and the root."""
        return certificates_above(self._tls)

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that was negotiated (RFC 7301)."""
        return self._tls.selected_alpn_protocol()

    def read(self, size: int, buffer: memoryview) -> int:
        """Read into the buffer; return 0 at the end.

        A buffer for more than a record belongs to a large frame: then several records that have arrived are read.

        Raises SSLWantReadError if nothing can be read now: ask poll(2) and the clock before the next call.
        """
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # and no variable: its frames would have it, and the buffer
        if not self.buffered:
            self._fetch()
        self.buffered = False
        is_drained = False
        try:
            count: Any = self._tls.read(size, buffer)  # an int, with a buffer
            if count and size > _RECORD:
                more, is_drained = self._read_more(size - count, buffer[count:])
                count += more
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._send()  # the answer to a KeyUpdate
            raise
        except ssl.SSLError:
            self.buffered = True  # for a caller that repeats this
            with suppress(OSError):
                self._send()  # the alert (RFC 8446, section 6.2)
            raise
        self._ciphertext.data(count)
        if not is_drained:
            # Data of the record that was read last, or ciphertext of the next.
            self.buffered = self._incoming.pending > 0 or (count == size and self._tls.pending() > 0)
        return int(count)

    def _read_more(self, size: int, buffer: memoryview) -> tuple[int, bool]:
        """Read further records that have arrived, _RECORDS at most.

        Return the number of bytes, and True if ``buffered`` is set: there is no other whole record, or the next call
        has to find the end.
        """
        filled = 0
        try:
            for _ in range(_RECORDS):
                if filled == size:
                    return filled, False
                if self._incoming.pending < _CIPHERTEXT and (self._more or not self._incoming.pending):
                    self._fetch()
                count: Any = self._tls.read(size - filled, buffer[filled:])
                if not count:
                    self.buffered = True
                    return filled, True
                filled += count
        except ssl.SSLWantReadError:
            return filled, True
        except OSError as error:
            self._error = error.with_traceback(None)  # its frames have the buffer
            self.buffered = True
            return filled, True
        return filled, False

    def _fetch(self) -> None:
        """Take ciphertext from the kernel. Raises SSLWantReadError if there is none."""
        try:
            ciphertext = self.recv(self._read_size)
        except BlockingIOError:
            self._more = False
            raise ssl.SSLWantReadError from None
        self._more = len(ciphertext) == self._read_size
        if ciphertext:
            self._ciphertext.surplus += len(ciphertext)
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()

    @property
    def flooded(self) -> bool:
        """True if the peer sends records without data, and the connection must end."""
        return self._ciphertext.exceeded

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send bytes; return their number.

        Raises SSLWantWriteError if the kernel has not taken all: call this again with the same bytes.
        """
        if not self._accepted:
            accepted = self._tls.write(data)
            if self.held:
                return accepted
            if not self._unsent:
                ciphertext = self._outgoing.read()
                try:
                    sent = self.send(ciphertext)
                except BlockingIOError:
                    sent = 0
                if sent == len(ciphertext):
                    return accepted
                self._unsent = memoryview(ciphertext)[sent:]
            self._accepted = accepted
        elif self._accepted != len(data):
            raise ssl.SSLError("a write was not repeated")
        if not self._send():
            raise ssl.SSLWantWriteError
        accepted, self._accepted = self._accepted, 0
        return accepted

    def unwrap(self, deadline: float) -> None:
        """Send close_notify, and what was held, without waiting for the peer's. Raises OSError."""
        try:
            self._tls.unwrap()
        finally:
            while not self._send(_MORE):
                waiting = select.poll()
                waiting.register(self, select.POLLOUT)
                waiting.poll(_remaining(deadline) * 1000)

    def _send(self, flags: int = 0) -> bool:
        """Send ciphertext; return True if all is sent."""
        while self._unsent or self._outgoing.pending:
            if not self._unsent:
                self._unsent = memoryview(self._outgoing.read())
            try:
                self._unsent = self._unsent[self.send(self._unsent, flags) :]
            except BlockingIOError:
                return False
        return True

    def _send_all(self, deadline: float) -> None:
        if self._outgoing.pending:
            self.settimeout(_remaining(deadline))
            self.sendall(self._outgoing.read())


def _remaining(deadline: float) -> float:
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds

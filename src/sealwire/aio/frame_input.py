"""Takes frames out of a stream of bytes on asyncio, at either end.

``_poll_event`` decrypts and parses only as much as the next event needs, and no more than _READS records: other
connections come between. A deadline holds whatever arrives: ``_wait_for_input`` asks for it before anything else. An
end processes most events in the iteration of the loop in which they come (``_process_input``); its task takes over if
that must wait.
"""

from __future__ import annotations

import ssl
from abc import abstractmethod
from importlib import import_module
from typing import Any, Final

from sealwire.aio.byte_stream import LARGE_READ, READ, ByteStream, large_buffer
from sealwire.aio.unix_socket import PlainObject
from sealwire.errors import ConnectionClosed, DeadlineExceeded, SealwireError
from sealwire.native import NATIVE
from sealwire.session import explain
from sealwire.trust.stale_errors import repeat
from sealwire.wire.events import Event
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State
from sealwire.wire.stream import StreamProtocol

if NATIVE:
    _native = import_module("sealwire.native.records")  # compiled, and so not known to the linters

_RECORD: Final = 16_384
"""Bytes of plaintext in one TLS record (RFC 8446, section 5.1)."""
_READS: Final = 16
"""Records that are decrypted in one turn, at most."""
_ENDED: Final = State.ENDED


class FrameInput(ByteStream):
    """The input of one end of a sealed connection. Its arguments are those of ByteStream."""

    _protocol: StreamProtocol

    def __init__(self, context: ssl.SSLContext | None, *, server_side: bool, host: str | None = None) -> None:
        super().__init__(context, server_side=server_side, host=host)
        self._records: Any = None
        """The twin that encrypts and decrypts small frames; None without TLS or the native core."""
        if NATIVE and context is not None:
            self._records = _native.Records(self._tls, self._incoming, self._outgoing, self._ciphertext)
        self._filled = False
        """True if the last read filled its buffer. Only then can TLS have more data, which the BIO does not show."""
        self._takes_large = True
        """False once the peer has sent many small records: others would have to wait for so many of them at a time."""
        self._read_error: OSError | None = None
        """The error behind the data that was read last."""
        self._sealed = False
        """True if TLS is complete and carries frames."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into: a larger one in the middle of a large frame, while its task waits for it."""
        if self._sealed and self._protocol.reader.has_body and self._takes_large and not self._discarding:
            is_awaited = self._waiting is not None and not self._waiting.done()
            if is_awaited and self._protocol.missing > LARGE_READ:
                return large_buffer()
        return super().get_buffer(sizehint)

    def seal(self, protocol: StreamProtocol) -> None:
        """Carry the protocol's frames from now on."""
        self._protocol = protocol
        self._sealed = True
        self._ciphertext.surplus = self._incoming.pending

    @property
    def _unread(self) -> int:
        """Bytes that have arrived and belong to no event yet; of TLS, whole records only: each is read at once."""
        pending = self._incoming.pending
        return pending + self._protocol.pending if self._sealed and type(self._tls) is PlainObject else pending

    _flush_scheduled: bool
    """True if the queued frames will be sent in this iteration of the loop."""

    @abstractmethod
    def flush_soon(self) -> None:
        """Send the queued frames soon."""

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self._protocol.state is _ENDED or self._discarding or self.lost.done()

    def _end_reason(self) -> SealwireError:
        """Return the error for a task that still uses the connection."""
        if self._is_parents:
            return explain.forked()
        if self.failure is None:
            return explain.closed_here() if self._discarding else explain.broken("it was closed")
        if isinstance(self.failure, DeadlineExceeded):
            return explain.without_frames(self.failure)
        return explain.broken(explain.reason(self.failure))

    def _poll_event(self) -> Event | None:
        """Return the next event, or None if its bytes have not arrived, or are too many records for one turn."""
        protocol, incoming = self._protocol, self._incoming
        reads = _READS
        while True:
            if self._discarding:
                raise self._end_reason()
            # If only ciphertext is there, no event can be.
            if not incoming.pending or not protocol.reader.empty:
                try:
                    event = protocol.next_event()
                except ConnectionClosed:
                    if isinstance(self.failure, DeadlineExceeded):
                        raise explain.without_frames(self.failure) from None
                    raise
                finally:
                    if protocol.queued and not self._flush_scheduled:
                        self.flush_soon()
                if event is not None:
                    if self._read_size < READ:
                        self._read_size = READ
                        self._ciphertext.opened()
                    return event
            if protocol.state is _ENDED or reads <= 0 or not (incoming.pending or self._filled or incoming.eof):
                return None
            read = 1 if self._records is not None and self._read_small() else self._read()
            if not read:
                return None
            reads -= read

    @property
    def _is_exhausted(self) -> bool:
        """True if no event can come before more input does."""
        incoming = self._incoming
        return not (incoming.pending or self._filled or incoming.eof) and self._protocol.reader.empty

    @property
    def _has_input(self) -> bool:
        """True if input has arrived that was not decrypted, or its end."""
        return bool(self._incoming.pending or self._filled or self._incoming.eof)

    def _read_small(self) -> bool:
        """Decrypt a record with its first frame, or its two; return False if :meth:`_read` has to do that."""
        if self._read_error is not None:
            return False
        try:
            taken: int = self._records.decrypt(self._protocol.reader)
        except ssl.SSLError as error:
            self._read_error = error.with_traceback(None)
            return False
        if not taken:
            return False
        self._read_error = self._records.error
        self._filled = taken >= _RECORD
        if self._outgoing.pending:
            self._write_out()  # the answer to a TLS KeyUpdate
        return True

    def _read(self) -> int:
        """Decrypt input into the protocol; return the number of records, 0 without any. Raises RemoteProtocolError."""
        buffer = self._protocol.get_buffer()
        size = len(buffer)
        try:
            try:
                if self._read_error is not None:
                    try:
                        raise self._read_error
                    finally:
                        self._read_error = None  # and no variable: its frames would have it, and the connection
                count: Any = self._tls.read(size, buffer)  # an int, with a buffer
            except ssl.SSLWantReadError:
                raise
            except ssl.SSLError as error:
                count = repeat(error, lambda: self._tls.read(size, buffer))
        except ssl.SSLWantReadError:
            count = -1
        except OSError as error:
            self.failure = self.failure or explain.without_frames(error)
            count = 0
        records = 1
        self._filled = False
        if count > 0 and size > _RECORD:
            more, records = self._read_more(size - count, buffer[count:])
            count += more
        self._filled = self._filled or count == size
        if self._outgoing.pending:
            self._write_out()  # the answer to a TLS KeyUpdate
        if count > 0:
            self._ciphertext.data(count)
            self._protocol.buffer_updated(count)
        elif count == 0:
            self._peer_ended = True
            self._protocol.eof_received()
        elif self._ciphertext.exceeded:
            self._protocol.close(CloseCode.PROTOCOL_ERROR)
            self.flush_soon()
            raise explain.only_ciphertext()
        else:
            self._protocol.buffer_updated(0)
        return records if count >= 0 else 0

    def _read_more(self, size: int, buffer: memoryview) -> tuple[int, int]:
        """Decrypt the other records that are here into the buffer of a large frame.

        Return the number of bytes, and of records with the first one. The end, or an error, is left to the next call.
        """
        filled, records = 0, 1
        try:
            while filled < size and self._incoming.pending and records < _READS:
                count: Any = self._tls.read(size - filled, buffer[filled:])
                if not count:
                    self._filled = True
                    break
                filled += count
                records += 1
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self._read_error = error.with_traceback(None)  # its frames have the buffer
            self._filled = True
        return filled, records

    def _fill_frame(self, ciphertext: memoryview, now: float) -> int:
        """Decrypt input into a large frame, which lacks more than that, up to the last READ bytes; return how much.

        The BIO has no more than at other times, unless that ends because of an error or of many small records.
        """
        taken = 0
        while len(ciphertext) - taken > READ and self._takes_large:
            self._take(ciphertext[taken : taken + READ], now)
            taken += READ
            records = 0
            while self._incoming.pending and records <= _READS and (read := self._read()):
                records += read
            self._takes_large = records <= _READS and self._read_error is None and not self._peer_ended
        return taken

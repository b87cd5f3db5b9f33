"""A Unix socket with the methods of a TLS object on two memory BIOs; see :mod:`sealwire.sync.unix_socket`."""

from __future__ import annotations

import ssl


class PlainObject:
    """An object with the methods of SSLObject that a channel uses; bytes pass through unchanged."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        """Do nothing: there is no handshake."""

    def write(self, data: bytes | memoryview) -> int:
        """Write to the outgoing BIO."""
        return self._outgoing.write(data)

    def read(self, size: int, buffer: memoryview) -> int:
        """Read from the incoming BIO; return 0 at the end. Raises SSLWantReadError if it is empty."""
        data = self._incoming.read(size)
        if not data and not self._incoming.eof:
            raise ssl.SSLWantReadError
        buffer[: len(data)] = data
        return len(data)

    def unwrap(self) -> None:
        """Do nothing: without TLS, the end of the stream is the only one."""

"""A relay of byte streams that behaves like a bad network, always in the same way.

Each direction of a connection has two tasks: one reads and says when each piece is due, and one waits until then and
writes. So a delay holds up no later piece, and bytes that a fault concerns are counted from the connection's first.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sealwire.errors import ConfigurationError

_PIECE: Final = 65_536
_PIECES: Final = 64
"""Pieces that are on their way in a direction at a time."""
_RESET: Final = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which closing a socket resets the connection."""
_Address = str | os.PathLike[str] | tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one direction of each connection. Bytes are counted from the beginning of the connection, at 0.

    Attributes:
        latency: Seconds that each byte is on its way. Default: 0.
        bandwidth: Bytes a second, at most. Default: None, no bound.
        split: Bytes of each write, at most; each is a packet of its own. Default: None, as they arrive.
        flip: The number of a bit that arrives inverted; bit 0 is the highest of byte 0. Default: None.
        cut_after: The number of bytes after which both directions end cleanly. Default: None.
        reset_after: The number of bytes after which the connection is reset; a Unix socket is closed. Default: None.
        stall_after: The number of bytes after which this direction stops, until :meth:`Relay.resume`. Default: None.
        connections: The number of connections that have these faults; those after them have none. Default: None, all.

    Raises:
        ConfigurationError: A number is below 0, or a bound is 0.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    split: int | None = None
    flip: int | None = None
    cut_after: int | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    connections: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            bounds = name in ("bandwidth", "split")
            if value is not None and (value < 0 or (bounds and not value)):
                raise ConfigurationError(f"{name} of Faults must be a number {'above 0' if bounds else 'of 0 or more'}")


class Relay:
    """Listens, and passes on what comes to a server and back, with faults. It has a thread until the end of its block.

    For a TCP address it listens on 127.0.0.1, at a port of its own; for a Unix socket, on another one in a temporary
    directory.

    Args:
        server: The server's address: (host, port), or the path of a Unix socket.
        to_server: The faults on the way to the server. Default: none.
        to_client: The faults on the way back. Default: none.

    Attributes:
        address: The relay's own address: (host, port), or a path.
        to_server: Faults of connections that are made from now on; assign others at any time.
        to_client: The same.
        connections: The number of connections that were made.
    """

    def __init__(self, server: _Address, *, to_server: Faults | None = None, to_client: Faults | None = None) -> None:
        self._server = server[:2] if isinstance(server, tuple) else os.fspath(server)
        self.to_server = to_server or Faults()
        self.to_client = to_client or Faults()
        self.connections = 0
        self._uses: Counter[Faults] = Counter()
        self._directory = None if isinstance(server, tuple) else tempfile.TemporaryDirectory(prefix="sealwire-relay-")
        self.address: Any = ("127.0.0.1", 0) if self._directory is None else str(Path(self._directory.name) / "socket")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sealwire relay", daemon=True)
        self._listener: asyncio.Server | None = None
        self._is_resumed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[_Link] = set()

    @property
    def port(self) -> int:
        """The port that the relay listens on."""
        return int(self.address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._directory is not None:
            self._directory.cleanup()

    def resume(self) -> None:
        """Let the directions that stall go on; those that come to it later do not stall."""
        self._loop.call_soon_threadsafe(self._go_on)

    def end(self, *, reset: bool = False) -> None:
        """End all present connections, cleanly or by a reset."""
        self._loop.call_soon_threadsafe(self._end, reset)

    def _run(self, action: Awaitable[None]) -> None:
        async def run() -> None:
            await action

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _listen(self) -> None:
        if isinstance(self.address, str):
            self._listener = await asyncio.start_unix_server(self._accept, self.address)
        else:
            self._listener = await asyncio.start_server(self._accept, *self.address)
            self.address = self._listener.sockets[0].getsockname()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer, resumed=self._is_resumed)
        self._links.add(link)
        to_server, to_client = self._due(self.to_server), self._due(self.to_client)
        try:
            if isinstance(self._server, str):
                from_server, server = await asyncio.open_unix_connection(self._server)
            else:
                from_server, server = await asyncio.open_connection(*self._server)
            link.writers.append(server)
            async with asyncio.TaskGroup() as tasks:
                for source, target, faults in ((reader, server, to_server), (from_server, writer, to_client)):
                    pieces: asyncio.Queue[_Piece] = asyncio.Queue(_PIECES)
                    tasks.create_task(_read(source, pieces, faults.latency))
                    tasks.create_task(_Direction(link, target, faults).write(pieces))
        except* (OSError, _Reset):
            link.reset()  # if the server is not there, or an end has gone
        finally:
            link.close()
            self._links.discard(link)

    def _due(self, faults: Faults) -> Faults:
        """Return the faults of a new connection."""
        self._uses[faults] += 1
        spared = faults.connections is not None and self._uses[faults] > faults.connections
        return Faults() if spared else faults

    def _go_on(self) -> None:
        self._is_resumed = True
        for link in self._links:
            link.resumed.set()

    def _end(self, reset: bool) -> None:
        for link in self._links:
            if reset:
                link.reset()
            else:
                link.cut()

    async def _close(self) -> None:
        assert self._listener is not None  # it listens
        self._listener.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the next iteration of the loop


class _Reset(Exception):
    """Ends the tasks of a connection that was reset."""


@dataclass(frozen=True, slots=True)
class _Piece:
    data: bytes
    due: float


class _Link:
    """The two sockets of a connection."""

    def __init__(self, writer: asyncio.StreamWriter, *, resumed: bool) -> None:
        self.writers = [writer]
        self.is_cut = False
        self.resumed = asyncio.Event()
        if resumed:
            self.resumed.set()

    def cut(self) -> None:
        """Close both halves that this side writes, and discard what comes until the ends have closed theirs."""
        self.is_cut = True
        self.resumed.set()
        for writer in self.writers:
            with suppress(OSError):
                writer.write_eof()

    def reset(self) -> None:
        """Reset both sockets, and close Unix sockets. Does nothing when called again."""
        if self.writers[0].transport.is_closing():
            return
        self.is_cut = True
        self.resumed.set()
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock.family != socket.AF_UNIX:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def close(self) -> None:
        """Close both sockets."""
        for writer in self.writers:
            writer.close()


async def _read(source: asyncio.StreamReader, pieces: asyncio.Queue[_Piece], latency: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data = await source.read(_PIECE)
        await pieces.put(_Piece(data, loop.time() + latency))
        if not data:
            return


class _Direction:
    """Writes the pieces of one direction."""

    def __init__(self, link: _Link, target: asyncio.StreamWriter, faults: Faults) -> None:
        self._link = link
        self._target = target
        self._faults = faults
        self._passed = 0
        self._bounds = {faults.cut_after, faults.reset_after, faults.stall_after} - {None}

    async def write(self, pieces: asyncio.Queue[_Piece]) -> None:
        """Write pieces when they are due, until the end of the stream. Raises OSError."""
        loop = asyncio.get_running_loop()
        await self._stop_if_due()
        while (piece := await pieces.get()).data:
            if (pause := piece.due - loop.time()) > 0:
                await asyncio.sleep(pause)
            await self._write(memoryview(piece.data))
        if not self._link.is_cut:
            self._target.write_eof()

    async def _write(self, data: memoryview) -> None:
        faults = self._faults
        while data and not self._link.is_cut:
            ahead = (bound - self._passed for bound in self._bounds if bound is not None and bound > self._passed)
            size = min(len(data), faults.split or len(data), *ahead)
            self._target.write(self._flipped(data[:size]))
            await self._target.drain()
            self._passed += size
            data = data[size:]
            if faults.bandwidth is not None:
                await asyncio.sleep(size / faults.bandwidth)
            await self._stop_if_due()

    def _flipped(self, data: memoryview) -> bytes:
        changed = bytearray(data)
        if self._faults.flip is not None:
            byte, bit = divmod(self._faults.flip, 8)
            if 0 <= byte - self._passed < len(changed):
                changed[byte - self._passed] ^= 0x80 >> bit
        return bytes(changed)

    async def _stop_if_due(self) -> None:
        faults = self._faults
        if self._passed == faults.stall_after:
            await self._link.resumed.wait()
        if self._passed == faults.reset_after:
            self._link.reset()
            raise _Reset
        if self._passed == faults.cut_after:
            self._link.cut()

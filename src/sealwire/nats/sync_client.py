"""The client on NATS for programs without an event loop: AsyncNATSClient in a thread."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from sealwire.aio.part_stream import AsyncPartStream
from sealwire.aio.threads import run_in_thread
from sealwire.closing import Closing
from sealwire.errors import SealwireError
from sealwire.fork import leave_in_children
from sealwire.middleware.chain import Middleware
from sealwire.nats.client import AsyncNATSClient
from sealwire.pool.servers import ServerStatus
from sealwire.security import Security
from sealwire.session.parts import Ending
from sealwire.sync.client import check_requests
from sealwire.sync.part_stream import Own, PartStream
from sealwire.sync.parts_client import PartsClient

_END: Final = object()
_T = TypeVar("_T")


class _Running:
    """An event loop in a thread, and a client on it."""

    def __init__(self, client: AsyncNATSClient) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()
        self._left = asyncio.Event()
        self.thread = threading.Thread(target=self._run, name=f"sealwire {client._address}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._stay())

    async def _stay(self) -> None:
        await self._left.wait()
        await self.client.close()

    def begin(self, coroutine: Coroutine[Any, Any, _T]) -> Any:
        """Run a coroutine in the thread; return a future of its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the thread, and return its result. Cancels it if this is interrupted."""
        future = self.begin(coroutine)
        try:
            result: _T = future.result()
        finally:
            future.cancel()
        return result

    def leave(self) -> None:
        """Close the client and end the thread soon."""
        self.loop.call_soon_threadsafe(self._left.set)


class SynchronousNATSClient(Closing, PartsClient):
    """A client of the workers that serve a subject of NATS; any number of threads may use it.

    It is an AsyncNATSClient in a thread of its own, which begins with the first request and ends with :meth:`close`. As
    a context manager it closes itself at the end::

        with SynchronousNATSClient("tls://nats.example", "orders", security=security) as client:
            reply = client.send_request(data)

    A forked child has sessions of its own. A signal handler cannot use it. The parts of a request are taken from their
    iterable in another thread, and a message of ``stream`` that cannot be encoded is an error of its first part.

    Args:
        url, subject, sessions, timeout, wait, security, keepalive, retry_budget, options: As for AsyncNATSClient.
        middleware: Functions around each ``send_request``, the outermost first; see :mod:`sealwire.middleware`.
            Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        subject: str,
        *,
        sessions: int = 4,
        timeout: float = 10.0,
        wait: float = 10.0,
        security: Security,
        keepalive: float = 1.0,
        retry_budget: float = 0.2,
        options: Mapping[str, Any] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(timeout, wait, security, middleware)
        self._make = partial(
            AsyncNATSClient, url, subject, sessions=sessions, timeout=timeout, wait=wait, security=security,
            keepalive=keepalive, retry_budget=retry_budget, options=options,
        )  # fmt: skip
        self._where = self._make()._address
        self._lock = threading.RLock()  # a signal handler may close the client meanwhile
        self._running: _Running | None = None
        self._parents: _Running | None = None
        """In a forked child, the parent's thread and client: kept, since they must not be finalised there."""
        leave_in_children(self)

    @property
    def _address(self) -> str:
        return self._where

    @property
    def _is_open(self) -> bool:
        running = self._running
        return running is not None and running.client._is_open

    def leave_to_parent(self) -> None:
        """Forget the thread in a forked child, which does not have it."""
        self._lock = threading.RLock()
        self._parents, self._running = self._running, None

    def _here(self) -> _Running:
        with self._lock:
            if self._running is None:
                self._running = _Running(self._make())
            return self._running

    # Requests

    def send_request(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Mapping[str, str] | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request to one of the workers and return the reply; see :meth:`.AsyncClientPool.send_request`."""
        return self._call(data, wait, idempotent, metadata, reply_metadata)

    def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        running = self._here()
        return running.run(running.client._send(data, seconds, idempotent, metadata, reply_metadata))

    def send_requests(
        self,
        requests: Iterable[Any],
        *,
        wait: float | None = None,
        window: int = 32,
        idempotent: bool = False,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """Send requests without waiting for each reply; yield the replies in the order of the requests.

        Args, results and errors are those of :meth:`.AsyncClientPool.send_requests`. The iterable is read in this
        thread. The client's middleware is not around these requests.
        """
        seconds = check_requests(requests, self.wait if wait is None else wait, window)
        return self._in_order(iter(requests), seconds, window, idempotent, return_errors)

    def _in_order(
        self, requests: Iterator[Any], seconds: float, window: int, idempotent: bool, return_errors: bool
    ) -> Iterator[Any]:
        running, under_way = self._here(), deque[Any]()
        try:
            more = True
            while more or under_way:
                while more and len(under_way) < window:
                    if (item := next(requests, _END)) is _END:
                        more = False
                    else:
                        under_way.append(running.begin(running.client._send(item, seconds, idempotent, None, None)))
                if under_way:
                    try:
                        result = under_way[0].result()
                    except SealwireError as error:
                        if not return_errors:
                            raise
                        result = error
                    under_way.popleft()
                    yield result
        finally:
            for future in under_way:
                future.cancel()

    def _stream(
        self,
        wait: float,
        data: Any,
        _: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str],
    ) -> PartStream:
        running = self._here()

        async def begun() -> AsyncPartStream:
            return running.client.stream(data, wait=wait, metadata=metadata, idempotent=idempotent)

        download: Any = _Download(running, running.run(begun()), reply_metadata)
        return PartStream(download)

    def _send_parts(
        self,
        wait: float,
        parts: Iterable[Any],
        _: float,
        __: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        running = self._here()
        each = _from_threads(iter(parts))
        return running.run(running.client._send_parts(wait, each, wait, False, metadata, reply_metadata))

    def _place(self) -> Own:
        raise NotImplementedError  # a request or reply in parts has no connection of its own here

    def ping(self) -> float:
        """Return the seconds of a round trip to the worker of the least busy session; see :meth:`.ClientPool.ping`."""
        running = self._here()
        return running.run(running.client.ping())

    def status(self) -> list[ServerStatus]:
        """Return the state of each session."""
        running = self._running
        return [] if running is None else running.client.status()

    def close(self) -> None:
        """Close all sessions and end the thread; pending calls raise ConnectionClosed.

        The next request starts again.
        """
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.leave()
            running.thread.join()

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None:
            text = f"{self!r} was not closed; use `with` or call close()"
            was_open = self._is_open
            running.leave()
            if was_open:
                warnings.warn(text, ResourceWarning, stacklevel=1, source=self)


class _Download(Ending):
    """A reply in parts, with its stream in another thread."""

    channel = None

    def __init__(self, running: _Running, stream: AsyncPartStream, metadata: dict[str, str]) -> None:
        super().__init__()
        self._running = running
        self._stream = stream
        self.metadata = metadata
        self.has_ended = False

    @property
    def result(self) -> Any:
        return self._stream.result

    def next(self) -> Any:
        if self.has_ended:
            raise StopIteration
        try:
            part = self._running.run(self._next())
        except BaseException as error:
            self._end(error)
            raise
        if part is _END:
            self.metadata.update(self._stream.metadata)
            self._end(None)
            raise StopIteration
        return part

    async def _next(self) -> Any:
        return await anext(self._stream, _END)

    def close(self) -> None:
        if not self.has_ended:
            if not self._running.loop.is_closed():
                self._running.run(self._stream.aclose())
            self._end(GeneratorExit())

    def _end(self, error: BaseException | None) -> None:
        if not self.has_ended:
            self.has_ended = True
            self._done(error)


async def _from_threads(parts: Iterator[Any]) -> AsyncIterator[Any]:
    """Yield the items of an iterator that may block, each taken in a thread."""
    while (part := await run_in_thread(partial(next, parts, _END), "sealwire parts")) is not _END:
        yield part

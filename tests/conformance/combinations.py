"""Every transport, server and client: a new one is one line in SERVERS or CLIENTS, and all tests of the suite are run
with it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import pytest
import uvloop

import sealwire
from conformance.given import Address, Given, endpoint, logged, shares
from conformance.handlers import HANDLERS
from sealwire import AsyncTCPServer, AsyncUnixServer, Security, dtls, nats
from support.aio import serving
from support.starter import Process


@dataclass(frozen=True)
class Transport:
    """A carrier.

    Attributes:
        name: Its name.
        local: True without certificates: the kernel identifies the peer.
        stream: True if frames may be as large as the limits say, and a side always learns of the end.
        host: True if the server is at a host, whose name is verified.
    """

    name: str
    local: bool = False
    stream: bool = True
    host: bool = True


TCP: Final = Transport("tcp")
UNIX: Final = Transport("unix", local=True)
UDP: Final = Transport("udp", stream=False)
NATS: Final = Transport("nats", host=False)


class Running(Protocol):
    """A running server, at its ``address``."""

    address: Address

    def stop(self) -> None:
        """Shut down, and return when it has drained."""


Start = Callable[[Given], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Server:
    """A kind of server.

    Attributes:
        name: Its name.
        transport: Its carrier.
        start: Serves in the background until the end of its block.
        one_at_a_time: True if it serves one connection at a time.
        several: True if it has several processes, each with bounds of its own.
    """

    name: str
    transport: Transport
    start: Start
    one_at_a_time: bool = False
    several: bool = False

    @property
    def runs_coroutines(self) -> bool:
        return "async" in self.name.lower()

    @property
    def in_this_process(self) -> bool:
        """True if its log is part of the test's."""
        return not self.name.startswith(("Forking", "Prefork"))

    def __str__(self) -> str:
        return self.name


class _Threaded:
    def __init__(self, server: Any) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=[0.01], name="conformance")
        self.address = server.server_address

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(20)
        assert not self._thread.is_alive()


def in_thread(name: str, package: Any = sealwire) -> Start:
    """A server class of sealwire's, in a thread of this process."""

    @contextmanager
    def start(given: Given) -> Iterator[Running]:
        with (
            logged(given),
            shares(given),
            getattr(package, name)(given.address, HANDLERS[given.handler], given.security(), **given.around) as server,
            endpoint(given, server),
        ):
            running = _Threaded(server)
            running.start()
            try:
                yield running
            finally:
                running.stop()

    return start


class _Looped:
    def __init__(self, one: Any) -> None:
        self._one = one
        self.address = one.server.server_address

    def stop(self) -> None:
        self._one.stop()
        self._one.join()


def on_loop(name: str, new_loop: Any = asyncio.new_event_loop) -> Start:
    """A server class of sealwire's, on an event loop in a thread of this process."""
    server_class: type[AsyncTCPServer] = {"AsyncTCPServer": AsyncTCPServer, "AsyncUnixServer": AsyncUnixServer}[name]

    @contextmanager
    def start(given: Given) -> Iterator[Running]:
        security = given.security()
        with (
            logged(given),
            shares(given),
            serving(
                lambda: server_class(given.address, HANDLERS[given.handler], security, **given.around), new_loop
            ) as one,
            endpoint(given, one.server),
        ):
            yield _Looped(one)

    return start


@contextmanager
def on_nats(given: Given) -> Iterator[Running]:
    """A worker on an event loop in a thread of this process."""
    url, _, subject = given.address.rpartition("/")
    security = given.security()
    with (
        logged(given),
        shares(given),
        serving(
            lambda: nats.NATSServer(url, HANDLERS[given.handler], security, subject=subject, **given.around)
        ) as one,
        endpoint(given, one.server),
    ):
        yield _Looped(one)


class ServerProcess:
    """A server in a process of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid
        self.address = json.loads(process.stdout.readline())
        if isinstance(self.address, list):
            self.address = tuple(self.address)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


def in_processes(name: str, **options: Any) -> Start:
    """A server class of sealwire's, as a rule one that forks: conformance/child.py, in a process of its own.

    What it logs cannot be written anywhere.
    """

    @contextmanager
    def start(given: Given) -> Iterator[Running]:
        settings = {"server": name, "options": options} | vars(given) | {"directory": str(given.directory)}
        with open("/dev/full", "w") as full:
            process = Process("conformance.child", settings, full)
        with process:
            try:
                running = ServerProcess(process)
                yield running
                running.stop()
                assert process.returncode == 0
            finally:
                process.kill()

    return start


SERVERS: Final = [
    Server("TCPServer", TCP, in_thread("TCPServer"), one_at_a_time=True),
    Server("ThreadingTCPServer", TCP, in_thread("ThreadingTCPServer")),
    Server("ForkingTCPServer", TCP, in_processes("ForkingTCPServer")),
    Server("PreforkTCPServer", TCP, in_processes("PreforkTCPServer", workers=2), several=True),
    Server("PreforkTCPServer-asyncio", TCP, in_processes("PreforkTCPServer", workers=2, loop="asyncio"), several=True),
    Server("AsyncTCPServer", TCP, on_loop("AsyncTCPServer")),
    Server("AsyncTCPServer-uvloop", TCP, on_loop("AsyncTCPServer", uvloop.new_event_loop)),
    Server("UnixStreamServer", UNIX, in_thread("UnixStreamServer"), one_at_a_time=True),
    Server("ThreadingUnixStreamServer", UNIX, in_thread("ThreadingUnixStreamServer")),
    Server("ForkingUnixStreamServer", UNIX, in_processes("ForkingUnixStreamServer")),
    Server("AsyncUnixServer", UNIX, on_loop("AsyncUnixServer")),
    Server("UDPServer", UDP, in_thread("UDPServer", dtls)),
    Server("ThreadingUDPServer", UDP, in_thread("ThreadingUDPServer", dtls)),
    Server("NATSServer-async", NATS, on_nats),
]


class Caller(Protocol):
    """A client, used synchronously. Errors are those of the client."""

    def request(self, data: Any, **options: Any) -> Any:
        """Its send_request."""

    def many(self, requests: list[Any], before_last: Callable[[], object] = bool) -> list[Any]:
        """Replies to all of them, which are under way at a time.

        A client with send_requests calls ``before_last`` when it has all but one.
        """

    def echoes(self, requests: list[Any]) -> list[Any]:
        """Replies to their replies, each asked for while the others are under way."""

    def stream(self, request: Any, **options: Any) -> Any:
        """Its stream, as a synchronous client has it."""

    def send_parts(self, parts: Any, **options: Any) -> Any:
        """Its send_parts."""

    def peer(self) -> Any:
        """The server's identity."""

    def close(self) -> None:
        """Its close."""


@dataclass(frozen=True)
class Client:
    """A kind of client.

    Attributes:
        name: Its name.
        transport: Its carrier.
        make: Makes a client from address, Security and options (timeout, wait).
        several: True if several requests are in flight, so that one that gives up leaves the connection to the others.
    """

    name: str
    transport: Transport
    make: Callable[..., Caller]
    several: bool = False

    def __str__(self) -> str:
        return self.name


def in_parts(client: Any, name: str) -> Any:
    """A method of a client that not every kind of client has."""
    if not hasattr(client, name):
        pytest.skip(f"a {type(client).__name__} has no {name}")
    return getattr(client, name)


class _Synchronous:
    def __init__(self, client: Any) -> None:
        self._client = client

    def request(self, data: Any, **options: Any) -> Any:
        return self._client.send_request(data, **options)

    def many(self, requests: list[Any], before_last: Callable[[], object] = bool) -> list[Any]:
        if not hasattr(self._client, "send_requests"):
            return [self._client.send_request(each) for each in requests]
        replies = self._client.send_requests(requests)
        found = list(islice(replies, len(requests) - 1))
        before_last()
        return [*found, *replies]

    def echoes(self, requests: list[Any]) -> list[Any]:
        if not hasattr(self._client, "send_requests"):
            return self.many(self.many(requests))
        return [self._client.send_request(reply) for reply in self._client.send_requests(requests)]

    def stream(self, request: Any, **options: Any) -> Any:
        return in_parts(self._client, "stream")(request, **options)

    def send_parts(self, parts: Any, **options: Any) -> Any:
        return in_parts(self._client, "send_parts")(parts, **options)

    def peer(self) -> Any:
        return _peer_of(self._client)

    def close(self) -> None:
        self._client.close()


@contextmanager
def _error_of_the_server() -> Iterator[None]:
    """If localhost has an IPv6 address as well, no server is there."""
    try:
        yield
    except sealwire.NoServerAvailable as failed:
        raise next(error for address, error in failed.failures.items() if "127.0.0.1" in address) from None


def _peer_of(client: Any) -> Any:
    if hasattr(client, "peer"):
        return client.peer
    return next(server.peer for server in client.status() if server.peer is not None)


def _pooled(address: Address) -> list[Any]:
    return [("localhost", address[1]) if isinstance(address, tuple) else f"unix:{address}"]


class _Pooled(_Synchronous):
    def request(self, data: Any, **options: Any) -> Any:
        with _error_of_the_server():
            return super().request(data, **options)


def pool(address: Address, security: Security, **options: Any) -> Caller:
    return _Pooled(sealwire.ClientPool(_pooled(address), size=1, security=security, **options))


def _on_subject(address: str) -> tuple[str, str]:
    url, _, subject = address.rpartition("/")
    return url, subject


def synchronous(name: str, package: Any = sealwire) -> Callable[..., Caller]:
    def make(address: Address, security: Security, **options: Any) -> Caller:
        where = ("localhost", address[1]) if isinstance(address, tuple) else (address,)
        if package is nats:
            where, options = _on_subject(address), {"sessions": 1} | options
        return _Synchronous(getattr(package, name)(*where, **options, security=security))

    return make


class _Loop:
    """One event loop for all asynchronous clients, in a thread that the whole run of the tests has."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Before the first test that looks for threads that were left."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # Addresses are looked up in a thread, which is there from now on as well.
            self._loop.set_default_executor(ThreadPoolExecutor(1))
            threading.Thread(target=self._loop.run_forever, daemon=True, name="clients' loop").start()
            self.run(self._loop.getaddrinfo("localhost", 0))

    def run(self, coroutine: Any) -> Any:
        self.start()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


LOOP: Final = _Loop()


class _AsyncStream:
    """A stream of an asynchronous client, used synchronously."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return LOOP.run(anext(self._stream))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        LOOP.run(self._stream.aclose())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Asynchronous:
    def __init__(self, client: Any) -> None:
        self._client = client

    def request(self, data: Any, **options: Any) -> Any:
        return LOOP.run(self._client.send_request(data, **options))

    def many(self, requests: list[Any], _: Callable[[], object] = bool) -> list[Any]:
        async def gathered() -> list[Any]:
            return await asyncio.gather(*map(self._client.send_request, requests))

        found: list[Any] = LOOP.run(gathered())
        return found

    def echoes(self, requests: list[Any]) -> list[Any]:
        async def echo(request: Any) -> Any:
            return await self._client.send_request(await self._client.send_request(request))

        async def gathered() -> list[Any]:
            return await asyncio.gather(*map(echo, requests))

        found: list[Any] = LOOP.run(gathered())
        return found

    def stream(self, request: Any, **options: Any) -> Any:
        async def begun() -> Any:
            return in_parts(self._client, "stream")(request, **options)

        return _AsyncStream(LOOP.run(begun()))

    def send_parts(self, parts: Any, **options: Any) -> Any:
        return LOOP.run(in_parts(self._client, "send_parts")(parts, **options))

    def peer(self) -> Any:
        return _peer_of(self._client)

    def close(self) -> None:
        LOOP.run(self._client.close())


def asynchronous(name: str, package: Any = sealwire) -> Callable[..., Caller]:
    client_class: Any = getattr(package, name)

    def make(address: Address, security: Security, **options: Any) -> Caller:
        where = ("localhost", address[1]) if isinstance(address, tuple) else (address,)
        if package is nats:
            where, options = _on_subject(address), {"sessions": 1} | options

        async def made() -> Any:
            return client_class(*where, **options, security=security)

        return _Asynchronous(LOOP.run(made()))

    return make


class _AsyncPooled(_Asynchronous):
    def request(self, data: Any, **options: Any) -> Any:
        with _error_of_the_server():
            return super().request(data, **options)


def async_pool(address: Address, security: Security, **options: Any) -> Caller:
    async def made() -> Any:
        return sealwire.AsyncClientPool(_pooled(address), size=1, security=security, **options)

    return _AsyncPooled(LOOP.run(made()))


CLIENTS: Final = [
    Client("SynchronousTCPClient", TCP, synchronous("SynchronousTCPClient")),
    Client("AsyncTCPClient", TCP, asynchronous("AsyncTCPClient"), several=True),
    Client("ClientPool", TCP, pool),
    Client("AsyncClientPool", TCP, async_pool, several=True),
    Client("SynchronousUnixClient", UNIX, synchronous("SynchronousUnixClient")),
    Client("AsyncUnixClient", UNIX, asynchronous("AsyncUnixClient"), several=True),
    Client("ClientPool-unix", UNIX, pool),
    Client("AsyncClientPool-unix", UNIX, async_pool, several=True),
    Client("SynchronousUDPClient", UDP, synchronous("SynchronousUDPClient", dtls)),
    Client("AsyncUDPClient", UDP, asynchronous("AsyncUDPClient", dtls), several=True),
    Client("SynchronousNATSClient", NATS, synchronous("SynchronousNATSClient", nats)),
    Client("AsyncNATSClient", NATS, asynchronous("AsyncNATSClient", nats), several=True),
]

"""The servers: socketserver's API, what they serve, how they drain."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import Closed, Ended, RefClient, Rejected
from sealwire import (
    ConfigurationError,
    ForkingTCPServer,
    HandshakeRejected,
    InvalidState,
    RequestHandler,
    TCPServer,
    ThreadingTCPServer,
    TransportError,
    recv_msg,
    serve,
)
from sealwire.session.server import MAX_UNANSWERED
from support.events import logged
from support.service import ChildServer, Deployment, children, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

SERVERS = [TCPServer, ThreadingTCPServer]
ADDRESS = ("127.0.0.1", 0)


def echo(message: Any) -> Any:
    return message


class Held:
    """A handler that says when it has a message, and holds it until it may go on."""

    def __init__(self) -> None:
        self.got, self.go = threading.Event(), threading.Event()
        self.messages: list[Any] = []

    def __call__(self, message: Any) -> Any:
        self.messages.append(message)
        self.got.set()
        assert self.go.wait(20)
        return message


@contextmanager
def shutting_down(server: TCPServer) -> Iterator[threading.Thread]:
    """shutdown() in a thread, which has returned at the end of the block."""
    thread = threading.Thread(target=server.shutdown, name="shutdown")
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


# Interoperability


@pytest.mark.parametrize("server_class", SERVERS)
def test_reference_client(deployment: Deployment, server_class: type[TCPServer]) -> None:
    with running(server_class(ADDRESS, echo, deployment.server_security(raw=True))) as port:
        for _ in range(2):
            with deployment.ref_client(port) as client:
                for size in (0, 1, 1000, 20_000, 70_000, 300_000):
                    number = client.send_message(b"x" * size, wait=5)
                    got = client.receive(number)
                    assert (got.kind, got.payload) == (p.MESSAGE, b"x" * size)
                    client.ping(b"are you there?")
                client.send_close()
                end = client.expect_end()
                assert (end.code, end.how, end.close_notify) == (0, "fin", True)
                assert end.last == 11


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_our_client(deployment: Deployment, host: str) -> None:
    with (
        running(ThreadingTCPServer(ADDRESS, echo, deployment.server_security())) as port,
        deployment.client(port, host) as client,
    ):
        for value in (1, "text", [b"x" * 100_000], {"a": (1, 2)}):
            assert client.send_request(value) == value


@pytest.mark.parametrize("server_class", SERVERS)
def test_pipelined(deployment: Deployment, server_class: type[TCPServer]) -> None:
    """Fifty requests before any reply is read: all are answered, in order."""
    with running(server_class(ADDRESS, echo, deployment.server_security(raw=True))) as port:
        with deployment.ref_client(port) as client:
            numbers = [client.send_message(b"%d" % number) for number in range(50)]
            replies = [client.read_frame() for _ in numbers]
            client.send_close()
            assert client.expect_end().last == 50
        assert [(frame.reply_to, frame.payload) for frame in replies] == [(n, b"%d" % (n - 1)) for n in numbers]


# socketserver


def test_is_a_socketserver() -> None:
    assert issubclass(TCPServer, socketserver.TCPServer)
    assert issubclass(ThreadingTCPServer, socketserver.ThreadingMixIn)
    assert issubclass(ForkingTCPServer, socketserver.ForkingMixIn)


@pytest.mark.parametrize("server_class", SERVERS)
def test_handle_request(deployment: Deployment, server_class: type[TCPServer]) -> None:
    with server_class(ADDRESS, echo, deployment.server_security()) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with deployment.client(server.server_address[1]) as client:
            assert client.send_request("one") == "one"
            assert client.send_request("two") == "two"
            assert thread.is_alive()
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("server_class", SERVERS)
def test_handle_request_timeout(deployment: Deployment, server_class: type[TCPServer]) -> None:
    class Impatient(server_class):
        timeout = 0.05
        timed_out = 0

        def handle_timeout(self) -> None:
            self.timed_out += 1

    with Impatient(ADDRESS, echo, deployment.server_security()) as server:
        server.handle_request()
        assert server.timed_out == 1


def test_serve_forever_twice(deployment: Deployment) -> None:
    with ThreadingTCPServer(ADDRESS, echo, deployment.server_security()) as server:
        for _ in range(2):
            thread = threading.Thread(target=server.serve_forever, args=[0.01])
            thread.start()
            with deployment.client(server.server_address[1]) as client:
                assert client.send_request("hello") == "hello"
            server.shutdown()
            thread.join(10)
            assert not thread.is_alive()


def test_server_address_and_reuse(deployment: Deployment) -> None:
    security = deployment.server_security()
    with running(ThreadingTCPServer(ADDRESS, echo, security)) as port, deployment.client(port) as client:
        assert port > 0
        assert client.send_request(1) == 1
    # With connections of the old one in TIME_WAIT.
    with running(ThreadingTCPServer(("127.0.0.1", port), echo, security)) as again, deployment.client(port) as client:
        assert again == port
        assert client.send_request(1) == 1


def test_address_in_use(deployment: Deployment) -> None:
    security = deployment.server_security()
    with TCPServer(ADDRESS, echo, security) as server:
        where = f"cannot listen on 127.0.0.1:{server.server_address[1]}: Address already in use by this process"
        for server_class in (TCPServer, ThreadingTCPServer, ForkingTCPServer):
            with pytest.raises(TransportError, match=where) as caught:
                server_class(server.server_address, echo, security)
            assert caught.value.errno == errno.EADDRINUSE


def test_bind_later(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(), bind_and_activate=False)
    server.server_bind()
    server.server_activate()
    with running(server) as port, deployment.client(port) as client:
        assert client.send_request(1) == 1


def test_server_close_twice_and_unserved(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security())
    server.server_close()
    server.server_close()


def test_verify_request(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    allowed = threading.Event()

    class Picky(ThreadingTCPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return allowed.is_set()

    with running(Picky(ADDRESS, echo, deployment.server_security(raw=True))) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            assert sock.recv(1) == b""
        allowed.set()
        with deployment.client(port, raw=True) as client:
            assert client.send_request(b"x") == b"x"


def test_service_actions(deployment: Deployment) -> None:
    acted = threading.Event()

    class Busy(ThreadingTCPServer):
        def service_actions(self) -> None:
            super().service_actions()
            acted.set()

    with running(Busy(ADDRESS, echo, deployment.server_security())):
        assert acted.wait(5)


def test_client_address_and_server_in_the_handler(deployment: Deployment) -> None:
    seen: list[tuple[Any, Any]] = []

    class Handler(RequestHandler):
        def respond(self, message: Any) -> Any:
            seen.append((self.client_address, self.server))
            return None

    server = ThreadingTCPServer(ADDRESS, Handler, deployment.server_security(raw=False))
    with running(server) as port, deployment.client(port) as client:
        client.send_request(1)
    (address, its_server) = seen[0]
    assert address[0] == "127.0.0.1"
    assert its_server is server


def test_serve(deployment: Deployment) -> None:
    made: list[TCPServer] = []

    class Known(ThreadingTCPServer):
        def server_activate(self) -> None:
            super().server_activate()
            made.append(self)

    thread = threading.Thread(
        target=serve,
        args=(lambda message: message * 2, *ADDRESS, deployment.server_security()),
        kwargs={"server_class": Known},
    )
    thread.start()
    server = eventually(lambda: made)[0]
    with deployment.client(server.server_address[1]) as client:
        assert client.send_request(21) == 42
    server.shutdown()
    thread.join(10)
    assert not thread.is_alive()


def test_configuration(deployment: Deployment) -> None:
    security = deployment.server_security()
    with pytest.raises(ConfigurationError, match="needs a Security"):
        TCPServer(ADDRESS, echo, None)
    with pytest.raises(ConfigurationError, match="which clients may connect: peers="):
        TCPServer(ADDRESS, echo, deployment.security("server"))
    with pytest.raises(ConfigurationError, match=r"derived from sealwire\.RequestHandler"):
        TCPServer(ADDRESS, socketserver.BaseRequestHandler, security)
    with pytest.raises(ConfigurationError, match=r"respond\(message\) or handle\(\)"):
        TCPServer(ADDRESS, type("Empty", (RequestHandler,), {}), security)
    with pytest.raises(ConfigurationError, match=r"a class derived from sealwire\.RequestHandler or a function"):
        TCPServer(ADDRESS, "handler", security)


@pytest.mark.parametrize("server_class", SERVERS)
def test_many_connections(deployment: Deployment, server_class: type[TCPServer]) -> None:
    with running(server_class(ADDRESS, echo, deployment.server_security())) as port:
        for number in range(30):
            with deployment.client(port) as client:
                assert client.send_request(number) == number


# Limits


def test_max_connections(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits={"max_connections": 2}))
    with running(server) as port, ExitStack() as stack:
        inside = [stack.enter_context(deployment.ref_client(port)) for _ in range(2)]
        for client in inside:
            client.request(b"in")
        with pytest.raises(Rejected) as rejected:
            deployment.ref_client(port)
        assert rejected.value.code == 4
        inside[0].send_close()
        inside[0].expect_end()

        def free() -> RefClient | None:
            try:
                return deployment.ref_client(port)
            except Rejected:
                return None

        with eventually(free) as client:
            assert client.request(b"next")[1] == b"next"


def test_max_connections_reached_between_hello_and_the_first_request(deployment: Deployment) -> None:
    """Both were welcomed while there was room; the slower one is asked to come again."""
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits={"max_connections": 1}))
    with running(server) as port, deployment.ref_client(port) as slow, deployment.ref_client(port) as fast:
        fast.request(b"in")
        number = slow.send_message(b"too late")
        with pytest.raises(Closed) as closed:
            slow.receive(number)
        assert (closed.value.frame.code, closed.value.frame.last) == (2, 0)


def test_pings_do_not_keep_a_connection(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits={"idle_timeout": 0.5}))
    with running(server) as port, deployment.client(port, raw=True) as client:
        start = monotonic()
        client.send_request(b"x")
        first = client._channel
        while client._channel is first and monotonic() - start < 9:
            client.ping()
        assert 0.3 < monotonic() - start < 9


def test_requests_that_nobody_answers_are_bounded(deployment: Deployment) -> None:
    refused: list[Exception] = []

    class Handler(RequestHandler):
        def handle(self) -> None:
            try:
                while recv_msg(self.request) is not None:
                    pass
            except InvalidState as error:
                refused.append(error)

    server = ThreadingTCPServer(ADDRESS, Handler, deployment.server_security(raw=True))
    with running(server) as port, deployment.ref_client(port) as client:
        for _ in range(MAX_UNANSWERED + 1):
            client.send_message(b"x")
        end = client.expect_end()
        assert (end.code, end.last) == (0, MAX_UNANSWERED)
    assert "1024 requests are unanswered" in str(refused[0])


@pytest.mark.parametrize("server_class", [ThreadingTCPServer, ForkingTCPServer])
def test_who_comes_while_the_server_drains(deployment: Deployment, server_class: type[TCPServer]) -> None:
    """Is told so at once, and does not hang until the requests in progress are finished."""
    go_in, go_out = os.pipe()

    def held(message: bytes) -> bytes:
        os.read(go_in, 1)
        return message

    server = server_class(ADDRESS, held, deployment.server_security(raw=True, limits={"drain_timeout": 60.0}))
    with running(server) as port, deployment.ref_client(port, timeout=60) as client:
        client.send_message(b"one")
        eventually(lambda: not server._admission.unauthenticated())
        with shutting_down(server):
            eventually(lambda: server._busy() == 5)
            for _ in range(2):
                with deployment.client(port, raw=True, timeout=5) as late, pytest.raises(HandshakeRejected) as told:
                    late.send_request(b"x")
                assert told.value.code == 5
            os.write(go_out, b"x")
            assert client.receive(1).payload == b"one"
    os.close(go_in)
    os.close(go_out)


def test_switches_are_as_before_when_the_server_has_stopped(deployment: Deployment) -> None:
    """Two peers have been active a moment ago."""
    before = sys.getswitchinterval()
    security = deployment.server_security(peers=["dns:client.example", "dns:other.example"])
    with running(ThreadingTCPServer(ADDRESS, echo, security)) as port, ExitStack() as stack:
        clients = [stack.enter_context(deployment.client(port, role=role)) for role in ("client", "other client")]
        assert [client.send_request(n) for n, client in enumerate(clients)] == [0, 1]
    assert sys.getswitchinterval() == before


def test_idle_timeout(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits={"idle_timeout": 0.2}))
    with running(server) as port, deployment.ref_client(port) as client:
        start = monotonic()
        client.request(b"x")
        end = client.expect_end(5)
        assert (end.code, end.last, end.how, end.close_notify) == (1, 1, "fin", True)
        assert 0.1 < monotonic() - start < 9


def test_idle_timeout_after_a_reply_that_was_too_large(deployment: Deployment) -> None:
    """The handler has let go of the request, although its reply was not sent."""
    security = deployment.server_security(raw=True, limits={"idle_timeout": 0.2})
    server = ThreadingTCPServer(ADDRESS, lambda _: bytes(2000), security)
    with running(server) as port, deployment.ref_client(port, max_frame=1200) as client:
        assert client.receive(client.send_message(b"x")).kind == p.FAULT
        assert client.expect_end(5).code == 1


@pytest.mark.parametrize("inside_record", [False, True], ids=["inside a frame", "inside a TLS record"])
@pytest.mark.parametrize("established", [True, False], ids=["established", "before HELLO"])
def test_dripping(deployment: Deployment, inside_record: bool, established: bool) -> None:
    """A byte now and then keeps no connection alive beyond the limit."""
    limits = {"frame_timeout": 0.4, "handshake_timeout": 1.0, "idle_timeout": 30.0}
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits=limits))
    start = monotonic()
    with running(server) as port, deployment.ref_client(port, until="welcome" if established else "tls") as client:
        frame = p.frame(p.MESSAGE, bytes(900), 1 if established else 0, 0, client.key_out)
        data = frame
        link = client.link
        if inside_record:
            assert link.tls is not None
            link.tls.write(frame)
            data = link.outgoing.read()
        for byte in data:
            try:
                (link.sock.sendall if inside_record else client.send_raw)(bytes([byte]))
                link.fill(0.02)  # CLOSE, or the end
                break
            except TimeoutError:
                assert monotonic() - start < 15  # all of it takes more than 18
            except OSError:
                break
        assert 0.2 < monotonic() - start < 5


@pytest.mark.parametrize("until", ["tcp", "tls"])
def test_handshake_timeout(deployment: Deployment, until: str, caplog: pytest.LogCaptureFixture) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True, limits={"handshake_timeout": 1.0}))
    start = monotonic()
    with running(server) as port, deployment.ref_client(port, until=until) as client:
        with pytest.raises(Ended):
            client.link.need(1, 5)
        assert 0.5 < monotonic() - start < 5
    assert [record.levelname for record in logged(caplog)] == ["WARNING"]


def test_who_does_not_read(deployment: Deployment) -> None:
    """Replies that nobody takes block one connection, for the frame's limit."""
    gone = threading.Event()

    class Handler(RequestHandler):
        def respond(self, message: bytes) -> bytes:
            return b"x" * 8_000_000

        def finish(self) -> None:
            gone.set()

    server = ThreadingTCPServer(ADDRESS, Handler, deployment.server_security(raw=True, limits={"frame_timeout": 0.3}))
    with running(server) as port, deployment.ref_client(port, max_frame=2**24) as client:
        for _ in range(4):
            client.send_message(b"more")
        assert gone.wait(5)


# The end of a server


@pytest.mark.parametrize("server_class", SERVERS)
def test_drain(deployment: Deployment, server_class: type[TCPServer]) -> None:
    """The request in progress is answered, those behind it are not touched, and the client can tell."""
    handler = Held()
    server = server_class(ADDRESS, handler, deployment.server_security(raw=True))
    with running(server) as port, deployment.ref_client(port) as client:
        client.send_message(b"one")
        assert handler.got.wait(5)
        client.send_message(b"two")
        with shutting_down(server) as thread:
            # It must not return before the handler: give it time to be wrong.
            thread.join(0.1)
            assert thread.is_alive()
            handler.go.set()
            end = client.expect_end()
        assert [(frame.kind, frame.reply_to) for frame in end.frames] == [(p.MESSAGE, 1), (p.CLOSE, 0)]
        assert (end.code, end.last, end.how, end.close_notify) == (2, 1, "fin", True)
    assert handler.messages == [b"one"]


def test_drain_tells_the_idle(deployment: Deployment) -> None:
    server = ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True))
    with running(server) as port, deployment.ref_client(port) as used, deployment.ref_client(port) as fresh:
        used.request(b"x")
        with shutting_down(server):
            ends = used.expect_end(), fresh.expect_end()
        assert [(end.code, end.last) for end in ends] == [(2, 1), (2, 0)]


def test_hello_while_shutting_down(deployment: Deployment) -> None:
    handler = Held()
    server = ThreadingTCPServer(ADDRESS, handler, deployment.server_security(raw=True))
    with (
        running(server) as port,
        deployment.ref_client(port) as client,
        deployment.ref_client(port, until="tls") as late,
    ):
        client.send_message(b"one")
        assert handler.got.wait(5)
        with shutting_down(server):
            eventually(lambda: server._busy() == 5)
            late.send_hello()
            with pytest.raises(Rejected) as rejected:
                late.read_welcome()
            late.expect_end()
            handler.go.set()
            client.expect_end()
        assert rejected.value.code == 5


def test_our_client_follows_to_the_next_server(deployment: Deployment) -> None:
    security = deployment.server_security()
    first = ThreadingTCPServer(ADDRESS, lambda message: "first", security)
    with running(first) as port:
        client = deployment.client(port)
        assert client.send_request(1) == "first"
    with running(ThreadingTCPServer(("127.0.0.1", port), lambda message: "second", security)), client:
        assert client.send_request(1) == "second"


def test_drain_timeout(deployment: Deployment) -> None:
    """A handler that does not end holds shutdown() and server_close() for the limit, and no longer."""
    handler = Held()
    server = ThreadingTCPServer(ADDRESS, handler, deployment.server_security(raw=True, limits={"drain_timeout": 0.3}))
    with ExitStack() as stack:
        with running(server) as port:
            client = stack.enter_context(deployment.ref_client(port))
            client.send_message(b"one")
            assert handler.got.wait(5)
            start = monotonic()
        assert 0.2 < monotonic() - start < 4
        # Its connection was ended under it.
        assert client.expect_end().frames == []
        handler.go.set()


def test_shutdown_before_serve_forever_has_begun(deployment: Deployment) -> None:
    with ThreadingTCPServer(ADDRESS, echo, deployment.server_security()) as server:
        with shutting_down(server):
            thread = threading.Thread(target=server.serve_forever, args=[0.01])
            thread.start()
        thread.join(5)
        assert not thread.is_alive()


def test_wait_over_in_the_queue(deployment: Deployment) -> None:
    handler = Held()
    with (
        running(ThreadingTCPServer(ADDRESS, handler, deployment.server_security(raw=True))) as port,
        deployment.ref_client(port) as client,
    ):
        key = client.key_out
        frames = [p.frame(p.MESSAGE, b"one", 1, 0, key), p.frame(p.MESSAGE, b"two", 2, 0, key, wait=5)]
        client.send_raw(b"".join([*frames, p.frame(p.MESSAGE, b"three", 3, 0, key, wait=3000)]))
        client.next_sequence = 4
        for number, payload in ((1, b"one"), (2, b"two"), (3, b"three")):
            client.incoming.unanswered[number] = (p.MESSAGE, payload)
            client.incoming.requests.add(number)
        assert handler.got.wait(5)
        threading.Event().wait(0.06)  # what is tested is that time passes
        handler.go.set()
        got = [client.read_frame() for _ in range(3)]
        assert [(frame.kind, frame.reply_to) for frame in got] == [(p.MESSAGE, 1), (p.FAULT, 2), (p.MESSAGE, 3)]
        assert got[1].code == 20
        client.send_close()
        assert client.expect_end().last == 3
    assert handler.messages == [b"one", b"three"]


# Errors outside of any handler


def test_no_more_threads(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that gets no thread ends; the next one is served."""
    real = threading.Thread.start
    failed = []

    def start(self: threading.Thread) -> None:
        if self.name.startswith("sealwire") and len(failed) < 2:
            failed.append(self.name)
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with running(ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True))) as port:
        eventually(lambda: failed == ["sealwire read-ahead"])  # which the server can do without
        with socket.create_connection(("127.0.0.1", port)) as sock:
            assert sock.recv(1) == b""
        with deployment.client(port, raw=True) as client:
            assert client.send_request(b"x") == b"x"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert re.search("not served: RuntimeError at (?!socketserver)", caplog.text)


def test_a_client_that_leaves(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """Without CLOSE: not the server's error, and no more than a line at INFO."""
    caplog.set_level(logging.INFO, "sealwire")
    with running(ThreadingTCPServer(ADDRESS, echo, deployment.server_security(raw=True))) as port:
        with deployment.ref_client(port) as client:
            client.request(b"x")
            client.link.abort(reset=True)
        eventually(lambda: logged(caplog))
    assert [record.levelname for record in logged(caplog)] == ["INFO"]


# Children


Start = Callable[..., ChildServer]


@pytest.mark.parametrize("server_class", [*SERVERS, ForkingTCPServer])
def test_a_listener_is_all_that_it_needs(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, server_class: type[TCPServer]
) -> None:
    """As in a service with systemd's RestrictAddressFamilies=AF_UNIX, which cannot make a socket for TCP."""

    make = socket.socket.__init__

    def restricted(self: socket.socket, family: int, kind: int, proto: int = 0, fileno: int | None = None) -> None:
        if fileno is None and family != socket.AF_UNIX:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        make(self, family, kind, proto, fileno)

    listener = socket.create_server(ADDRESS)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "__init__", restricted)
        server = server_class(None, echo, deployment.server_security(), listener=listener)
    assert server.server_address == listener.getsockname()
    assert server.socket is listener
    server.server_close()
    assert listener.fileno() == -1


@pytest.fixture
def start(deployment: Deployment, tmp_path: Any) -> Start:
    return lambda **options: ChildServer(deployment, tmp_path, **options)


@pytest.mark.parametrize("server_class", ["ForkingTCPServer", "ThreadingTCPServer"])
def test_in_a_process(deployment: Deployment, start: Start, server_class: str) -> None:
    with start(server=server_class) as server, deployment.ref_client(server.port) as client:
        assert client.request(b"hello") == (p.MESSAGE, b"HELLO", 1)
        forked = int(client.request(b"pid")[1])
        assert (forked != server.pid) is (server_class == "ForkingTCPServer")
        client.send_close()
        assert client.expect_end().code == 0
        eventually(lambda: not children(server.pid))


def test_forking_with_our_client(deployment: Deployment, start: Start) -> None:
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.client(server.port, raw=True)) for _ in range(5)]
        for _ in range(3):
            assert [client.send_request(b"x") for client in clients] == [b"X"] * 5
        assert len(children(server.pid)) == 5
        assert len({client.send_request(b"pid") for client in clients}) == 5


def test_forking_reaps(deployment: Deployment, start: Start) -> None:
    with start() as server:
        for number in range(20):
            with deployment.client(server.port, raw=True) as client:
                assert client.send_request(b"%d" % number) == b"%d" % number
        eventually(lambda: not children(server.pid))
        assert server.seen() == [str(number) for number in range(20)]


def test_forking_child_killed(deployment: Deployment, start: Start) -> None:
    with (
        start() as server,
        deployment.client(server.port, raw=True) as victim,
        deployment.client(server.port, raw=True) as other,
    ):
        assert other.send_request(b"one") == b"ONE"
        with pytest.raises(Exception, match="may or may not have acted"):
            victim.send_request(b"die")
        assert other.send_request(b"two") == b"TWO"
        assert victim.send_request(b"three") == b"THREE"
        eventually(lambda: len(children(server.pid)) == 2)


def test_forking_max_connections(deployment: Deployment, start: Start) -> None:
    with start(limits={"max_connections": 2}) as server, ExitStack() as stack:
        inside = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(2)]
        for client in inside:
            client.request(b"in")
        with pytest.raises(Rejected) as rejected:
            deployment.ref_client(server.port)
        assert rejected.value.code == 4
        for client in inside:
            client.send_close()
            client.expect_end()
        eventually(lambda: not children(server.pid))
        with deployment.client(server.port, raw=True) as ours:
            assert ours.send_request(b"x") == b"X"


def test_forking_max_connections_between_hello_and_the_first_request(deployment: Deployment, start: Start) -> None:
    with (
        start(limits={"max_connections": 1}) as server,
        deployment.ref_client(server.port) as slow,
        deployment.ref_client(server.port) as fast,
    ):
        fast.request(b"in")
        number = slow.send_message(b"too late")
        try:
            with pytest.raises(Closed) as closed:
                slow.receive(number)
            assert (closed.value.frame.code, closed.value.frame.last) == (2, 0)
        finally:
            for client in (fast, slow):
                client.send_close()
                client.expect_end()


def test_forking_idlers_make_room(deployment: Deployment, start: Start) -> None:
    with (
        start(limits={"max_handshakes": 3, "handshake_timeout": 30.0, "drain_timeout": 0.1}) as server,
        ExitStack() as stack,
    ):
        good = stack.enter_context(deployment.client(server.port, raw=True))
        assert good.send_request(b"x") == b"X"
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with deployment.client(server.port, raw=True) as client:
            assert client.send_request(b"y") == b"Y"
        # The one that had proved itself was not the one that had to go.
        assert good.send_request(b"z") == b"Z"


def test_forking_drain(deployment: Deployment, start: Start) -> None:
    with start() as server, deployment.ref_client(server.port) as busy, deployment.ref_client(server.port) as idle:
        idle.request(b"x")
        busy.send_message(b"hold")
        eventually(lambda: "hold" in server.seen())
        busy.send_message(b"behind")
        server.interrupt()
        assert idle.expect_end().code == 2
        server.release()
        end = busy.expect_end()
        assert [(frame.kind, frame.payload) for frame in end.frames[:-1]] == [(p.MESSAGE, b"HOLD")]
        assert (end.code, end.last) == (2, 1)
        assert "behind" not in server.seen()


def test_forking_drain_timeout(deployment: Deployment, start: Start) -> None:
    with start(limits={"drain_timeout": 0.3}) as server, deployment.ref_client(server.port) as client:
        client.send_message(b"hold")
        eventually(lambda: "hold" in server.seen())
        began = monotonic()
        server.interrupt()
        server.process.wait(10)
        assert monotonic() - began < 4
        assert client.expect_end().frames == []


def test_forking_closed_right_after_shutdown(deployment: Deployment, start: Start) -> None:
    """The usual order of a test: shutdown() returns when nobody touches the children any more."""
    with start(mode="thread") as server:
        for _ in range(5):
            with deployment.client(server.port, raw=True) as client:
                client.send_request(b"x")


def test_no_descriptors_left(deployment: Deployment, start: Start) -> None:
    """Out of descriptors the server waits without spinning, and goes on when there are some."""
    with start(
        server="ThreadingTCPServer", descriptors=24, limits={"handshake_timeout": 30.0, "drain_timeout": 0.1}
    ) as server:

        def cpu() -> float:
            with open(f"/proc/{server.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / 100

        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            eventually(lambda: "cannot accept: Too many open files" in server.log.read_text())
            before = cpu()
            threading.Event().wait(1)
            assert cpu() - before < 0.5
            with deployment.client(server.port, raw=True, timeout=10) as client:
                assert client.send_request(b"x") == b"X"
        with deployment.client(server.port, raw=True, timeout=10) as client:
            assert client.send_request(b"x") == b"X"

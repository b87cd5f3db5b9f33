"""Servers and clients on Unix sockets."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reference.client import RefClient
from reference.peer import Rejected
from sealwire import (
    AsyncUnixServer,
    ConfigurationError,
    ForkingUnixStreamServer,
    Limits,
    PeerNotAllowed,
    RequestHandler,
    Security,
    SynchronousUnixClient,
    ThreadingUnixStreamServer,
    TransportError,
    UnixStreamServer,
    decode,
    encode,
    recv_msg,
    send_msg,
)
from sealwire.errors import HandshakeRejected
from support.aio import serving as serving_on_a_loop
from support.service import KEY_ID, QUICK, SECRET, Deployment, nothing_left

SERVERS = [UnixStreamServer, ThreadingUnixStreamServer, ForkingUnixStreamServer]
SERVICE = "orders"
MINE = f"uid:{os.getuid()}"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


class Who(RequestHandler):
    def respond(self, message: Any) -> Any:
        assert self.peer is not None
        return [message, self.peer.uid, self.peer.gid, self.peer.pid]


def trusted(deployment: Deployment, role: str, **options: Any) -> Security:
    return deployment.security(role, **({"peers": [MINE], "service": SERVICE, "limits": Limits(**QUICK)} | options))


def client(deployment: Deployment, path: str, role: str = "client", **options: Any) -> SynchronousUnixClient:
    return SynchronousUnixClient(path, 5, 5, security=trusted(deployment, role, **options))


def reference(path: str, *, server_name: str = f"/{SERVICE}") -> RefClient:
    """The reference client on a Unix socket: the same frames without TLS, both halves of the binding zero."""
    return RefClient(path, None, ca="", cert=None, key=None, psk=SECRET, key_id=KEY_ID, server_name=server_name)


@pytest.mark.parametrize("cls", SERVERS)
def test_the_reference_client(deployment: Deployment, path: str, cls: type[UnixStreamServer]) -> None:
    server = cls(path, lambda message: message.upper(), trusted(deployment, "server", raw=True))
    with nothing_left(), serving(server):
        for size in (0, 1, 20_000, 300_000):
            with reference(path) as one:
                assert one.request(b"x" * size)[1] == b"X" * size
        for name in ("", "localhost/orders", "localhost", "/other"):
            with pytest.raises(Rejected, match="3"):
                reference(path, server_name=name)


@contextmanager
def serving(server: UnixStreamServer) -> Iterator[str]:
    """Serve in a thread until the end of the block; the socket's file is gone then."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    with server:
        thread.start()
        try:
            yield str(server.server_address)
        finally:
            server.shutdown()
            thread.join(20)
    assert not os.path.exists(str(server.server_address))


@pytest.mark.parametrize("cls", SERVERS)
def test_requests(deployment: Deployment, path: str, cls: type[UnixStreamServer]) -> None:
    with nothing_left(), serving(cls(path, Who, trusted(deployment, "server"))), client(deployment, path) as one:
        expected = [os.getuid(), os.getgid(), os.getpid()]
        for number in range(3):
            assert one.send_request(number) == [number, *expected]
        assert one.ping() < 5
        assert one.peer is not None
        assert (one.peer.dns, one.peer.uid, one.peer.pid) == ((), os.getuid(), os.getpid())
        assert str(one.peer) == f"uid:{os.getuid()} gid:{os.getgid()} (process {os.getpid()})"
        assert repr(one) == f"<SynchronousUnixClient {path}, open>"


def test_the_articles_way(deployment: Deployment, path: str) -> None:
    class Handler(RequestHandler):
        def handle(self) -> None:
            while (message := recv_msg(self.request)) is not None:
                send_msg(self.request, encode({"got": decode(message)}))

    server = ThreadingUnixStreamServer(path, Handler, trusted(deployment, "server"))
    with serving(server), client(deployment, path) as one:
        assert one.send_request("x") == {"got": "x"}


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_files_mode(deployment: Deployment, path: str, mode: int) -> None:
    mask = os.umask(0o077)
    try:
        with UnixStreamServer(path, Who, trusted(deployment, "server"), mode=mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(mask)
    assert not os.path.exists(path)
    with UnixStreamServer(path, Who, trusted(deployment, "server")):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_that_was_left_behind(deployment: Deployment, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(ThreadingUnixStreamServer(path, Who, trusted(deployment, "server"))), client(deployment, path) as one:
        assert one.send_request(1)[0] == 1


def test_what_is_in_use_is_left_alone(deployment: Deployment, path: str) -> None:
    with serving(ThreadingUnixStreamServer(path, Who, trusted(deployment, "server"))), client(deployment, path) as one:
        with pytest.raises(TransportError, match=f"cannot listen on {path}: Address already in use"):
            UnixStreamServer(path, Who, trusted(deployment, "server"))
        assert one.send_request(1)[0] == 1
    Path(path).write_text("somebody's")
    with pytest.raises(TransportError, match="cannot listen on"):
        UnixStreamServer(path, Who, trusted(deployment, "server"))
    assert Path(path).read_text() == "somebody's"


def test_anothers_file_is_not_removed(deployment: Deployment, path: str) -> None:
    server = UnixStreamServer(path, Who, trusted(deployment, "server"))
    os.unlink(path)
    Path(path).write_text("somebody's")
    server.server_close()
    assert Path(path).read_text() == "somebody's"


@pytest.mark.parametrize("peer", [f"uid:{os.getuid()}", f"gid:{os.getgid()}"])
def test_a_process_as_a_peer(deployment: Deployment, path: str, peer: str) -> None:
    security = trusted(deployment, "server", peers=[peer])
    with serving(ThreadingUnixStreamServer(path, Who, security)), client(deployment, path) as one:
        assert one.send_request(1)[0] == 1


def test_a_peer_that_is_not_listed(deployment: Deployment, path: str) -> None:
    security = trusted(deployment, "server", peers=[f"uid:{os.getuid() + 1}"])
    with serving(ThreadingUnixStreamServer(path, Who, security)):
        with client(deployment, path) as one, pytest.raises(HandshakeRejected):
            one.connect()
        with client(deployment, path, peers=[f"uid:{os.getuid() + 1}"]) as one, pytest.raises(PeerNotAllowed):
            one.connect()


def test_another_service(deployment: Deployment, path: str) -> None:
    server = ThreadingUnixStreamServer(path, Who, trusted(deployment, "server"))
    with (
        serving(server),
        client(deployment, path, service="invoices") as one,
        pytest.raises(HandshakeRejected),
    ):
        one.connect()


@pytest.mark.parametrize(
    ("options", "why"),
    [({"service": ""}, "give the service a name"), ({"peers": None}, "List the users of acceptable processes")],
)
def test_what_takes_the_place_of_the_host_name(deployment: Deployment, path: str, options: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        client(deployment, path, **options)
    with pytest.raises(ConfigurationError, match=why):
        UnixStreamServer(path, Who, trusted(deployment, "server", **options))


def test_no_server_there(deployment: Deployment, path: str) -> None:
    with (
        client(deployment, path) as one,
        pytest.raises(TransportError, match=f"cannot connect to {path}: No such file"),
    ):
        one.connect()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(0)
        with nothing_left(), client(deployment, path) as one:
            one.timeout = 0.2
            with pytest.raises(TimeoutError):
                one.connect()


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_system_that_does_not_identify_the_peer(
    deployment: Deployment, path: str, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    security = trusted(deployment, "server")
    with ExitStack() as stack:
        if kind == "threads":
            stack.enter_context(serving(ThreadingUnixStreamServer(path, Who, security)))
        else:
            stack.enter_context(serving_on_a_loop(lambda: AsyncUnixServer(path, Who, security)))
        stranger = stack.enter_context(socket.socket(socket.AF_UNIX))
        stranger.connect(path)
        assert stranger.recv(1) == b""
    assert "refused: this system cannot identify the process" in caplog.text


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_listener_without_a_file(deployment: Deployment, kind: str) -> None:
    """systemd may pass an abstract socket."""
    name = f"\0sealwire test {os.getpid()} {kind}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    security = trusted(deployment, "server")
    with ExitStack() as stack:
        if kind == "threads":
            server = ThreadingUnixStreamServer(listener.getsockname(), Who, security, listener=listener)
            stack.enter_context(serving(server))
        else:
            stack.enter_context(serving_on_a_loop(lambda: AsyncUnixServer("", Who, security, listener=listener)))
        one = stack.enter_context(client(deployment, name))
        assert one.send_request(1)[0] == 1
        assert repr(one) == f"<SynchronousUnixClient @{name[1:]}, open>"


def test_bad_arguments(deployment: Deployment, path: str) -> None:
    security = trusted(deployment, "server")
    for mode in (-1, 0o1000, "0600", None):
        with pytest.raises(ConfigurationError, match="mode must be"):
            UnixStreamServer(path, Who, security, mode=mode)
    with (
        nothing_left(),
        pytest.raises(TransportError, match=r"cannot listen on .*: the path has 205 bytes, and that of"),
    ):
        UnixStreamServer("/tmp/" + "x" * 200, Who, security)
    with pytest.raises(ConfigurationError, match="needs a Security"):
        UnixStreamServer(path, Who, None)
    for entry in ("uid:", "uid:x", "uid:-1", "gid:007"):
        with pytest.raises(ConfigurationError):
            trusted(deployment, "server", peers=[entry])

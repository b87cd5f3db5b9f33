"""The relay that is a bad network, with plain sockets at both ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sealwire import ConfigurationError
from sealwire.testing import Faults, Relay

pytestmark = pytest.mark.usefixtures("clean")

SENT = bytes(range(100))


class Server:
    """Sends back what comes until its client sends no more."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, name="echo")

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                self.received.append(b"")
                try:
                    while data := sock.recv(4096):
                        self.received[-1] += data
                        sock.sendall(data)
                except OSError:
                    pass


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()
    with Server(listener) as server:
        yield server


def connected(relay: Relay) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(relay.address, str) else socket.AF_INET)
    sock.settimeout(20)
    try:
        sock.connect(relay.address)
    except OSError:
        sock.close()
        raise
    return sock


def exchange(relay: Relay, data: bytes = SENT) -> bytes:
    """Return what comes back, to the end. Raises ConnectionResetError."""
    with connected(relay) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        came = b""
        while piece := sock.recv(4096):
            came += piece
        return came


def test_without_faults(server: Server) -> None:
    with Relay(server.listener.getsockname()) as relay:
        for _ in range(3):
            assert exchange(relay) == SENT
        assert exchange(relay, bytes(3_000_000)) == bytes(3_000_000)
        assert relay.connections == 4


@pytest.mark.parametrize("faults", [Faults(latency=0.05), Faults(bandwidth=5000), Faults(split=1)], ids=repr)
def test_everything_arrives(server: Server, faults: Faults) -> None:
    with Relay(server.listener.getsockname(), to_server=faults, to_client=faults) as relay:
        assert exchange(relay) == SENT


@pytest.mark.parametrize("bit", [0, 7, 8 * 99])
def test_one_bit(server: Server, bit: int) -> None:
    expected = bytearray(SENT)
    expected[bit // 8] ^= 0x80 >> bit % 8
    with Relay(server.listener.getsockname(), to_client=Faults(flip=bit, split=3)) as relay:
        assert exchange(relay) == expected
        assert server.received == [SENT]


@pytest.mark.parametrize("number", [0, 1, 60, 100])
def test_cut(server: Server, number: int) -> None:
    with Relay(server.listener.getsockname(), to_client=Faults(cut_after=number)) as relay:
        assert exchange(relay) == SENT[:number]


@pytest.mark.parametrize("number", [0, 60])
def test_reset(server: Server, number: int) -> None:
    with Relay(server.listener.getsockname(), to_server=Faults(reset_after=number, connections=1)) as relay:
        with suppress(OSError):
            assert SENT.startswith(exchange(relay))
        assert exchange(relay) == SENT
    assert len(server.received[0]) <= number


def test_stall(server: Server) -> None:
    with Relay(server.listener.getsockname(), to_client=Faults(stall_after=10)) as relay, connected(relay) as sock:
        sock.sendall(SENT)
        assert sock.recv(10, socket.MSG_WAITALL) == SENT[:10]
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(20)
        relay.resume()
        assert sock.recv(90, socket.MSG_WAITALL) == SENT[10:]


@pytest.mark.parametrize("reset", [False, True])
def test_end(server: Server, reset: bool) -> None:
    with Relay(server.listener.getsockname()) as relay, connected(relay) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        relay.end(reset=reset)
        if reset and not isinstance(relay.address, str):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""


def test_no_server_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with Relay(address) as relay, pytest.raises(OSError):  # noqa: PT011 - any: it depends on when the reset comes
        exchange(relay)


@pytest.mark.parametrize("faults", [{"latency": -1}, {"bandwidth": 0}, {"split": 0}, {"cut_after": -1}], ids=repr)
def test_mistakes(faults: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(faults))):
        Faults(**faults)

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from sealwire import listeners
from sealwire.errors import ConfigurationError, TransportError
from sealwire.listeners import SocketFile, address_text, bind, cannot_listen, family_of, is_unix, listen


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.7", 7443), "192.0.2.7:7443"),
        (("localhost", 7443), "localhost:7443"),
        (("::1", 7443), "[::1]:7443"),
        (("fe80::1", 7443, 0, 2), "[fe80::1]:7443"),
        ("", "a local peer"),
        (None, "a local peer"),
    ],
)
def test_addresses(address: object, text: str) -> None:
    assert address_text(address) == text


@pytest.mark.parametrize(("host", "family"), [("::1", socket.AF_INET6), ("127.0.0.1", socket.AF_INET)])
def test_families(host: str, family: socket.AddressFamily) -> None:
    assert family_of((host, 0)) is family


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("::1", "::1")])
def test_an_address_that_is_taken_is_named(kind: socket.SocketKind, host: str, other: str) -> None:
    with (
        socket.socket(family_of((host, 0)), kind) as first,
        socket.socket(family_of((other, 0)), kind) as second,
    ):
        bind(first, (host, 0))
        if kind == socket.SOCK_STREAM:
            first.listen()
        port = first.getsockname()[1]
        address = re.escape(address_text((other, port)))
        with pytest.raises(TransportError, match=f"cannot listen on {address}: Address already in use by this process"):
            bind(second, (other, port))


def test_the_other_process_is_named() -> None:
    code = "import socket; one = socket.create_server(('', 0)); print(one.getsockname()[1], flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with pytest.raises(TransportError, match=rf"in use by process {process.pid} \(python"):
            listen(("127.0.0.1", port))
        process.stdin.close()


def test_errors_have_a_remedy_and_no_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TransportError) as refused:
        listen(taken.getsockname())
    assert refused.value.errno == errno.EADDRINUSE
    assert str(refused.value).startswith("cannot listen on 127.0.0.1:")
    assert str(refused.value).endswith("; choose another port, or end what listens there")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        SocketFile(path, 0o600).bind(first)
        with pytest.raises(TransportError, match=r"^cannot listen on .*; choose another path, or end what listens"):
            SocketFile(path, 0o600).bind(second)
        with pytest.raises(TransportError, match=r"; choose a shorter one$"):
            SocketFile("/tmp/" + "x" * 200, 0o600).bind(second)


def test_errors_without_a_number() -> None:
    assert str(cannot_listen("x:1", OSError("odd"))).endswith("cannot listen on x:1: odd")


class TestSocketFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        return str(tmp_path / "socket")

    @pytest.mark.parametrize("mode", [-1, 0o1000, "660", True, None])
    def test_modes_that_are_none(self, path: str, mode: object) -> None:
        with pytest.raises(ConfigurationError, match="like 0o660"):
            SocketFile(path, mode)

    def test_mode_and_removal(self, path: str) -> None:
        file = SocketFile(path, 0o660)
        with socket.socket(socket.AF_UNIX) as sock:
            file.bind(sock)
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            assert is_unix(sock)
        file.remove()
        assert not os.path.lexists(path)
        file.remove()

    def test_a_file_left_behind_is_replaced(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        first, second = SocketFile(path, 0o600), SocketFile(path, 0o600)
        with socket.socket(socket.AF_UNIX) as sock:
            first.bind(sock)
            with socket.socket(socket.AF_UNIX) as other, pytest.raises(TransportError, match="already in use"):
                second.bind(other)

    def test_a_file_that_is_not_a_socket_stays(self, path: str) -> None:
        Path(path).write_text("text")
        with socket.socket(socket.AF_UNIX) as sock, pytest.raises(TransportError, match="already in use"):
            SocketFile(path, 0o600).bind(sock)
        assert Path(path).read_text() == "text"

    def test_one_of_several_servers_replaces_a_file_left_behind(self, path: str) -> None:
        """However their steps mix: exactly one listens, and the file is its own."""
        for _ in range(20):
            with suppress(FileNotFoundError):
                os.unlink(path)
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(path)
            go_in, go_out = os.pipe()
            told_in, told_out = os.pipe()
            children = []
            for _ in range(3):
                if (pid := os.fork()) == 0:
                    self.try_to_listen(path, go_in, go_out, told_out)
                children.append(pid)
            os.close(told_out)
            os.close(go_in)
            results = b"".join(os.read(told_in, 1) for _ in children)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
            os.close(go_out)  # they may go
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
            os.close(told_in)
            assert sorted(results) == sorted(b"ynn")

    @staticmethod
    def try_to_listen(path: str, go_in: int, go_out: int, told: int) -> NoReturn:
        os.close(go_out)
        status = 1
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    SocketFile(path, 0o600).bind(sock)
                    os.write(told, b"y")
                except TransportError as error:
                    os.write(told, b"n" if "in use by process" in str(error) else b"?")
                os.read(go_in, 1)
            status = 0
        finally:
            os._exit(status)

    @pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
    def test_it_listens_with_its_mode_as_soon_as_it_is_there(self, tmp_path: Path, umask: int) -> None:
        """Also in a directory so deep that no longer name would do."""
        for length in (20, 107 - len(os.fsencode(tmp_path)) - 1):
            path = str(tmp_path / ("x" * length))
            before = os.umask(umask)
            try:
                with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as client:
                    SocketFile(path, 0o660).bind(sock)
                    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
                    client.connect(path)
            finally:
                os.umask(before)
            assert os.listdir(tmp_path) == [os.path.basename(path)]
            os.unlink(path)

    def test_a_directory_that_stays_locked(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listeners, "_LOCK_WAIT", 0.02)
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        with (
            socket.socket(socket.AF_UNIX) as sock,
            pytest.raises(TransportError, match="another process holds the lock"),
        ):
            SocketFile(path, 0o600).bind(sock)
        os.close(directory)

    def test_the_file_of_a_successor_stays_even_with_our_inode_number(self, path: str) -> None:
        file, successor = SocketFile(path, 0o600), SocketFile(path, 0o600)
        with socket.socket(socket.AF_UNIX) as sock:
            file.bind(sock)
        with socket.socket(socket.AF_UNIX) as sock:
            successor.bind(sock)
            os.utime(path, (0, 0))  # the clock of the file system may not have moved on
            file.remove()
            assert os.path.lexists(path)

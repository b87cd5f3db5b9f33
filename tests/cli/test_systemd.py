"""`sealwire serve` under systemd: the sockets that it is handed, and what it says of itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sealwire import Security, SynchronousTCPClient, SynchronousUnixClient
from sealwire.cli import systemd
from sealwire.cli.certs.renew import renew
from sealwire.cli.serve import serve
from sealwire.errors import ConfigurationError
from support.commands import Served
from support.documents import ROOT, blocks
from support.service import children, eventually

ACTIVATE = shutil.which("systemd-socket-activate")
HOW = ["", "--server forking", "--workers 2", "--workers 2 --loop asyncio"]


@contextmanager
def activated(directory: Path, listen: str, *arguments: str, notify: str = "") -> Iterator[None]:
    """systemd-socket-activate, which starts the service when somebody connects."""
    assert ACTIVATE is not None
    variables = [f"--setenv=PYTHONPATH={os.pathsep.join(filter(None, sys.path))}", f"--setenv=NOTIFY_SOCKET={notify}"]
    command = [sys.executable, "-W", "error", "-m", "sealwire", "serve", "orders:respond", "--config", "server.toml"]
    process = subprocess.Popen(
        [ACTIVATE, "--listen", listen, *variables, *command, *arguments],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    with process:
        assert b"Listening on" in process.stderr.readline()
        try:
            yield
            process.send_signal(signal.SIGTERM)
            log_text = process.stderr.read()
            assert process.wait(20) == 0, log_text
            assert b"Traceback" not in log_text
        finally:
            process.kill()


@contextmanager
def notified(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        said.bind(address)
        said.settimeout(20)
        yield said


@pytest.mark.skipif(ACTIVATE is None, reason="systemd-socket-activate is not installed")
@pytest.mark.parametrize("how", HOW)
def test_tcp_socket_of_systemd(directory: Path, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    security = Security.from_toml(directory / "client.toml")
    with (
        activated(directory, f"127.0.0.1:{port}", *how.split()),
        SynchronousTCPClient("localhost", port, 20, 20, security=security) as client,
    ):
        assert client.send_request(1) == {"got": 1}


@pytest.mark.skipif(ACTIVATE is None, reason="systemd-socket-activate is not installed")
@pytest.mark.parametrize("how", HOW)
def test_unix_socket_of_systemd(directory: Path, how: str) -> None:
    """It needs no certificates."""
    for role in ("server", "client"):
        config = directory / f"{role}.toml"
        kept = [line for line in config.read_text().splitlines() if line.startswith(("ca =", "keyring ="))]
        config.write_text("\n".join([*kept, 'service = "orders"', f'peers = ["uid:{os.getuid()}"]']))
    path = directory / "orders.sock"
    security = Security.from_toml(directory / "client.toml")
    with (
        notified(str(directory / "notify")) as said,
        activated(directory, str(path), *how.split(), notify=str(directory / "notify")),
        SynchronousUnixClient(path, 20, 20, security=security) as client,
    ):
        assert client.send_request(1) == {"got": 1}
        assert said.recv(1000) == f"READY=1\nSTATUS=serving on {path}".encode()


@pytest.mark.parametrize("how", ["", "--workers 2", "--loop asyncio"])
@pytest.mark.parametrize("abstract", [False, True])
def test_says_what_it_does(directory: Path, monkeypatch: pytest.MonkeyPatch, how: str, abstract: bool) -> None:
    name = f"sealwire-test-{os.getpid()}" if abstract else str(directory / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
    with notified(f"\0{name}" if abstract else name) as said, Served(directory, *how.split()) as served:
        ready = said.recv(1000).split(b"\n")
        assert ready == [b"READY=1", f"STATUS=serving on 127.0.0.1:{served.port}".encode()]
        served.signal(signal.SIGHUP)
        reloading, since = said.recv(1000).split(b"\n")
        assert reloading == b"RELOADING=1"
        assert since.startswith(b"MONOTONIC_USEC=")
        assert said.recv(1000) == b"READY=1"
        security = Security.from_toml(directory / "client.toml")
        with (
            SynchronousTCPClient("localhost", served.port, 20, 20, security=security) as client,
            ThreadPoolExecutor() as background,
        ):
            reply = background.submit(client.send_request, "hold")
            assert served.printed() == "in hand"
            served.signal(signal.SIGTERM)
            assert said.recv(1000).startswith(b"STOPPING=1\n")
            # Who stops is not ready again.
            served.signal(signal.SIGHUP)
            served.release()
            assert reply.result(20) == {"got": "hold"}
        assert served.status() == 0
        said.setblocking(False)
        with pytest.raises(BlockingIOError):
            said.recv(1000)


def test_reload_while_there_is_no_worker(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker to wait for, and systemd hears of it."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))
    with (
        notified(str(directory / "notify")) as said,
        Served(directory, "--workers", "1") as served,
    ):
        assert said.recv(1000).startswith(b"READY=1")
        for _ in range(4):
            worker = eventually(lambda: children(served.process.pid))[0]
            os.kill(worker, signal.SIGKILL)
            served.logged(f"worker {worker} exited")
        assert children(served.process.pid) == []  # the next one has to wait
        served.signal(signal.SIGHUP)
        assert said.recv(1000).startswith(b"RELOADING=1")
        assert said.recv(1000) == b"READY=1"
        assert children(served.process.pid) == []
        served.signal(signal.SIGTERM)
        assert served.status() == 0


def test_nobody_reads_what_it_says(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on all the same."""
    path = str(directory / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with notified(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            while other.sendto(b"x", path):
                pass
        done = threading.Event()
        thread = threading.Thread(target=lambda: (systemd.notify("READY=1"), done.set()), daemon=True)
        thread.start()
        assert done.wait(10)
        thread.join()
    systemd.notify("READY=1")  # and there is nobody any more


def test_sockets_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptor 3 is for others here, so that nothing but its number is looked at."""

    def given(pid: int, count: str) -> None:
        for name, value in (("LISTEN_PID", str(pid)), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", "x")):
            monkeypatch.setenv(name, value)

    assert systemd.listener() is None
    given(os.getpid() + 1, "1")
    assert systemd.listener() is None
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()
    for count in ("0", "2", "many"):
        given(os.getpid(), count)
        with pytest.raises(ConfigurationError, match="one is expected"):
            systemd.listener()


@pytest.mark.parametrize("kind", ["datagram", "not listening", "file"])
def test_what_is_not_a_listening_socket(directory: Path, kind: str) -> None:
    """In a process of its own, whose descriptor 3 is ours to give."""
    made = {
        "datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()",
        "not listening": "socket.socket().detach()",
        "file": "os.open(os.devnull, os.O_RDONLY)",
    }[kind]
    script = (
        f"import os, socket, sys; os.dup2({made}, 3); os.environ |= dict(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "sys.argv[1:] = ['serve', 'orders:respond', '--config', 'server.toml']; "
        "from sealwire.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=directory, capture_output=True, text=True, timeout=30, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert ("is not a socket" if kind == "file" else "does not listen") in done.stderr
    assert done.stderr.count("\n") == 1


UNITS = ROOT / "docs/how-to/run-under-systemd.md"


def verify(place: Path, units: dict[str, str], program: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name, text in units.items():
        (place / name).write_text(text.replace(program, sys.executable))
    done = subprocess.run(
        [analyze, "verify", *(place / name for name in units)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def started(unit: str) -> tuple[str, list[str]]:
    """The program that a unit starts, and its arguments."""
    start = re.search("^ExecStart=(.*)$", unit, re.MULTILINE)
    assert start is not None
    program, *arguments = shlex.split(start[1])
    assert Path(program).name == "sealwire"
    return program, arguments


def test_units_of_the_guide(tmp_path: Path) -> None:
    units = {options["unit"]: text for language, options, text in blocks(UNITS) if language == "ini"}
    assert list(units) == ["orders.socket", "orders.service"]
    program, (command, *arguments) = started(units["orders.service"])
    assert command == "serve"
    # click knows every option, and takes its value.
    with serve.make_context("serve", arguments) as context:
        assert (context.params["workers"], context.params["name"]) == (4, "orders:respond")
    verify(tmp_path, units, program)


def test_units_for_renewal(tmp_path: Path) -> None:
    names = ("sealwire-renew.service", "sealwire-renew.timer")
    units = {name: (ROOT / "deploy/systemd" / name).read_text() for name in names}
    program, (*command, once, at, part, _, directory, _, reload) = started(units[names[0]])
    assert (command, once, at, directory) == (["certs", "renew"], "--once", "--at", "/etc/orders/certs")
    assert reload == "systemctl try-restart orders.service"
    with renew.make_context("renew", [once, at, part]) as context:
        assert context.params["part"] == pytest.approx(0.66)
    verify(tmp_path, units, program)

"""`sealwire serve` on several addresses, with --check-config, --app-dir and --reload, as a process of its own."""

from __future__ import annotations

import base64
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sealwire import ConnectionClosed, Security, SynchronousTCPClient, SynchronousUnixClient, TransportError
from sealwire.pki.files import PRIVATE, NewFile, write_files
from support.commands import ORDERS, Served, furnish, sealwire, write_config
from support.service import Deployment

US = f"uid:{os.geteuid()}"
KINDS = ["--server threading", "--server forking", "--server single", "--workers 2", "--workers 2 --loop asyncio"]
SCRIPT = [sys.executable, "-P", "-m", "sealwire"]


@pytest.fixture
def directory(deployment: Deployment) -> Iterator[Path]:
    """Configurations for TCP and Unix sockets at once, in a directory whose paths are short enough for sockets."""
    with TemporaryDirectory() as name:
        place = Path(name)
        furnish(place, deployment)
        for role in ("server", "client"):
            cert, key = deployment.files[role]
            peers = [US, "dns:client.example"] if role == "server" else [US, "dns:localhost"]
            more: dict[str, Any] = {"peers": peers, "service": "shop"}
            write_config(place / f"{role}.toml", deployment, cert=str(cert), key=str(key), **more)
        yield place


def security(directory: Path) -> Security:
    return Security.from_toml(directory / "client.toml")


def ports(served: Served) -> list[int]:
    places = served.line.partition(" on ")[2].split(", ")
    return [int(place.rpartition(":")[2]) for place in places if ":" in place]


def ask(directory: Path, port: int, message: Any = 1) -> Any:
    with SynchronousTCPClient("localhost", port, 10, 20, security=security(directory)) as client:
        return client.send_request(message)


def ask_unix(directory: Path, path: str, message: Any = 1) -> Any:
    with SynchronousUnixClient(directory / path, 10, 20, security=security(directory)) as client:
        return client.send_request(message)


@pytest.mark.parametrize("kind", KINDS)
def test_one_server_on_several_addresses(directory: Path, kind: str) -> None:
    binds = ["--bind", "127.0.0.1:0", "-b", "unix:one", "--bind", "127.0.0.1:0", "--bind", "unix:two"]
    with Served(directory, *kind.split(), *binds, script=SCRIPT) as served:
        first, second = ports(served)
        assert served.line == f"serving orders:respond on 127.0.0.1:{first}, one, 127.0.0.1:{second}, two"
        for _ in range(2):
            for port in (first, second):
                assert ask(directory, port) == {"got": 1}
            for path in ("one", "two"):
                assert ask_unix(directory, path) == {"got": 1}
        served.signal(signal.SIGTERM)
        assert served.status() == 0
    assert not (directory / "one").exists()
    assert not (directory / "two").exists()


def test_the_bounds_count_for_all_addresses_together(directory: Path) -> None:
    with (directory / "server.toml").open("a") as file:
        file.write("[limits]\nmax_connections = 1\n")
    binds = ["--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0"]
    with Served(directory, *binds, script=SCRIPT) as served:
        first, second = ports(served)
        with SynchronousTCPClient("localhost", first, security=security(directory)) as client:
            client.send_request(1)
            with (
                SynchronousTCPClient("localhost", second, 0.5, 0.5, security=security(directory)) as other,
                pytest.raises(TransportError, match="overloaded"),
            ):
                other.send_request(1)


def test_a_unix_socket_alone(directory: Path) -> None:
    with Served(directory, "--bind", "unix:one", script=SCRIPT) as served:
        assert served.line == "serving orders:respond on one"
        assert ask_unix(directory, "one") == {"got": 1}
        assert (directory / "one").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_a_unix_socket_needs_no_certificates(directory: Path, kind: str) -> None:
    """Nor do the commands that ask there, or look at the configuration."""
    keys = '[[key]]\nid = "k1"\nsecret = "' + base64.b64encode(bytes(32)).decode() + '"\n'
    write_files([NewFile(directory / "keyring.toml", keys.encode(), PRIVATE)])
    (directory / "server.toml").write_text(f'keyring = "keyring.toml"\npeers = ["{US}"]\nservice = "orders"\n')
    with Served(directory, *kind.split(), "--bind", "unix:one", "--admin", "unix:admin", script=SCRIPT):
        there = ["unix:one", "--config", "server.toml"]
        for command, says in (
            (["call", *there, "5"], '"got": 5'),
            (["ping", *there], " ms"),
            (["doctor", *there], "note "),
            (["check", *there], "no key ends"),
            (["status", "--config", "server.toml"], "credentials: none"),
            (["status", "--admin", "unix:admin"], "credentials   no files"),
            (["check", "--admin", "unix:admin"], "SEALWIRE OK"),
        ):
            result = subprocess.run([*SCRIPT, *command], cwd=directory, capture_output=True, text=True)
            assert (result.returncode, says in result.stdout) == (0, True), (command, result)


@pytest.mark.parametrize("bind", [["--bind", "127.0.0.1:0"], ["--bind", "unix:one", "--bind", "127.0.0.1:0"]])
def test_a_port_needs_a_ca(directory: Path, bind: list[str]) -> None:
    lines = (directory / "server.toml").read_text().splitlines()
    kept = [line for line in lines if line.partition(" ")[0] not in ("cert", "key", "ca")]
    (directory / "server.toml").write_text("\n".join(kept))
    result = sealwire(directory, "serve", "orders:respond", "--config", "server.toml", *bind, status=1)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: server.toml: ca is missing; name the file with the certificates")


def test_a_descriptor_that_listens(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = ["serve", "orders:respond", "--config", "server.toml", "--bind", f"fd:{listener.fileno()}"]
        process = subprocess.Popen(
            [*SCRIPT, *command], cwd=directory, stdout=subprocess.PIPE, text=True, pass_fds=[listener.fileno()]
        )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"serving orders:respond on 127.0.0.1:{port}\n"
            assert ask(directory, port) == {"got": 1}
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--bind", "fd:0"], 1, "fd:0 is a "),
        (["--bind", "fd:77"], 1, "fd:77 is a descriptor that is not a socket: Bad file descriptor"),
        (["--bind", "fd:x"], 64, "'fd:x': the port must be"),
        (["--bind", "localhost"], 64, "'localhost': it has no port; expected HOST:PORT like 0.0.0.0:7443"),
        (["--bind", "unix:"], 64, "there is no path after unix:"),
        (["--bind", "unix:no/where"], 1, "no/where"),
        (["--bind", "192.0.2.1:0"], 1, "192.0.2.1"),
        (["--bind", "[::1]:0", "--port", "1"], 64, "--bind takes the place of --host, --port and --nats"),
        (["--reload", "--check-config"], 64, "--check-config ends at once"),
    ],
)
def test_what_cannot_be_listened_on(directory: Path, arguments: list[str], status: int, says: str) -> None:
    done = sealwire(directory, "serve", "orders:respond", "--config", "server.toml", *arguments, status=status)
    assert says in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_nothing_is_left_if_one_address_is_taken(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        binds = ["--bind", "unix:one", "--bind", f"127.0.0.1:{port}"]
        done = sealwire(directory, "serve", "orders:respond", "--config", "server.toml", *binds, status=1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert not (directory / "one").exists()


def test_both_kinds_of_peers_are_needed_for_both_kinds_of_sockets(directory: Path, deployment: Deployment) -> None:
    cert, key = deployment.files["server"]
    write_config(directory / "server.toml", deployment, cert=str(cert), key=str(key), peers=["dns:client.example"])
    binds = ["--bind", "127.0.0.1:0", "--bind", "unix:one"]
    done = sealwire(directory, "serve", "orders:respond", "--config", "server.toml", *binds, status=1)
    assert "server.toml: a Unix socket has no host name: give the service a name" in done.stderr


def test_a_reload_must_suit_all_addresses(directory: Path, deployment: Deployment) -> None:
    with Served(directory, "--bind", "127.0.0.1:0", "--bind", "unix:one", script=SCRIPT) as served:
        cert, key = deployment.files["server"]
        write_config(directory / "server.toml", deployment, cert=str(cert), key=str(key), peers=["dns:client.example"])
        served.signal(signal.SIGHUP)
        assert "a Unix socket has no host name" in served.logged("reload")
        assert "rejected" in served.logged("SIGHUP")
        assert ask_unix(directory, "one") == {"got": 1}


# --check-config and --app-dir


def test_a_good_configuration(directory: Path) -> None:
    done = sealwire(directory, "serve", "orders:respond", "--config", "server.toml", "--check-config")
    assert done.stdout == "server.toml and orders:respond can be served\n"
    assert done.stderr == ""


def test_nothing_listens_for_a_check(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--bind", place, "--bind", "unix:one", "--check-config"]
        sealwire(directory, "serve", "orders:respond", "--config", "server.toml", *options)


def test_a_check_says_what_is_wrong(directory: Path, deployment: Deployment) -> None:
    def check(handler: str = "orders:respond", *arguments: str, status: int = 1) -> str:
        command = ["serve", handler, "--config", "server.toml", "--check-config", *arguments]
        return sealwire(directory, *command, status=status).stderr

    assert "orders has no nothing; it has respond" in check("orders:nothing")
    assert "there is no module 'nothing'" in check("nothing:respond")
    assert "the admin endpoint has no passwords" in check("orders:respond", "--admin", "0.0.0.0:1", status=64)
    expired, its_key = deployment.expired("old", "localhost")
    write_config(directory / "server.toml", deployment, cert=str(expired), key=str(its_key), peers=[US])
    assert "expired" in check()


def test_a_module_in_another_directory(directory: Path) -> None:
    (directory / "app").mkdir()
    (directory / "orders.py").rename(directory / "app" / "shop.py")
    with Served(directory, "--app-dir", "app", handler="shop:respond", script=SCRIPT) as served:
        assert ask(directory, served.port) == {"got": 1}
    command = ["serve", "shop:respond", "--config", "server.toml", "--app-dir", "nothing"]
    assert "Directory 'nothing' does not exist" in sealwire(directory, *command, status=64).stderr


# --reload


@pytest.mark.parametrize("kind", ["--server threading", "--workers 2"])
def test_a_change_is_served(directory: Path, kind: str) -> None:
    with Served(directory, "--reload", *kind.split(), script=SCRIPT) as served:
        assert ask(directory, served.port) == {"got": 1}
        (directory / "orders.py").write_text(ORDERS.replace('"got": message', '"new": message'))
        assert served.logged("has changed").endswith("orders.py has changed: serving again\n")
        assert served.printed() == served.line, "at the same port"
        assert ask(directory, served.port) == {"new": 1}
        served.signal(signal.SIGINT)
        assert served.status() == 0


def test_a_mistake_in_the_source_is_shown_and_waited_out(directory: Path) -> None:
    (directory / "orders.py").write_text("def respond(:\n")
    command = ["serve", "orders:respond", "--config", "server.toml", "--reload", "--bind", "unix:one"]
    process = subprocess.Popen(
        [*SCRIPT, *command], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "SyntaxError at " in process.stderr.readline()
            assert process.stderr.readline() == "waiting for a change of the source\n"
            (directory / "orders.py").write_text(ORDERS)
            assert process.stdout.readline() == "serving orders:respond on one\n"
            assert ask_unix(directory, "one") == {"got": 1}
        finally:
            process.terminate()
        process.stderr.read()
    assert process.returncode == 0
    assert not (directory / "one").exists()


def test_a_child_ends_with_its_parent(directory: Path) -> None:
    with Served(directory, "--reload", script=SCRIPT) as served:
        pid = ask(directory, served.port, "pid")["got"]
        assert pid != served.process.pid
        child = os.pidfd_open(pid)
        served.process.kill()
        os.read(served.stderr.fileno(), 1 << 16)
        assert select.select([child], [], [], 20)[0], "it has ended"
        os.close(child)
        with pytest.raises((TransportError, ConnectionClosed)):
            ask(directory, served.port)

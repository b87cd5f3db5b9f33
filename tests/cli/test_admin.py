"""The admin endpoint of `sealwire serve`, from outside, also by clients that mean it no good."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner

from cli.test_reload import CLIENT, KINDS, OTHER, client, configure
from sealwire import SealwireError
from sealwire.admin.http import MAX_BYTES, MAX_CONNECTIONS, MAX_SECONDS
from sealwire.cli.app import app
from sealwire.cli.top import _shown
from sealwire.metrics import COLUMNS, FAMILIES
from support.commands import Served, sealwire
from support.service import Deployment, children, eventually


class Admin:
    """The endpoint of a served process."""

    def __init__(self, served: Served) -> None:
        self.port = int(re.sub(r".*:(\d+)\n", r"\1", served.logged("admin endpoint on 127.0.0.1:")))

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.getheader("Content-Type", "")
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        status, text, kind = self.ask("/status")
        assert (status, kind) == (200, "application/json")
        found: dict[str, Any] = json.loads(text)
        return found

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)


def serve(directory: Path, kind: str = "--server threading") -> Served:
    return Served(directory, *kind.split(), "--admin", "127.0.0.1:0")


@pytest.fixture
def admin(directory: Path) -> Iterator[Admin]:
    with serve(directory) as served:
        yield Admin(served)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_service(directory: Path, deployment: Deployment, kind: str) -> None:
    """Connections by peer and requests, of all processes; and the configuration, before and after a reload."""
    with serve(directory, kind) as served, client(served) as caller:
        admin = Admin(served)
        for number in range(5):
            assert caller.send_request(number) == {"got": number}
        assert admin.ask("/livez")[:2] == (200, "alive\n")
        assert eventually(lambda: admin.ask("/readyz")[0] == 200)

        def counted() -> bool:
            found = admin.status()
            peers = found["connections"]["by_peer"]
            return bool(found["requests"] == 5 and len(peers) == 1 and "dns:client.example" in next(iter(peers)))

        eventually(counted, timeout=10)
        found = admin.status()
        assert (found["pid"], found["state"], found["problems"]) == (served.process.pid, "serving", [])
        assert found["connections"]["established"] == 1
        assert found["files"]["configuration"]["generation"] == 1
        if "--workers" in kind:
            assert sorted(each["pid"] for each in found["workers"]) == sorted(children(served.process.pid))
        configure(directory, deployment, CLIENT, more="[[[")
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: rejected")
        places = [admin.status(), *admin.status().get("workers", [])]
        assert all("not valid TOML" in each["files"]["configuration"]["refused"]["why"] for each in places)
        configure(directory, deployment, CLIENT, OTHER)
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: the content of the files is in service")
        places = [admin.status(), *admin.status().get("workers", [])]
        assert [each["files"]["configuration"]["generation"] for each in places] == [2] * len(places)
        assert len({each["files"]["configuration"]["digest"] for each in places}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_is_not_ready_while_it_drains(directory: Path, kind: str) -> None:
    with serve(directory, kind) as served, client(served) as caller:
        admin = Admin(served)
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.append(caller.send_request("hold")))
        thread.start()
        assert served.printed() == "in hand"
        served.signal(signal.SIGTERM)
        served.logged("finishing the requests in progress")
        assert eventually(lambda: admin.ask("/readyz")[:2] == (503, "the server is draining\n"))
        assert admin.ask("/livez")[0] == 200
        served.release()
        thread.join(20)
        assert outcome == [{"got": "hold"}]
        assert served.status() == 0


@pytest.mark.parametrize("kind", ["--server threading", "--workers 2"])
def test_metrics(directory: Path, kind: str) -> None:
    with serve(directory, kind) as served, client(served) as caller:
        admin = Admin(served)
        assert caller.send_request(1) == {"got": 1}
        eventually(
            lambda: 'sealwire_server_connections{state="established"} 1.0' in admin.ask("/metrics")[1], timeout=10
        )
        status, text, found = admin.ask("/metrics")
        assert status == 200
        assert found.startswith("text/plain; version=")
        for line in (
            'sealwire_server_connections{state="established"} 1.0',
            'sealwire_generation{files="configuration"} 1.0',
            "sealwire_server_serving 1.0",
        ):
            assert line in text
        assert "client.example" not in text, "no label has a peer"


def test_requests_of_workers_that_have_ended_count(directory: Path) -> None:
    """A counter never goes back."""
    with serve(directory, "--workers 1") as served, client(served) as caller:
        admin = Admin(served)
        for number in range(3):
            caller.send_request(number)
        eventually(lambda: admin.status()["requests"] == 3, timeout=10)
        for number, how in ((signal.SIGTERM, "replaced"), (signal.SIGKILL, "failed")):
            worker = children(served.process.pid)[0]
            os.kill(worker, number)
            eventually(lambda worker=worker: worker not in [0, *children(served.process.pid)])
            eventually(lambda: children(served.process.pid))
            assert admin.status()["requests"] == 3
            eventually(lambda how=how: admin.status()["counters"]["worker_restarts"][how] == 1)


@pytest.mark.parametrize("kind", ["--workers 1", "--server forking"])
def test_a_request_that_dies_with_its_process(directory: Path, kind: str) -> None:
    """It is not in flight for ever."""
    with serve(directory, kind) as served, client(served) as caller:
        admin = Admin(served)
        process = caller.send_request("pid")["got"]

        def lose() -> None:
            with suppress(SealwireError):
                caller.send_request("hold")

        thread = threading.Thread(target=lose)
        thread.start()
        assert served.printed() == "in hand"
        assert admin.status()["counters"]["requests_in_flight"] == 1
        os.kill(process, signal.SIGKILL)
        eventually(lambda: admin.status()["counters"]["requests_in_flight"] == 0, timeout=10)
        found = admin.status()["counters"]["requests"]
        assert (found["answered"], found["dropped"]) == (1, 1)
        thread.join(20)


def test_unix_socket(directory: Path) -> None:
    path = directory / "admin.sock"
    with Served(directory, "--admin", f"unix:{path}") as served:
        served.logged("admin endpoint on unix:")
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /livez HTTP/1.0\r\nHost: anything\r\n\r\n")
            assert sock.makefile("rb").read().endswith(b"\r\n\r\nalive\n")
        served.signal(signal.SIGTERM)
        assert served.status() == 0
        assert not path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_shows_no_secret_and_no_message(directory: Path, deployment: Deployment, kind: str) -> None:
    """Nor after a message that was refused, a handler that failed, and a keyring that could not be read."""
    secrets = re.findall(r'secret = "(.+)"', deployment.place.keyring.read_text())
    secrets += deployment.files["server"][1].read_text().splitlines()[1:-1]
    assert len(secrets) > 2
    with serve(directory, kind) as served, client(served) as caller:
        admin = Admin(served)
        assert caller.send_request("Hunter2") == {"got": "Hunter2"}
        with pytest.raises(SealwireError):
            caller.send_request("fail")
        configure(directory, deployment, CLIENT, more=f'keyring = "{secrets[0]}"')
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: rejected")
        eventually(lambda: admin.status()["requests"] == 2, timeout=10)
        pages = "".join(admin.ask(path)[1] for path in ("/status", "/metrics", "/livez", "/readyz", "/"))
    assert "client.example" in pages
    assert not [each for each in (*secrets, "Hunter2", "words of the message") if each in pages]


def test_in_the_configuration(directory: Path, deployment: Deployment) -> None:
    """A change needs a restart, as the log says."""
    configure(directory, deployment, CLIENT, more='[admin]\nlisten = "127.0.0.1:0"\n')
    with Served(directory) as served:
        admin = Admin(served)
        configure(directory, deployment, CLIENT, more='[admin]\nlisten = "127.0.0.1:1"\n')
        served.signal(signal.SIGHUP)
        served.logged("admin.listen is '127.0.0.1:1' in the file and stays '127.0.0.1:0'")
        served.logged("SIGHUP: the content of the files is in service")
        assert admin.status()["files"]["configuration"]["waits_for_restart"] == ["admin.listen"]


def test_top_shows_all_that_is_counted() -> None:
    counters = {name: family.shown([1.0] * COLUMNS) for name, family in FAMILIES.items()}
    report = {
        "state": "serving", "connections": {"established": 1, "handshaking": 0, "by_peer": {}}, "requests": 1,
        "problems": [], "counters": counters,
    }  # fmt: skip
    text = "\n".join(map(str, _shown(report, None, 1.0, 1000).renderables))
    for name, family in FAMILIES.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name.replace('_', ' ')}  ")]
        assert all(f"1 {value}" in line for value in family.values), line
    some = {"counters": {"handshakes": {"complete": 2, "tls": 0}}}  # of an older server
    text = "\n".join(map(str, _shown(report | some, None, 1.0, 1000).renderables))
    assert "handshakes  2 complete" in text
    assert "tls" not in text


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0:9090", "on this machine alone, not on 0.0.0.0"),
        ("[::]:9090", "on this machine alone, not on ::"),
        ("192.0.2.1:9090", "on this machine alone, not on 192.0.2.1"),
        ("example.com:9090", "on this machine alone, not on example.com"),
        ("9090", "expected 127.0.0.1:9090"),
        ("127.0.0.1:70000", "expected 127.0.0.1:9090"),
        ("unix:", "is not a path"),
        ("unix:\0x", "an abstract Unix socket has no permissions"),
    ],
)
def test_other_addresses_are_refused(directory: Path, address: str, why: str) -> None:
    done = sealwire(
        directory,
        "serve",
        "orders:respond",
        "--config",
        "server.toml",
        "--admin",
        address,
        status=1 if "unix" in address else 64,
    )
    assert why in done.stderr


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "GET", {}, 404),
        ("/status?x=1", "GET", {}, 200),
        ("/livez", "HEAD", {}, 200),
        ("/livez", "POST", {}, 405),
        ("/livez", "DELETE", {}, 405),
        ("/livez", "BREW", {}, 501),
        ("/livez", "GET", {"Content-Length": "5"}, 400),
        ("/livez", "GET", {"Transfer-Encoding": "chunked"}, 400),
        ("/livez", "GET", {"Host": "evil.example"}, 421),
        ("/livez", "GET", {"Host": "evil.example:9090"}, 421),
        ("/livez", "GET", {"Host": "[::1]:9090"}, 200),
    ],
)
def test_requests(admin: Admin, path: str, method: str, headers: dict[str, str], status: int) -> None:
    found, text, _ = admin.ask(path, method, **headers)
    assert found == status
    assert (text == "") is (method == "HEAD")


def test_a_head_that_is_too_long(admin: Admin) -> None:
    with admin.connect() as sock:
        sock.sendall(b"GET /livez HTTP/1.0\r\n" + b"X: y\r\n" * MAX_BYTES)
        answer = b""
        try:
            while received := sock.recv(1000):
                answer += received
        except ConnectionError:
            pass
    assert b"alive" not in answer or len(answer) < 1000
    assert admin.ask("/livez")[0] == 200


def test_slow_and_silent_connections_keep_nobody_out(directory: Path) -> None:
    """Neither the next probe nor the service; and each is ended when its time is over, however it drips."""
    with serve(directory) as served, client(served) as caller, ExitStack() as stack:
        admin = Admin(served)
        flood = [stack.enter_context(admin.connect()) for _ in range(10 * MAX_CONNECTIONS)]
        assert admin.ask("/livez")[0] == 200
        assert caller.send_request(1) == {"got": 1}
        slow = stack.enter_context(admin.connect())
        begun = monotonic()
        ended = False
        while not ended and monotonic() < begun + 4 * MAX_SECONDS:
            try:
                slow.sendall(b"G")
                slow.settimeout(0.2)
                ended = slow.recv(1) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                ended = True
        assert ended
        assert flood[0].recv(1) == b""
        assert admin.ask("/readyz")[0] == 200
        assert caller.send_request(2) == {"got": 2}


def test_status_and_top_ask_it(directory: Path, deployment: Deployment) -> None:
    with serve(directory, "--workers 2") as served, client(served) as caller:
        address = f"127.0.0.1:{Admin(served).port}"
        assert caller.send_request(1) == {"got": 1}

        def run(*arguments: str, status: int = 0) -> str:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == status, result.output
            return result.stdout

        eventually(lambda: "1 of dns:client.example" in run("status", "--admin", address), timeout=10)
        shown = run("status", "--admin", address)
        assert f"process {served.process.pid} is serving" in shown
        assert shown.count("worker") == 2
        looks = run("top", address, "--times", "2", "--every", "0.1")
        assert "serving   1 connections" in looks
        assert looks.endswith("\n")
        configure(directory, deployment, CLIENT, more="[[[")
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: rejected")
        assert "not valid TOML" in run("status", "--admin", address, status=1)
        found = json.loads(run("status", "--admin", address, "--json", status=1))
        assert found["findings"][0]["severity"] == "warning"
    result = CliRunner().invoke(app, ["status", "--admin", address])
    assert result.exit_code == 69
    assert "with `--admin" in result.stderr
    assert CliRunner().invoke(app, ["status"]).exit_code == 64

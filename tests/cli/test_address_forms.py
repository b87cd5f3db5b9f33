"""`sealwire call` and `sealwire ping` with each form of address, as processes, and how each fails."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sealwire import Security, ThreadingTCPServer, ThreadingUnixStreamServer
from sealwire.dtls import ThreadingUDPServer
from sealwire.nats import NATSServer
from support.aio import serving
from support.commands import sealwire, write_config
from support.nats import shared_nats
from support.service import Deployment, running

FORMS = ["tcp", "unix", "udp", "pool", "pool of sockets", "nats"]
US = [f"uid:{os.geteuid()}"]
OTHER = [f"uid:{os.geteuid() + 1}"]


class Place:
    """A directory with configurations, and servers of each form.

    ``addresses``: their addresses. ``strange``: those of servers that do not know this client.
    """

    def __init__(self, directory: Path, deployment: Deployment, stack: ExitStack) -> None:
        self.directory = directory
        stranger_directory = directory / "stranger"
        stranger_directory.mkdir(mode=0o700)
        stranger = Deployment(stranger_directory).files["client"]
        for (cert, key), name in (
            (deployment.files["client"], "client"),
            (deployment.files["other client"], "other"),
            (stranger, "stranger"),
        ):
            write_config(directory / f"{name}.toml", deployment, cert=str(cert), key=str(key))
            peers = US if name == "client" else OTHER
            more = {"peers": peers, "service": "shop"}
            write_config(directory / f"{name} unix.toml", deployment, cert=str(cert), key=str(key), **more)
            more = {"peers": ["dns:localhost"]}  # on NATS there is no host name
            write_config(directory / f"{name} nats.toml", deployment, cert=str(cert), key=str(key), **more)

        def respond(message: Any) -> Any:
            if message == "fail":
                raise ValueError
            if message == "hold":
                (directory / "go").read_text()
            return message

        cert, key = deployment.files["server"]
        options: dict[str, Any] = {"cert": str(cert), "key": str(key)}
        write_config(directory / "server.toml", deployment, peers=["dns:client.example"], **options)
        write_config(directory / "server unix.toml", deployment, peers=US, service="shop", **options)
        security = Security.from_toml(directory / "server.toml")
        local = Security.from_toml(directory / "server unix.toml")

        def serve(server: Any) -> int:
            return stack.enter_context(running(server))

        tcp = [serve(ThreadingTCPServer(("127.0.0.1", 0), respond, security)) for _ in range(2)]
        udp = serve(ThreadingUDPServer(("127.0.0.1", 0), respond, security))
        subject = f"t{secrets.token_hex(6)}"
        stack.enter_context(serving(lambda: NATSServer(shared_nats().url, respond, security, subject=subject)))
        for name in ("one", "two"):
            serve(ThreadingUnixStreamServer(str(directory / name), respond, local))
        self.addresses = {
            "tcp": f"localhost:{tcp[0]}",
            "unix": "unix:one",
            "udp": f"udp://localhost:{udp}",
            "pool": ",".join(f"localhost:{port}" for port in tcp),
            "pool of sockets": "unix:one,unix:two",
            "nats": f"{shared_nats().url}/{subject}",
        }

    def run(self, form: str, command: str, *arguments: str, name: str = "client", **options: Any) -> Any:
        address = self.addresses.get(form, form)
        kind = " unix" if "unix:" in address else " nats" if "nats:" in address else ""
        config = f"{name}{kind}.toml"
        return sealwire(self.directory, command, address, *arguments, "--config", config, **options)


@pytest.fixture(scope="module")
def place(deployment: Deployment) -> Iterator[Place]:
    # The path of a socket has at most 107 bytes, and those of pytest's directories may be longer.
    with TemporaryDirectory() as directory, ExitStack() as stack:
        os.mkfifo(Path(directory, "go"))
        yield Place(Path(directory), deployment, stack)


@pytest.mark.parametrize("form", FORMS)
def test_calls(place: Place, form: str) -> None:
    assert json.loads(place.run(form, "call", '{"a": [1, "ä"]}').stdout) == {"a": [1, "ä"]}
    assert place.run(form, "call", "--lines", stdin="1\n2\n").stdout == "1\n2\n"


@pytest.mark.parametrize("form", FORMS)
def test_pings(place: Place, form: str) -> None:
    *times, head, counts, _ = place.run(form, "ping", "--count", "2").stdout.splitlines()
    assert len(times) == 2
    assert head == f"--- {place.addresses[form]} ping statistics ---"
    assert counts == "2 pings sent, 2 answered, 0% lost"


@pytest.mark.parametrize("form", FORMS)
def test_a_handlers_fault(place: Place, form: str) -> None:
    assert "the server answered fault 19" in place.run(form, "call", '"fail"', status=70).stderr


@pytest.mark.parametrize("form", FORMS)
def test_a_deadline(place: Place, form: str) -> None:
    assert "in time" in place.run(form, "call", '"hold"', "--wait", "0.5", status=75).stderr
    (place.directory / "go").write_text("")


@pytest.mark.parametrize("form", FORMS)
def test_a_client_that_is_refused(place: Place, form: str) -> None:
    done = place.run(form, "call", "1", name="other", status=77)
    says = "uid" if "unix:" in place.addresses[form] else "not authorised"
    assert says in done.stderr


@pytest.mark.parametrize("form", ["tcp", "udp", "pool", "nats"])
def test_a_certificate_of_another_ca_is_refused(place: Place, form: str) -> None:
    done = place.run(form, "call", "1", name="stranger", status=77)
    assert "certificate" in done.stderr


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", [["call", "1"], ["ping"]])
def test_nobody_there(place: Place, form: str, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = {
        "tcp": f"localhost:{port}",
        "unix": "unix:three",
        "udp": f"udp://localhost:{port}",
        "pool": f"localhost:{port},127.0.0.1:{port}",
        "pool of sockets": "unix:three,unix:four",
        "nats": f"{shared_nats().url}/nobody",
    }[form]
    done = place.run(address, command[0], *command[1:], "--timeout", "3", status=69)
    assert done.stderr.startswith("Error: ")
    assert any(text in done.stderr for text in ("refused", "No such file", "nobody")), done.stderr


def test_no_parts_on_udp(place: Place) -> None:
    assert "UDP carries no replies in parts" in place.run("udp", "call", "1", "--stream", status=64).stderr


@pytest.mark.parametrize("form", ["tcp", "unix", "udp"])
def test_measures(place: Place, form: str) -> None:
    found = json.loads(place.run(form, "bench", "--requests", "20", "--clients", "2", "--json").stdout)
    assert (found["server"], found["answered"], found["errors"]) == (place.addresses[form], 20, [])


@pytest.mark.parametrize("form", ["pool", "nats"])
def test_what_bench_cannot_measure(place: Place, form: str) -> None:
    assert "this command does not know that form" in place.run(form, "bench", status=64).stderr

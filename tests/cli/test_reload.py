"""`sealwire serve` reads its configuration again at SIGHUP, all of it and in all of its processes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from sealwire import ConnectionClosed, HandshakeRejected, SealwireError, Security, SynchronousTCPClient
from support.commands import Served, write_config
from support.service import Deployment, eventually

KINDS = [
    "--server threading",
    "--server forking",
    "--server single",
    "--workers 2",
    "--workers 2 --loop asyncio",
]
CLIENT, OTHER = "dns:client.example", "dns:other.example"


def configure(directory: Path, deployment: Deployment, *peers: str, more: str = "") -> None:
    """Write server.toml, by renaming."""
    cert, key = deployment.files["server"]
    new = directory / "new.toml"
    write_config(new, deployment, cert=str(cert), key=str(key), peers=list(peers))
    with new.open("a") as file:
        file.write(more)
    os.rename(new, directory / "server.toml")


def client(served: Served, config: str = "client.toml") -> SynchronousTCPClient:
    security = Security.from_toml(served.directory / config)
    return SynchronousTCPClient("127.0.0.1", served.port, 10, 20, security=security)


@pytest.fixture
def other(directory: Path, deployment: Deployment) -> str:
    """The configuration file of another client."""
    cert, key = deployment.place.leaf("other", "other.example")
    write_config(directory / "other.toml", deployment, cert=str(cert), key=str(key))
    return "other.toml"


def is_refused(caller: SynchronousTCPClient) -> bool:
    try:
        caller.send_request(1)
    except (HandshakeRejected, ConnectionClosed) as error:
        return isinstance(error, HandshakeRejected)
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_leaves_and_comes_back(directory: Path, deployment: Deployment, kind: str) -> None:
    with Served(directory, *kind.split()) as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}
        configure(directory, deployment, OTHER)
        served.signal(signal.SIGHUP)
        served.logged("configuration: generation 2 in service")
        served.logged("SIGHUP: the content of the files is in service")
        served.logged("the peer is not on the list of peers any more")
        eventually(lambda: is_refused(caller), timeout=10)
        configure(directory, deployment, CLIENT)
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: the content of the files is in service")
        assert caller.send_request(2) == {"got": 2}


@pytest.mark.parametrize(
    "kind", ["--server threading", "--server forking", "--workers 2", "--workers 2 --loop asyncio"]
)
def test_a_peer_leaves_under_load(directory: Path, deployment: Deployment, other: str, kind: str) -> None:
    """It is cut off, and the other one, on one connection and on new ones, loses nothing."""
    configure(directory, deployment, CLIENT, OTHER)
    stop, failures, replies = threading.Event(), list[SealwireError](), [0]

    def load(fresh: bool) -> None:
        caller = client(served, other)
        number = 0
        while not stop.is_set():
            number += 1
            try:
                assert caller.send_request(number) == {"got": number}
                replies[0] += 1
            except SealwireError as error:
                failures.append(error)
            if fresh:
                caller.close()
        caller.close()

    with Served(directory, *kind.split()) as served, client(served) as caller:
        threads = [threading.Thread(target=load, args=[fresh]) for fresh in (False, True)]
        for thread in threads:
            thread.start()
        try:
            assert caller.send_request(1) == {"got": 1}
            configure(directory, deployment, OTHER)
            served.signal(signal.SIGHUP)
            eventually(lambda: is_refused(caller), timeout=10)
            before = replies[0]
            eventually(lambda: replies[0] > before + 20, timeout=20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", ["syntax", "key", "type"])
def test_what_is_wrong_is_named_and_not_taken(directory: Path, deployment: Deployment, kind: str, bad: str) -> None:
    more, why = {
        "syntax": ("[[[", "server.toml: not valid TOML"),
        "key": ("color = 5", "server.toml: unknown key 'color'"),
        "type": ('[allowlist]\ntypes = ["nowhere:Order"]', "server.toml: allowlist.types: nowhere:Order: there is no"),
    }[bad]
    with Served(directory, *kind.split()) as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}
        configure(directory, deployment, OTHER, more=more)
        served.signal(signal.SIGHUP)
        assert why in served.logged("configuration: reload rejected, keeping generation 1")
        served.logged("SIGHUP: rejected, see above")
        assert caller.send_request(2) == {"got": 2}
        configure(directory, deployment, CLIENT, OTHER)
        served.signal(signal.SIGHUP)
        served.logged("SIGHUP: the content of the files is in service")
        assert caller.send_request(3) == {"got": 3}


def test_a_file_that_cannot_be_read(directory: Path) -> None:
    with Served(directory) as served, client(served) as caller:
        (directory / "server.toml").unlink()
        served.signal(signal.SIGHUP)
        assert "server.toml: cannot be read" in served.logged("configuration: reload rejected")
        served.logged("SIGHUP: rejected, see above")
        assert caller.send_request(1) == {"got": 1}


@pytest.mark.parametrize("kind", ["--server threading", "--workers 2"])
def test_what_needs_a_restart_is_named(directory: Path, deployment: Deployment, kind: str) -> None:
    """The rest of the same file comes into service."""
    with Served(directory, *kind.split()) as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}
        configure(directory, deployment, CLIENT, more="[limits]\nmax_connections = 7\nmax_frame = 2000\n")
        served.signal(signal.SIGHUP)
        assert "limits.max_connections is 7 in the file and stays 512" in served.logged("restart it")
        served.logged("SIGHUP: the content of the files is in service")
        with client(served) as fresh, pytest.raises(SealwireError, match="at most 1948"):
            fresh.send_request("x" * 3000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_storm(directory: Path, deployment: Deployment, kind: str) -> None:
    """Signals come while others are worked on, and while the file changes."""
    with Served(directory, *kind.split()) as served, client(served) as caller:
        for number in range(60):
            configure(directory, deployment, CLIENT, *[OTHER][: number % 2])
            served.signal(signal.SIGHUP)
            if number % 10 == 0:
                assert caller.send_request(number) == {"got": number}
        configure(directory, deployment, OTHER)
        served.signal(signal.SIGHUP)
        eventually(lambda: is_refused(caller), timeout=20)
        served.signal(signal.SIGTERM)
        assert served.status() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_while_it_drains(directory: Path, deployment: Deployment, kind: str) -> None:
    """Nothing is read any more, and the request in progress is finished."""
    with Served(directory, *kind.split()) as served, client(served) as caller:
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.append(caller.send_request("hold")))
        thread.start()
        assert served.printed() == "in hand"
        served.signal(signal.SIGTERM)
        served.logged("finishing the requests in progress")
        configure(directory, deployment, OTHER)
        served.signal(signal.SIGHUP)
        served.release()
        thread.join(20)
        assert outcome == [{"got": "hold"}]
        assert served.status() == 0
        assert "configuration" not in served.rest()

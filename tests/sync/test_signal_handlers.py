"""A signal handler raises while a server accepts: it serves others afterwards, and nothing counts that is gone."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from typing import Any

import pytest

from sealwire import ForkingTCPServer, TCPServer, ThreadingTCPServer
from sealwire.events import emit
from sealwire.life_cycle import LifeCycle
from support.interruption import signalled
from support.service import Deployment, eventually

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of a socket that was just being accepted
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # likewise
]


@pytest.mark.parametrize("kind", [TCPServer, ThreadingTCPServer])
def test_at_any_step_of_a_request(deployment: Deployment, kind: Any) -> None:
    security = deployment.server_security(limits={"reload_interval": 3600})
    security.refresh()  # and not in the steps below
    with kind(("127.0.0.1", 0), lambda message: message, security) as server:
        server.timeout = 20
        number, was = 0, True
        while was:
            number += 2
            socket.create_connection(server.server_address).close()
            was = signalled(number, server.handle_request)
            eventually(lambda: not server._admission.slots())
            assert not server._slots
            assert not server._life.serving
            take_all(server)
        assert number > 50
        gc.collect()  # files and sockets that were just being opened
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        with deployment.client(server.server_address[1]) as client:
            assert client.send_request("x") == "x"
        serving.join(20)
        assert not serving.is_alive()


def take_all(server: Any) -> None:
    """Take the connections out of the queue that the server was to accept."""
    server.socket.settimeout(0)
    try:
        while True:
            server.socket.accept()[0].close()
    except BlockingIOError:
        pass
    finally:
        server.socket.settimeout(None)


def test_a_silent_connection_that_is_closed_is_not_waited_for(deployment: Deployment) -> None:
    """As after an exception when it was just taken up: a poll of it would end the server."""
    with (
        ForkingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security()) as server,
        socket.create_connection(server.server_address),
    ):
        request, address = server.get_request()
        server.process_request(request, address)
        server.shutdown_request(request)
        assert not server._silent.slots
        assert not server._admission.slots()
        server.timeout = 0
        server.handle_request()


def test_at_any_step_of_the_life_of_a_loop() -> None:
    life, number, was = LifeCycle(), 0, True

    def run() -> None:
        with life.run():
            pass

    while was:
        number += 1
        was = signalled(number, run)
        assert not life.serving
        other = threading.Thread(target=run)
        other.start()
        other.join(20)
        assert not other.is_alive()
    assert number > 10


def test_an_event_does_not_take_the_lock_of_all_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """logging.getLogger has steps in Python with that lock; a handler that raises there would leave it taken."""
    emit("server.busy", "a first one")
    with monkeypatch.context() as patch:
        patch.delattr(logging, "getLogger")
        emit("server.busy", "another one")

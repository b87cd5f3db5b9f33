"""A server, or a client, goes away."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.conftest import Case
from sealwire import TransportError
from support.service import eventually


def test_another_server_takes_its_place(case: Case) -> None:
    with case.start() as running:
        address = running.address
        client = case.client(running)
        keep = case.keep()
        assert client.request(1) == 1
        stopping = threading.Thread(target=running.stop)
        stopping.start()
        stopping.join(20)
    with pytest.raises(TransportError):
        case.client(running, timeout=1, wait=1).request(2)
    with case.start(address) as running:
        assert client.request(3) == 3
        keep.close()


def test_request_in_progress(case: Case) -> None:
    """It is answered; a client that comes meanwhile is told to come again, or waits."""
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start() as running, ThreadPoolExecutor() as executor:
        client = case.client(running)
        held = ["hold", str(log), str(fifo)]
        reply = executor.submit(client.request, held)
        eventually(lambda: log.exists() and log.read_text() == "held\n", timeout=10)
        stopping = executor.submit(running.stop)
        assert not stopping.done()
        fifo.write_text("go")
        assert reply.result(20) == held
        client.close()
        stopping.result(20)


def test_client_that_does_not_wait(case: Case) -> None:
    """Its handler ends in its own time, and the next client is served."""
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0  # connected, so that the next one reaches its handler
        with pytest.raises(TimeoutError):
            client.request(["hold", str(log), str(fifo)], wait=0.4)
        client.close()
        fifo.write_text("go")
        assert case.client(running).request(1) == 1

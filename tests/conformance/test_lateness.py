"""A request whose client gave up while it was queued is not run, on any server and wherever it was queued."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.conftest import Case
from sealwire import DeadlineExceeded, RemoteError
from support.service import eventually

OVERLOADED = 21
QUEUES = pytest.mark.pairs(lambda server, client: client.several and server.transport.stream)


@pytest.mark.pairs(lambda server, client: client.several)  # the others end the connection when they give up
def test_a_request_whose_client_gave_up_is_not_run(case: Case) -> None:
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start(limits={"max_in_flight": 1}) as running, ThreadPoolExecutor() as executor:
        client = case.client(running, wait=60)
        first = executor.submit(client.request, ["hold", str(log), str(fifo)])
        eventually(lambda: log.exists() and log.read_text() == "held\n", timeout=10)
        with pytest.raises((DeadlineExceeded, RemoteError)) as given_up:
            client.request(["note", str(log), "late"], wait=0.3)
        # On datagrams a server that has its fill says so at once.
        assert getattr(given_up.value, "code", OVERLOADED) == OVERLOADED
        assert getattr(given_up.value, "sent", True)
        # The server's clock starts when the request arrives, a little after the client's.
        threading.Event().wait(0.5)
        fifo.write_text("go")
        assert first.result(20)[0] == "hold"
        client.request(["note", str(log), "in time"])
        assert log.read_text() == "held\nin time\n"


@QUEUES
def test_one_that_came_behind_another_that_waits_is_not_either(case: Case) -> None:
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start(limits={"max_in_flight": 1}) as running, ThreadPoolExecutor() as executor:
        client = case.client(running, wait=60)
        first = executor.submit(client.request, ["hold", str(log), str(fifo)])
        eventually(lambda: log.exists() and log.read_text() == "held\n", timeout=10)
        second = executor.submit(client.request, ["note", str(log), "queued"])
        threading.Event().wait(0.1)
        with pytest.raises(DeadlineExceeded):
            client.request(["note", str(log), "late"], wait=0.3)
        threading.Event().wait(0.1)
        fifo.write_text("go")
        assert first.result(20)[0] == second.result(20)[0].replace("note", "hold")
        client.request(["note", str(log), "in time"])
        assert log.read_text() == "held\nqueued\nin time\n"


@QUEUES
def test_a_request_that_can_still_be_answered_is_run(case: Case) -> None:
    """It lay behind another one for longer than a tick, but its client waits."""
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start(limits={"max_in_flight": 1}) as running, ThreadPoolExecutor() as executor:
        client = case.client(running, wait=60)
        first = executor.submit(client.request, ["hold", str(log), str(fifo)])
        eventually(lambda: log.exists() and log.read_text() == "held\n", timeout=10)
        second = executor.submit(client.request, ["note", str(log), "queued"], wait=30)
        threading.Event().wait(0.1)
        fifo.write_text("go")
        assert first.result(20)[0] == "hold"
        assert second.result(20)[0] == "note"

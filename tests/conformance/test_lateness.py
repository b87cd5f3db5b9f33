"""A request whose client gave up while it was queued is not run, on any server and wherever it was queued."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from conformance.conftest import Case
from sealwire import DeadlineExceeded, RemoteError
from support.service import eventually

OVERLOADED = 21
QUEUES = pytest.mark.pairs(lambda server, client: client.several and server.transport.stream)


class Busy:
    """A client, and a server whose handler is at work on the first request until it is let go."""

    def __init__(self, case: Case, client: Any, executor: ThreadPoolExecutor) -> None:
        self.log, self._fifo = case.ends.directory / "log", case.ends.directory / "fifo"
        os.mkfifo(self._fifo)
        self.client = client
        self._executor = executor
        self.first = executor.submit(client.request, ["hold", str(self.log), str(self._fifo)])
        eventually(lambda: self.log.exists() and self.log.read_text() == "held\n", timeout=10)

    def note(self, text: str, **options: Any) -> Any:
        return self.client.request(["note", str(self.log), text], **options)

    def begin_note(self, text: str, **options: Any) -> Future[Any]:
        return self._executor.submit(self.note, text, **options)

    def let_go(self) -> None:
        self._fifo.write_text("go")


@contextmanager
def busy(case: Case) -> Iterator[Busy]:
    with case.start(limits={"max_in_flight": 1}) as running, ThreadPoolExecutor() as executor:
        yield Busy(case, case.client(running, wait=60), executor)


def test_a_late_reply_names_the_server_and_a_remedy(case: Case) -> None:
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start() as running:
        client = case.client(running)
        assert client.request(1) == 1
        with pytest.raises(DeadlineExceeded) as late:
            client.request(["hold", str(log), str(fifo)], wait=0.3)
        eventually(log.exists, timeout=10)
        fifo.write_text("go")
    place = running.address if isinstance(running.address, str) else f"localhost:{running.address[1]}"
    assert str(late.value).startswith(
        f"nothing came from {place} in time; allow more time (wait), or see in the server's"
    )


@pytest.mark.pairs(lambda server, client: client.several)  # the others end the connection when they give up
def test_a_request_whose_client_gave_up_is_not_run(case: Case) -> None:
    with busy(case) as server:
        with pytest.raises((DeadlineExceeded, RemoteError)) as given_up:
            server.note("late", wait=0.3)
        # On datagrams a server that has its fill says so at once.
        assert getattr(given_up.value, "code", OVERLOADED) == OVERLOADED
        assert getattr(given_up.value, "sent", True)
        # The server's clock starts when the request arrives, a little after the client's.
        threading.Event().wait(0.5)
        server.let_go()
        assert server.first.result(20)[0] == "hold"
        server.note("in time")
        assert server.log.read_text() == "held\nin time\n"


@QUEUES
def test_one_that_came_behind_another_that_waits_is_not_either(case: Case) -> None:
    with busy(case) as server:
        second = server.begin_note("queued")
        threading.Event().wait(0.1)
        with pytest.raises(DeadlineExceeded):
            server.note("late", wait=0.3)
        threading.Event().wait(0.1)
        server.let_go()
        assert server.first.result(20)[0] == second.result(20)[0].replace("note", "hold")
        server.note("in time")
        assert server.log.read_text() == "held\nqueued\nin time\n"


@QUEUES
def test_a_request_that_can_still_be_answered_is_run(case: Case) -> None:
    """It lay behind another one for longer than a tick, but its client waits."""
    with busy(case) as server:
        second = server.begin_note("queued", wait=30)
        threading.Event().wait(0.1)
        server.let_go()
        assert server.first.result(20)[0] == "hold"
        assert second.result(20)[0] == "note"

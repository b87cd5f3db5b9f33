"""The parent's table of workers: starts, back-off, deadlines and exits."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from sealwire.prefork import processes
from sealwire.prefork.link import EXIT_MARGIN, Message
from sealwire.prefork.processes import WorkerProcess, WorkerState, WorkerTable

pytestmark = pytest.mark.usefixtures("clean")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "monotonic", lambda: clock.now)
    return clock


Make = Callable[..., tuple[WorkerProcess, socket.socket]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make workers whose processes are ``sleep``, unless a process id is given."""
    made: list[socket.socket] = []
    children: list[subprocess.Popen[bytes]] = []

    def make(replaces: WorkerProcess | None = None, *, pid: int | None = None) -> tuple[WorkerProcess, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        made.extend((ours, theirs))
        if pid is None:
            children.append(subprocess.Popen(["sleep", "60"]))
            pid = children[-1].pid
        return WorkerProcess(pid, ours, replaces), theirs

    yield make
    for sock in made:
        sock.close()
    for child in children:
        child.kill()
        child.wait()


def kill(worker: WorkerProcess, number: int = signal.SIGKILL) -> None:
    """Kill a worker's process and wait until it can be reaped."""
    os.kill(worker.pid, number)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


class TestWorkerProcess:
    def test_messages(self, clock: Clock, make: Make) -> None:
        worker, theirs = make(pid=1)
        theirs.send(Message.READY + b"?" + Message.RELOADED)
        assert worker.receive() == [Message.READY, Message.RELOADED]
        assert worker.connected
        theirs.close()
        assert worker.receive() == []
        assert not worker.connected

    @pytest.mark.parametrize("message", [Message.REPLACED, Message.DRAIN])
    def test_dismiss(self, clock: Clock, make: Make, message: bytes) -> None:
        worker, theirs = make(pid=1)
        assert worker.deadline == math.inf
        worker.dismiss(message, 3.0)
        assert theirs.recv(10) == message
        assert worker.state is WorkerState.DRAINING
        assert worker.deadline == clock.now + 3.0 + EXIT_MARGIN
        clock.now += 1
        worker.dismiss(Message.DRAIN, 3.0)
        assert worker.deadline == clock.now - 1 + 3.0 + EXIT_MARGIN, "the first deadline holds"

    def test_dismiss_one_that_has_exited(self, make: Make) -> None:
        worker, theirs = make(pid=1)
        theirs.close()
        worker.dismiss(Message.REPLACED, 3.0)
        worker.link.close()
        worker.dismiss(Message.REPLACED, 3.0)


class TestStarts:
    def test_all(self, clock: Clock) -> None:
        table = WorkerTable(3)
        assert list(table.take_due()) == []
        table.schedule_all()
        assert list(table.take_due()) == [None] * 3
        assert list(table.take_due()) == []

    def test_complete(self, clock: Clock, make: Make) -> None:
        table = WorkerTable(2)
        first, second = make(pid=1)[0], make(pid=2)[0]
        table.add(first)
        first.state = WorkerState.SERVING
        assert not table.complete
        table.add(second)
        assert not table.complete
        second.state = WorkerState.OUTGOING
        assert table.complete
        assert table.pids == {1, 2}
        assert list(table) == [first, second]

    def test_pauses_double(self, clock: Clock) -> None:
        table = WorkerTable(1)
        pauses = [table.schedule_later(None) for _ in range(8)]
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
        assert table.seconds_to_wait(0.5) == pytest.approx(0.1)
        clock.now += 0.5
        assert list(table.take_due()) == [None] * 3
        assert table.seconds_to_wait(0.5) == pytest.approx(0.3)
        table.cancel_scheduled()
        clock.now += 10
        assert list(table.take_due()) == []
        assert table.seconds_to_wait(0.5) == 0.5

    def test_successors_are_bounded(self, clock: Clock, make: Make) -> None:
        table = WorkerTable(1)
        draining, outgoing = make(pid=1)[0], make(pid=2)[0]
        table.add(draining)
        table.add(outgoing)
        table.schedule(outgoing)
        assert list(table.take_due()) == []
        assert 0 < table.seconds_to_wait(0.5) < 0.1
        clock.now += 0.1
        assert list(table.take_due()) == []
        clock.now += 0.1
        table._workers.pop(1)
        assert list(table.take_due()) == [outgoing]

    def test_an_exiting_worker_shortens_the_wait(self, clock: Clock, make: Make) -> None:
        table = WorkerTable(1)
        worker, theirs = make(pid=1)
        table.add(worker)
        assert table.seconds_to_wait(0.5) == 0.5
        theirs.close()
        worker.receive()
        assert table.seconds_to_wait(0.5) < 0.05


class TestExits:
    def test_one_that_runs_stays(self, make: Make) -> None:
        table = WorkerTable(1)
        worker, _ = make()
        table.add(worker)
        table.reap(restart=True)
        assert list(table) == [worker]

    def test_an_early_exit_delays_the_replacement(
        self, clock: Clock, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        table = WorkerTable(1)
        outgoing, _ = make(pid=1)
        for pause in (0.1, 0.2):
            worker, _ = make(outgoing)
            table.add(worker)
            kill(worker)
            table.reap(restart=True)
            assert list(table) == []
            assert worker.link.fileno() < 0
            assert f"worker {worker.pid} exited (signal SIGKILL)" in caplog.text
            assert table.seconds_to_wait(9) == pytest.approx(pause)
            clock.now += pause + 0.01
            assert list(table.take_due()) == [outgoing], "the next one replaces the same worker"

    def test_a_later_exit_does_not(self, clock: Clock, make: Make) -> None:
        table = WorkerTable(1)
        table.schedule_later(None)
        table.cancel_scheduled()
        worker, _ = make()
        table.add(worker)
        clock.now += 5
        kill(worker, signal.SIGTERM)
        table.reap(restart=True)
        assert list(table.take_due()) == [None]
        assert table.schedule_later(None) == 0.1, "the pauses start again"

    @pytest.mark.parametrize("state", [WorkerState.OUTGOING, WorkerState.DRAINING])
    def test_a_dismissed_worker_is_not_replaced_again(self, clock: Clock, make: Make, state: WorkerState) -> None:
        table = WorkerTable(1)
        worker, _ = make()
        worker.state = state
        table.add(worker)
        kill(worker)
        table.reap(restart=True)
        clock.now += 10
        assert list(table.take_due()) == []

    def test_no_replacement_while_the_server_drains(self, clock: Clock, make: Make) -> None:
        table = WorkerTable(1)
        worker, _ = make()
        table.add(worker)
        kill(worker)
        table.reap(restart=False)
        clock.now += 10
        assert list(table) == list(table.take_due()) == []

    def test_killed_at_its_deadline(self, clock: Clock, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        table = WorkerTable(1)
        worker, _ = make()
        table.add(worker)
        worker.dismiss(Message.DRAIN, 1.0)
        clock.now += 1.0 + EXIT_MARGIN - 0.1
        table.reap(restart=True)
        assert not caplog.records
        clock.now += 0.1
        table.reap(restart=True)
        assert caplog.messages == [f"worker {worker.pid} did not exit in time; killing it"]
        kill(worker, 0)
        table.reap(restart=True)
        assert list(table) == []

    def test_one_that_other_code_has_waited_for(
        self, clock: Clock, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        table = WorkerTable(1)
        worker, _ = make(pid=2**22 + 1)  # above any process id
        worker.state = WorkerState.DRAINING
        table.add(worker)
        table.reap(restart=True)
        assert list(table) == []
        assert caplog.records[0].levelno == logging.DEBUG

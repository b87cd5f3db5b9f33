"""The worker's side: messages, exit status, and when to ask for replacement."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sealwire.prefork import worker
from sealwire.prefork.link import Message
from sealwire.prefork.worker import RestartPolicy, follow_parent, resident_memory

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def links() -> Iterator[tuple[socket.socket, socket.socket]]:
    parent, link = socket.socketpair()
    parent.settimeout(10)
    with parent, link:
        yield parent, link


class Followed:
    """A worker in this process that follows a parent; its timer and its signals are ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, link: socket.socket, policy: RestartPolicy) -> None:
        self.timer: list[float] = []
        self.handlers: dict[int, object] = {}
        self.replaced: list[bool] = []
        self.left = threading.Event()
        self.reloads = iter((True, False))
        monkeypatch.setattr(signal, "setitimer", lambda _, seconds: self.timer.append(seconds))
        monkeypatch.setattr(signal, "signal", self.handlers.__setitem__)
        follow_parent(link, policy, reload=lambda: next(self.reloads), leave=self._leave, drain_timeout=2.0)

    def _leave(self, replaced: bool) -> None:
        self.replaced.append(replaced)
        self.left.set()


def never() -> RestartPolicy:
    return RestartPolicy(None, None, lambda: None)


class TestMessages:
    @pytest.mark.parametrize(("last", "replaced"), [(Message.DRAIN, False), (Message.REPLACED, True)])
    def test_follow_parent(
        self,
        monkeypatch: pytest.MonkeyPatch,
        links: tuple[socket.socket, socket.socket],
        last: bytes,
        replaced: bool,
    ) -> None:
        parent, link = links
        followed = Followed(monkeypatch, link, never())
        assert parent.recv(1) == Message.READY
        parent.send(Message.RELOAD)
        assert parent.recv(1) == Message.RELOADED
        parent.send(Message.RELOAD)
        assert parent.recv(1) == Message.RELOAD_REJECTED
        assert not followed.left.is_set()
        parent.send(last)
        assert followed.left.wait(10)
        assert followed.replaced == [replaced]
        assert followed.timer == [2.0 + worker.EXIT_MARGIN]
        assert followed.handlers[signal.SIGALRM] is signal.SIG_DFL

    def test_parent_is_gone(self, monkeypatch: pytest.MonkeyPatch, links: tuple[socket.socket, socket.socket]) -> None:
        parent, link = links
        followed = Followed(monkeypatch, link, never())
        parent.close()
        assert followed.left.wait(10)
        assert followed.replaced == [False]

    def test_sigterm_asks_for_replacement(
        self, monkeypatch: pytest.MonkeyPatch, links: tuple[socket.socket, socket.socket]
    ) -> None:
        parent, link = links
        followed = Followed(monkeypatch, link, never())
        assert parent.recv(1) == Message.READY
        handler = followed.handlers[signal.SIGTERM]
        assert callable(handler)
        handler(signal.SIGTERM, None)
        assert parent.recv(1) == Message.REPLACE
        parent.send(Message.DRAIN)
        assert followed.left.wait(10)

    def test_memory_is_checked_while_waiting(
        self, monkeypatch: pytest.MonkeyPatch, links: tuple[socket.socket, socket.socket]
    ) -> None:
        parent, link = links
        monkeypatch.setattr(worker, "_MEMORY_CHECK", 0.001)
        checked = threading.Event()
        followed = Followed(monkeypatch, link, RestartPolicy(None, 1, checked.set))
        assert checked.wait(10)
        parent.send(Message.DRAIN)
        assert followed.left.wait(10)


class TestRestartPolicy:
    def test_requests(self) -> None:
        reached: list[int] = []
        policy = RestartPolicy(3, None, lambda: reached.append(1))
        for expected in (0, 0, 1, 1):
            policy.count_request()
            assert len(reached) == expected
        policy.check()
        assert reached == [1]

    def test_memory(self) -> None:
        reached: list[str] = []
        small, large = RestartPolicy(None, 1, lambda: reached.append("1 B")), RestartPolicy(None, 2**50, reached.clear)
        for policy in (small, large, small):
            policy.check()
        assert reached == ["1 B"]
        small.count_request()
        assert reached == ["1 B"]

    def test_without_limits(self) -> None:
        policy = RestartPolicy(None, None, pytest.fail)
        policy.count_request()
        policy.check()

    def test_both_limits_report_once(self) -> None:
        reached: list[int] = []
        policy = RestartPolicy(1, 1, lambda: reached.append(1))
        policy.check()
        policy.count_request()
        assert reached == [1]

    def test_resident_memory(self) -> None:
        assert 10_000_000 < resident_memory() < 10_000_000_000


# Forks in a process without threads.
RUN = """
import socket, sys
from sealwire.prefork.worker import run_worker

inherited, link = socket.socketpair()

def serve(link, policy):
    assert inherited.fileno() < 0
    assert 90 < policy._max_requests <= 100, policy._max_requests
    print("served")
    exec(sys.argv[1])

run_worker(serve, link, inherited=[inherited], blocked=set(), max_requests=100, max_memory=None)
"""


@pytest.mark.parametrize(
    ("code", "status", "log"),
    [("", 0, ""), ("1 / 0", 1, "failed: ZeroDivisionError"), ("sys.exit('secret')", 1, "failed: SystemExit")],
)
def test_exit_status(code: str, status: int, log: str) -> None:
    run = subprocess.run([sys.executable, "-c", RUN, code], capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stderr
    assert run.stdout == "served\n"
    assert log in run.stderr
    assert "secret" not in run.stderr


def test_an_exiting_worker_runs_no_exit_handlers() -> None:
    """They are the parent's: os._exit, not sys.exit, ends the worker."""
    code = "import atexit\natexit.register(print, 'handled')\n" + RUN
    run = subprocess.run([sys.executable, "-c", code, ""], capture_output=True, text=True, check=False)
    assert run.stdout == "served\n"
    assert run.returncode == 0

"""Mishaps of a machine: its clock is set, its disk is full, a process is stopped for a while."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.combinations import CLIENTS, SERVERS, Server, ServerProcess, in_processes
from conformance.conftest import Case, Ends
from sealwire import DeadlineExceeded, RemoteError
from sealwire.dtls import server as udp_server
from support.service import eventually, nothing_left

FULL = Path("/dev/full")
IN_THREADS = ("TCPServer", "ThreadingTCPServer", "AsyncTCPServer", "ThreadingUnixStreamServer", "AsyncUnixServer")
"""Servers in this process."""
UDP = ("UDPServer", "ThreadingUDPServer")


@pytest.fixture
def one(request: pytest.FixtureRequest, new_ends: Callable[[Server], Ends]) -> Iterator[Case]:
    """A server, and the synchronous or the asynchronous client: the machine is the same for all."""
    name, asynchronous = request.param
    server = next(each for each in SERVERS if each.name == name)
    clients = [each for each in CLIENTS if each.transport is server.transport]
    with nothing_left(), ExitStack() as stack:
        yield Case(server, clients[asynchronous], new_ends(server), stack)


@pytest.mark.parametrize("one", [(name, number % 2) for number, name in enumerate(IN_THREADS + UDP)], indirect=True)
def test_the_clock_is_set(one: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """By less than certificates and keys allow: nothing is late, and nothing waits for longer."""
    real, ahead = time.time, [0.0]
    with one.start() as running:
        client = one.client(running, wait=5)
        for module in (time, udp_server):
            monkeypatch.setattr(module, "time", lambda: real() + ahead[0])
        for ahead[0] in (0.0, 600.0, -600.0, 0.0):
            for number in range(3):
                assert client.request(number) == number
            client.close()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("one", [(name, number % 2) for number, name in enumerate(IN_THREADS + UDP)], indirect=True)
def test_no_log_can_be_written(one: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where it belongs nor to stderr: requests are answered, and those that fail as well.

    The servers of the suite that are processes of their own have such a stderr in all tests.
    """
    logger = logging.getLogger("sealwire")
    with io.TextIOWrapper(FULL.open("wb", buffering=0), write_through=True) as full:
        handler = logging.StreamHandler(full)
        logger.addHandler(handler)
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        monkeypatch.setattr(sys, "stderr", full)
        try:
            with one.start() as running:
                client = one.client(running)
                for number in range(2):
                    assert client.request(number) == number
                    with pytest.raises(RemoteError) as failed:
                        client.request(["fail"])
                    assert failed.value.code == 19
        finally:
            monkeypatch.undo()
            logger.removeHandler(handler)


def is_stopped(pid: int) -> bool:
    """Return True when each thread of a process has come to the stop that a signal told it."""
    states = [status.read_text().rpartition(")")[2].split()[0] for status in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


@pytest.mark.parametrize(
    "one",
    [(name, number % 2) for number, name in enumerate((*IN_THREADS, *UDP, "AsyncTCPServer-uvloop"))],
    indirect=True,
)
def test_a_server_that_is_stopped_for_a_while(one: Case) -> None:
    """A client's time runs on; when the server goes on, even after its own limits have passed, all is as before."""
    one.server = replace(one.server, start=in_processes(one.server.name))
    with one.start(limits={"idle_timeout": 0.3, "handshake_timeout": 0.3}) as running, ThreadPoolExecutor() as executor:
        assert isinstance(running, ServerProcess)
        client = one.client(running)
        assert client.request(1) == 1
        os.kill(running.pid, signal.SIGSTOP)
        try:
            eventually(lambda: is_stopped(running.pid))
            with pytest.raises(DeadlineExceeded):
                client.request(2, wait=0.1)
            waiting = executor.submit(client.request, 3)
            threading.Event().wait(0.4)
        finally:
            os.kill(running.pid, signal.SIGCONT)
        assert waiting.result(20) == 3
        assert client.request(4) == 4

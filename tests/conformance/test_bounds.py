"""Clients that are too many, or say nothing, keep nobody else out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from conformance.combinations import NATS
from conformance.conftest import Case
from reference.nats import OPEN, RawNATS, message
from sealwire import DeadlineExceeded, HandshakeRejected, RemoteError


def code_of_rejection(request: Callable[[float], Any]) -> int:
    """The code of REJECT, after which a client tries again until its time is over: enough time for one answer."""
    for seconds in (0.6, 2.0, 8.0):
        with pytest.raises((HandshakeRejected, DeadlineExceeded)) as refused:
            request(seconds)
        if isinstance(refused.value, HandshakeRejected):
            assert "overloaded" in str(refused.value)
            return refused.value.code
    pytest.fail("there was no answer, not even after 8 seconds")


def test_too_many_connections(case: Case) -> None:
    if case.server.one_at_a_time or case.server.several:
        pytest.skip("the bound is another one: a connection at a time, or that of each worker")
    with case.start(limits={"max_connections": 1}) as running:
        first = case.client(running)
        assert first.request(1) == 1
        if not case.server.transport.stream:
            # The place of the identity's own association without a request in progress is given to the new one.
            assert case.client(running).request(2) == 2
            return
        assert code_of_rejection(lambda seconds: case.client(running, timeout=seconds).request(2)) == 4
        first.close()
        assert case.client(running).request(3) == 3


def silent(case: Case, address: Any) -> socket.socket:
    """A connection, or a session, on which nothing comes."""
    if case.server.transport is NATS:
        url, _, subject = address.rpartition("/")
        stranger = RawNATS(url)
        stranger.subscribe("_INBOX.s")
        stranger.publish(subject, message(OPEN, 0, 1000), "_INBOX.s")
        return stranger.sock
    sock = socket.socket(socket.AF_UNIX if case.server.transport.local else socket.AF_INET)
    sock.connect(address)
    return sock


def test_silent_strangers(case: Case) -> None:
    if not case.server.transport.stream:
        pytest.skip("nothing is kept of a datagram that says nothing")
    with case.start(limits={"handshake_timeout": 0.75}) as running:
        for _ in range(3):
            with silent(case, running.address):
                assert case.client(running).request(1) == 1
                case.close()


def test_idle(case: Case) -> None:
    """The server ends the connection, and the client makes another one without a word."""
    # A new connection must not be idle for too long as well before its request comes, on a machine that is busy.
    with case.start(limits={"idle_timeout": 0.4}) as running:
        client = case.client(running)
        for number in range(3):
            threading.Event().wait(0.5 if number else 0)
            assert client.request(number) == number


def test_age(case: Case) -> None:
    with case.start(limits={"max_connection_age": 0.2}) as running:
        client = case.client(running)
        for number in range(8):
            assert client.request(number) == number
            threading.Event().wait(0.05)


def test_too_many_requests_in_a_second(case: Case) -> None:
    """An identity has as many in a second as it may have, over all its connections; the connections stay."""
    with case.start(limits={"max_requests_per_second": 1}) as running:
        clients = [case.client(running) for _ in range(1 if case.server.one_at_a_time else 3)]
        codes, answered, start = [], 0, monotonic()
        for number in range(30):
            try:
                assert clients[number % len(clients)].request(number) == number
                answered += 1
            except RemoteError as error:
                codes.append(error.code)
        assert answered <= 1 + monotonic() - start
        assert set(codes) == {21}

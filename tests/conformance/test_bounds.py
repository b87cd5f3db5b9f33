"""Clients that are too many, or say nothing, keep nobody else out."""

from __future__ import annotations

import socket
import threading

import pytest

from conformance.conftest import Case
from sealwire import HandshakeRejected


def test_too_many_connections(case: Case) -> None:
    if case.server.one_at_a_time or case.server.several:
        pytest.skip("the bound is another one: a connection at a time, or that of each worker")
    with case.start(limits={"max_connections": 1}) as running:
        first = case.client(running)
        assert first.request(1) == 1
        with pytest.raises(HandshakeRejected, match="overloaded") as rejected:
            case.client(running, timeout=0.3).request(2)
        assert rejected.value.code == 4
        first.close()
        assert case.client(running).request(3) == 3


def test_silent_strangers(case: Case) -> None:
    if not case.server.transport.stream:
        pytest.skip("nothing is kept of a datagram that says nothing")
    with case.start(limits={"handshake_timeout": 0.3}) as running:
        family = socket.AF_UNIX if case.server.transport.local else socket.AF_INET
        for _ in range(3):
            with socket.socket(family) as silent:
                silent.connect(running.address)
                assert case.client(running).request(1) == 1
                case.close()


def test_idle(case: Case) -> None:
    """The server ends the connection, and the client makes another one without a word."""
    with case.start(limits={"idle_timeout": 0.1}) as running:
        client = case.client(running)
        for number in range(3):
            assert client.request(number) == number
            threading.Event().wait(0.15)


def test_age(case: Case) -> None:
    with case.start(limits={"max_connection_age": 0.05}) as running:
        client = case.client(running)
        for number in range(12):
            assert client.request(number) == number
            threading.Event().wait(0.01)

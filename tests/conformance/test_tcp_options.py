"""The options of TCP sockets, at both ends of every connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from conformance.conftest import Case
from sealwire import Limits
from sealwire.tcp_options import set_options

NAMES: Final = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def options_of(sock: socket.socket) -> list[int]:
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    return [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]


def ends_at(port: int) -> Iterator[tuple[bool, list[int]]]:
    """Return, for each connected socket of this process with that port, True if it is the server's, and its options."""
    for name in os.listdir("/proc/self/fd"):
        if not Path(f"/proc/self/fd/{name}").is_socket():
            continue
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            ports = [address[1] for address in (sock.getsockname(), sock.getpeername()) if isinstance(address, tuple)]
            if port in ports:
                yield ports[0] == port, options_of(sock)


def test_both_ends_have_those_of_their_limits(case: Case) -> None:
    if case.server.transport.name != "tcp" or not case.server.in_this_process:
        pytest.skip("not TCP, or its sockets are elsewhere")
    server = {"keepalive_idle": 77, "keepalive_interval": 7, "keepalive_count": 3, "tcp_user_timeout": 1.5}
    client = {"keepalive_idle": 78, "keepalive_interval": 8, "keepalive_count": 2, "tcp_user_timeout": 2}
    with case.start(limits=server) as running:
        assert case.client(running, limits=client).request(1) == 1
        assert dict(ends_at(running.address[1])) == {True: [77, 7, 3, 1500], False: [78, 8, 2, 2000]}


def test_defaults_are_below_five_minutes() -> None:
    limits = Limits()
    vanished = limits.keepalive_idle + limits.keepalive_interval * limits.keepalive_count
    assert vanished <= limits.tcp_user_timeout < 300


def test_the_shortest_user_timeout_is_not_the_default_of_the_system() -> None:
    with socket.socket() as sock:
        set_options(sock, Limits(tcp_user_timeout=0.001))
        assert options_of(sock)[3] == 1


def test_a_system_that_lacks_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    with socket.socket() as sock:
        set_options(sock, Limits(keepalive_idle=77))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77

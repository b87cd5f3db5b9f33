"""A forked child never uses its parent's connections: neither those of clients, nor those of ``connect``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealwire import InvalidState, recv_msg, send_msg
from sealwire.sync import connect
from support.service import Deployment, sockets
from support.udp import forked

pytestmark = pytest.mark.usefixtures("clean")


def test_channel_of_the_parent(deployment: Deployment) -> None:
    with (
        deployment.ref_server() as server,
        connect("localhost", server.port, deployment.security("client", raw=True)) as channel,
    ):

        def in_child() -> bool:
            with pytest.raises(InvalidState):
                send_msg(channel, b"child")
            channel.close()
            return channel.fileno() == -1

        assert forked(in_child) == 0
        send_msg(channel, b"parent")
        assert recv_msg(channel) == b"parent"
        assert server.payloads() == [b"parent"]


def test_descriptors(deployment: Deployment) -> None:
    """They are closed at the fork, although the child never uses the client."""
    with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
        before = sockets(os.getpid())
        client.connect()
        loop = client.send_requests([b"a", b"b"], window=1)
        assert next(loop) == b"a"
        client.connect()
        ours = [each for each in sockets(os.getpid()) - before if Path("/proc/net/tcp").exists()]
        assert len(ours) >= 2
        peers = server.port
        assert forked(lambda: len(sockets(os.getpid()) & set(ours)) < len(ours) - 1 and peers > 0) == 0
        assert next(loop) == b"b"

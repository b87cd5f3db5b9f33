from __future__ import annotations

import socket

import pytest

from sealwire.prefork.link import Message, send

pytestmark = pytest.mark.usefixtures("clean")


def test_send() -> None:
    parent, link = socket.socketpair()
    with link:
        with parent:
            assert send(link, Message.READY)
            assert parent.recv(10) == Message.READY
        assert not send(link, Message.READY)


def test_messages_are_single_bytes() -> None:
    assert {len(message) for message in Message} == {1}

"""The interface of a server's end for handlers: what goes to which request."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from sealwire.errors import InvalidState
from sealwire.faults import Refuse
from sealwire.session.requests import RequestChannel
from sealwire.wire.events import Request


class Channel(RequestChannel):
    """A channel without a carrier, which keeps what is sent."""

    ended = False

    def __init__(self, *requests: Request) -> None:
        self.coming = deque(requests)
        self.unanswered: list[int] = []
        self.sent: list[Any] = []

    @property
    def oldest_unanswered(self) -> int | None:
        return self.unanswered[0] if self.unanswered else None

    def request_id(self, request: int) -> str:
        return f"request {request}"

    def send_reply(self, request: int, payload: Any, metadata: Any = None) -> None:
        self.unanswered.remove(request)
        self.sent.append((request, payload, metadata))

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        self.unanswered.remove(request)
        self.sent.append((request, code, text))

    def next_request(self) -> Request | None:
        if not self.coming:
            return None
        request = self.coming.popleft()
        self.unanswered.append(request.sequence)
        return request


class Closed(Refuse):
    code = 64


@pytest.fixture
def channel() -> Channel:
    return Channel(Request(1, memoryview(b"one"), None), Request(2, b"two", None))


def test_messages_come_as_bytes_until_there_are_none(channel: Channel) -> None:
    messages = [channel.recv_msg() for _ in range(3)]
    assert messages == [b"one", b"two", None]
    assert type(messages[0]) is bytes


def test_a_reply_is_of_the_oldest_unanswered_request(channel: Channel) -> None:
    channel.recv_msg()
    channel.recv_msg()
    channel.send_msg(b"1")
    channel.refuse(Closed("at night"))
    assert channel.sent == [(1, b"1", None), (2, 64, "at night")]


def test_nothing_is_sent_unasked(channel: Channel) -> None:
    for answer in (lambda: channel.send_msg(b"!"), lambda: channel.refuse(Closed("at night"))):
        with pytest.raises(InvalidState, match="no unanswered request; a server sends nothing unasked"):
            answer()
    assert channel.sent == []


class TestWithoutParts:
    """A carrier without parts has these rules, and others replace them."""

    def test_no_reply_may_come_in_parts(self, channel: Channel) -> None:
        assert channel.accepts_parts(1) is False
        with pytest.raises(NotImplementedError):
            channel.send_part(1, b"")
        with pytest.raises(NotImplementedError):
            channel.next_part(1)

    def test_a_reply_is_wanted(self, channel: Channel) -> None:
        channel.check_wanted(1)

    def test_only_respond_has_a_context(self, channel: Channel) -> None:
        request = channel.next_request()
        assert request is not None
        with pytest.raises(InvalidState, match="only respond has a context"):
            channel.context(request, None)

"""Parts of messages and replies are held to what a handler declares, each as a message of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sealwire import Allowlist, Codec, Refuse, RemoteError, RequestHandler, Service, ThreadingTCPServer
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")


@dataclass
class Item:
    name: str


@dataclass
class Order:
    items: list[Item]


class OutOfStock(Refuse):
    code = 64


class Shop(Service):
    def show(self, message: Order) -> Iterator[Item]:
        for item in message.items:
            if item.name == "sold":
                raise OutOfStock("sold")
            yield item if item.name != "wrong" else 5

    def count(self, message: int) -> Generator[int, None, Order]:
        yield from range(message)
        return Order([]) if message else 0

    def upload(self, message: Iterator[Item]) -> int:
        return sum(1 for _ in message)


class Whole(RequestHandler):
    called = False

    def respond(self, message: Order) -> int:
        type(self).called = True
        return len(list(message))


@contextmanager
def client_of(deployment: Deployment, handler: Any) -> Iterator[Any]:
    codec = Codec(Allowlist.from_handler(Shop))
    server = ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security(codec=codec))
    with running(server) as port, deployment.client(port, codec=codec, faults=[OutOfStock]) as client:
        yield client


def test_parts_of_replies(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(deployment, Shop) as client:
        items = [Item("a"), Item("b")]
        assert list(client.stream(Order(items))) == items
        counted = client.stream(3)
        assert (list(counted), counted.result) == ([0, 1, 2], Order([]))
        for message in (Order([Item("a"), Item("wrong"), Item("b")]), 0):
            got: list[Any] = []
            with pytest.raises(RemoteError, match="the handler failed") as failed:
                got.extend(client.stream(message))
            assert failed.value.code == 19
            assert got == ([Item("a")] if message else [])
        assert list(client.stream(Order(items))) == items
    assert "reply: expected tests.sync.test_declared_parts.Item, got int; declared by" in caplog.text
    assert "reply: expected tests.sync.test_declared_parts.Order, got int; declared by" in caplog.text


def test_a_refusal_after_parts(deployment: Deployment) -> None:
    with client_of(deployment, Shop) as client:
        stream = client.stream(Order([Item("a"), Item("sold")]))
        assert next(stream) == Item("a")
        with pytest.raises(OutOfStock, match="sold"):
            next(stream)


def test_parts_of_messages(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(deployment, Shop) as client:
        assert client.send_parts([Item("a"), Item("b")]) == 2
        assert client.send_parts([]) == 0
        with pytest.raises(RemoteError, match="takes no message of this type") as refused:
            client.send_parts([Item("a"), Order([]), Item("b")])
        assert refused.value.code == 17
        with pytest.raises(RemoteError) as refused:
            client.send_request(Item("a"))  # is taken as a part only
        assert refused.value.code == 17
    eventually(lambda: "message: expected tests.sync.test_declared_parts.Item, got" in caplog.text)


def test_a_message_in_parts_for_a_handler_that_declares_another(deployment: Deployment) -> None:
    with client_of(deployment, Whole) as client:
        with pytest.raises(RemoteError, match="takes no message of this type") as refused:
            client.send_parts([Item("a"), Item("b")])
        assert refused.value.code == 17
        assert not Whole.called

"""The context of a request, as its handler sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sealwire.middleware import audit
from sealwire.session.context import Context
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.features import Features
from support.events import audited
from support.session import Connection, Slot

FEATURES = Features(metadata=True, cancel=True)
CLIENT = PeerIdentity.of_process(1000, 1000, 1)


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    slot = Slot()
    slot.peer = CLIENT
    return connect(features=FEATURES, slot=slot)


def context(of: Connection, request: Request | None = None, **options: Any) -> Context:
    values: dict[str, Any] = {
        "session": of.session,
        "client_address": ("192.0.2.1", 4711),
        "deadline": 7.0,
        "connection": SimpleNamespace(),
        "request_id": "an id",
    }
    return Context(request or of.ask(), **(values | options))


def test_says_who_asks_and_until_when(connection: Connection) -> None:
    state = SimpleNamespace()
    connection.ask()
    made = context(connection, connection.ask(), connection=state)
    assert (made.peer, made.key_id, made.client_address) == (CLIENT, "k1", ("192.0.2.1", 4711))
    assert (made.deadline, made.request_id, made.sequence) == (7.0, "an id", 2)
    assert made.connection is state


def test_has_the_metadata_that_came(connection: Connection) -> None:
    connection.client.send_request(b"?", metadata={"a": "b"})
    (request,) = connection.to_server()
    made = context(connection, request)
    assert (made.metadata, made.reply_metadata) == ({"a": "b"}, {})


def test_without_metadata_there_is_a_dict_all_the_same(connection: Connection) -> None:
    made = context(connection)
    assert made.metadata == made.reply_metadata == {}
    assert made.metadata is not made.reply_metadata


def test_an_event_tells_that_the_request_was_cancelled(connection: Connection) -> None:
    made = context(connection)
    event = made.cancelled
    assert isinstance(event, threading.Event)
    assert made.cancelled is event
    assert not event.is_set()
    made.cancel()
    assert event.is_set()


def test_also_one_that_is_asked_for_later(connection: Connection) -> None:
    made = context(connection)
    made.cancel()
    assert made.cancelled.is_set()


def test_the_event_is_of_the_handlers_kind(connection: Connection) -> None:
    assert isinstance(context(connection, new_event=asyncio.Event).cancelled, asyncio.Event)


def test_shows_no_more_than_the_client_and_the_id(connection: Connection) -> None:
    made = context(connection, request_id="a\n\u2028b")
    assert repr(made) == rf"<Context of request 'a\n\u2028b' from {CLIENT}>"


def test_the_audit_log_knows_the_connection(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealwire.audit")
    request = connection.ask()
    made = context(connection, request)
    audit(made, "a message", lambda context, message: None)
    (record,) = audited(caplog, "request.ended")
    known = connection.session.source(request.sequence)._replace(request="an id").fields
    assert {name: record[name] for name in known} == known

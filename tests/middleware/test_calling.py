"""The context of a client's call."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from sealwire.errors import ConfigurationError, DeadlineExceeded
from sealwire.middleware import CallContext
from sealwire.session.call_time import time_limit


def sent(*arguments: Any) -> Any:
    return arguments


def test_what_is_sent() -> None:
    filled: dict[str, str] = {}
    context = CallContext("a.example:7443", 10, False, {"a": "b"}, filled)
    assert context.request_id is None
    context.metadata["request-id"] = "r-7"
    context.idempotent = True
    message, seconds, idempotent, metadata, reply_metadata = context.send(sent, context, 5)
    assert (message, idempotent, metadata, context.request_id) == (5, True, {"a": "b", "request-id": "r-7"}, "r-7")
    assert reply_metadata is context.reply_metadata is filled
    assert 9 < seconds <= 10
    assert repr(context) == "<CallContext of a request to a.example:7443>"


def test_no_metadata_is_none() -> None:
    context = CallContext("a.example:7443", 10, False, None, None)
    assert context.send(sent, context, 5)[3:] == (None, {})


def test_the_time_is_that_of_the_whole_call() -> None:
    context = CallContext("a.example:7443", 10, False, None, None)
    context.deadline = monotonic() - 1
    with pytest.raises(DeadlineExceeded, match="before the middleware of this client passed it on"):
        context.send(sent, context, 5)


def test_the_time_of_a_handler_bounds_it() -> None:
    token = time_limit.set(limit := monotonic() + 1)
    try:
        assert CallContext("a.example:7443", 10, False, None, None).deadline == limit
    finally:
        time_limit.reset(token)


def test_mistakes() -> None:
    context = CallContext("a.example:7443", 10, False, None, None)
    with pytest.raises(TypeError, match="call_next takes the context that the middleware was given"):
        context.send(sent, None, 5)
    with pytest.raises(ConfigurationError, match="metadata must be a mapping of str to str"):
        CallContext("a.example:7443", 10, False, {"a": 5}, None)

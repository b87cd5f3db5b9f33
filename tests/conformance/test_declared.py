"""Handlers that declare the types of their messages and replies: others never reach them, and are never sent."""

from __future__ import annotations

import pytest

from conformance.conftest import Case
from conformance.handlers import Cancel, Order, Secret
from sealwire import RemoteError
from support.service import eventually

WRONG = [
    (5, 17, "int"),
    ("x", 17, "str"),
    ({"item": "apples"}, 17, "dict"),
    ((Order("a", 1),), 17, "tuple"),
    ([Order("a", 1), 5], 16, r"message[1]: expected conformance.handlers.Order, got int"),
    ([Order("a", 1), [Order("a", 1)]], 16, "message[1]: expected conformance.handlers.Order, got list"),
    (Secret("x"), 17, "conformance.handlers:Secret"),
]
"""A message, the code of the fault, and what the log says of it."""


def is_held_to_its_word(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    with case.start(handler=handler) as running:
        client = case.client(running, allow=[Order, Cancel, Secret])
        assert client.request(Order("apples", 3)) == 3
        assert client.request([Order("a", 1), Order("b", 2)]) == [1, 2]
        assert client.request([]) == []
        assert client.request(Cancel(1)) is None
        for message, code, why in WRONG:
            with pytest.raises(RemoteError) as refused:
                client.request(message)
            assert refused.value.code == code, message
            assert "conformance.handlers.Order" not in refused.value.text
            if case.server.in_this_process:
                eventually(lambda why=why: why in caplog.text)
        for wrong in (Order("wrong", 1), Cancel(0)):
            with pytest.raises(RemoteError, match="the handler failed") as failed:
                client.request(wrong)
            assert failed.value.code == 19
        assert client.request(Order("pears", 4)) == 4
    if case.server.in_this_process:
        assert "reply: expected int" in caplog.text
        assert "got str; declared by conformance.handlers." in caplog.text


@pytest.mark.parametrize("handler", ["declared", "declared function", "service"])
def test_declared(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    is_held_to_its_word(case, handler, caplog)


@pytest.mark.pairs(lambda server, client: server.runs_coroutines and client.several)
@pytest.mark.parametrize("handler", ["declared coroutine", "service on the loop"])
def test_declared_by_coroutines(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    is_held_to_its_word(case, handler, caplog)

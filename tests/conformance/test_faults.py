"""Refusals of a handler in its own words, and the exceptions that clients raise for them."""

from __future__ import annotations

import logging

import pytest

from conformance.combinations import Running
from conformance.conftest import Case
from conformance.handlers import OutOfStock
from sealwire import RemoteError
from support.service import eventually

TEXT = "no nails \u2014 until Monday"


def refuses_and_goes_on(case: Case, running: Running) -> None:
    plain, knowing = case.client(running), case.client(running, faults=[OutOfStock])
    for code in (64, 200, 255):
        with pytest.raises(RemoteError) as refused:
            plain.request(["refuse", code, TEXT])
        assert type(refused.value) is RemoteError
        assert (refused.value.code, refused.value.text) == (code, TEXT)
    assert plain.request(1) == 1
    plain.close()
    for _ in range(2):
        with pytest.raises(OutOfStock) as mapped:
            knowing.request(["refuse", TEXT])
        assert (mapped.value.code, mapped.value.text, mapped.value.received) == (64, TEXT, True)
    with pytest.raises(RemoteError) as other:
        knowing.request(["refuse", 65, ""])
    assert (type(other.value), other.value.code, other.value.text) == (RemoteError, 65, "")
    with pytest.raises(RemoteError, match="handler failed") as failed:
        knowing.request(["fail"])
    assert (type(failed.value), failed.value.code) == (RemoteError, 19)
    assert knowing.request(2) == 2


def test_refusals(shared: tuple[Case, Running]) -> None:
    refuses_and_goes_on(*shared)


@pytest.mark.parametrize("handler", ["function", "handle"])
def test_refusals_of_other_handlers(case: Case, handler: str) -> None:
    with case.start(handler=handler) as running:
        refuses_and_goes_on(case, running)


@pytest.mark.pairs(lambda server, client: server.runs_coroutines and client.several)
@pytest.mark.parametrize("handler", ["coroutine", "handle on the loop"])
def test_refusals_of_coroutines(case: Case, handler: str) -> None:
    with case.start(handler=handler) as running:
        refuses_and_goes_on(case, running)


def test_the_log_has_the_place_of_a_refusal_without_its_text(
    shared: tuple[Case, Running], caplog: pytest.LogCaptureFixture
) -> None:
    case, running = shared
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RemoteError):
        case.client(running).request(["refuse", 70, "Hunter2"])
    if case.server.in_this_process:
        eventually(lambda: "refused with fault 70: Refuse at handlers.py:" in caplog.text)
        found = [each for each in caplog.records if each.name == "sealwire.server" and "fault 70" in each.getMessage()]
        assert [(record.levelname, record.exc_info) for record in found] == [("INFO", None)]
    assert "Hunter2" not in caplog.text

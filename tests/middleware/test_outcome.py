"""The outcome of a request is seen once, whatever the reply is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sealwire import Refuse
from sealwire.middleware import audit, observe
from sealwire.middleware.audit import _outcome
from sealwire.server_events import Source
from sealwire.session.parts import RequestCancelled


class Seen(list[str]):
    def done(self, error: BaseException | None) -> None:
        self.append(type(error).__name__)


def failing(context: Any, message: Any) -> Any:
    raise LookupError


async def on_loop(context: Any, message: Any) -> Any:
    if message == "fail":
        raise LookupError
    return message


def parts(number: int) -> Iterator[Any]:
    yield from range(number)
    if number > 2:
        raise LookupError
    return "result"


async def async_parts(number: int) -> AsyncIterator[Any]:
    for each in range(number):
        yield each
    if number > 2:
        raise LookupError


def test_a_reply() -> None:
    seen = Seen()
    assert observe(None, 5, lambda context, message: message, seen.done) == 5
    with pytest.raises(LookupError):
        observe(None, 5, failing, seen.done)
    assert seen == ["NoneType", "LookupError"]


def test_a_reply_in_parts() -> None:
    seen = Seen()

    def result(generator: Any) -> Any:
        return (yield from generator)

    generator = result(observe(None, 2, lambda _, number: parts(number), seen.done))
    assert next(generator) == 0
    assert (list(generator), seen) == ([1], ["NoneType"])
    with pytest.raises(StopIteration) as stopped:
        next(result(observe(None, 0, lambda _, number: parts(number), seen.done)))
    assert stopped.value.value == "result"
    with pytest.raises(LookupError):
        list(observe(None, 3, lambda _, number: parts(number), seen.done))
    early = observe(None, 2, lambda _, number: parts(number), seen.done)
    next(early)
    early.close()
    assert seen == ["NoneType", "NoneType", "LookupError", "GeneratorExit"]


def test_coroutines() -> None:
    seen = Seen()

    async def main() -> None:
        assert await observe(None, 5, on_loop, seen.done) == 5
        assert seen == ["NoneType"]
        with pytest.raises(LookupError):
            await observe(None, "fail", on_loop, seen.done)
        waiting = asyncio.ensure_future(observe(None, 5, lambda *_: asyncio.Event().wait(), seen.done))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert seen == ["NoneType", "LookupError", "CancelledError"]

        async def begun(context: Any, number: int) -> Any:
            return async_parts(number)

        seen.clear()
        assert [each async for each in await observe(None, 2, begun, seen.done)] == [0, 1]
        with pytest.raises(LookupError):
            [each async for each in await observe(None, 3, begun, seen.done)]
        early = await observe(None, 2, begun, seen.done)
        await anext(early)
        await early.aclose()
        assert seen == ["NoneType", "LookupError", "GeneratorExit"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answered"),
        (Refuse(70, "words of the message"), "refused with fault 70"),
        (RequestCancelled(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (ValueError("words of the message"), "failed with ValueError"),
        (type("a\nb", (Exception,), {})(), "failed"),
        (type("E" * 200, (Exception,), {})(), "failed with " + "E" * 80),
    ],
    ids=range(8),
)
def test_the_outcomes_of_the_audit_log(error: BaseException | None, outcome: str) -> None:
    assert _outcome(error) == outcome


def test_a_refusal_that_was_received_is_a_failure() -> None:
    refusal = Refuse(70, "x")
    refusal.received = True
    assert _outcome(refusal) == "failed with Refuse"


def test_the_audit_log_has_nothing_of_the_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sealwire.audit")

    class Session:
        def source(self, request: int) -> Source:
            return Source(("192.0.2.7", 5), key_id="k1", connection="1f", request=f"1f-{request}")

    class Context:
        peer = None
        client_address = ("192.0.2.7", 5)
        request_id = "1f-7"
        sequence = 7
        _session = Session()

    assert audit(Context(), "words of the message", lambda _, message: message.upper()) == "WORDS OF THE MESSAGE"
    (record,) = caplog.records
    assert "anonymous from 192.0.2.7:5: builtins:str answered in 0.0" in record.getMessage()
    assert record.getMessage().endswith(" s, request 1f-7")
    assert "words" not in str(vars(record)).lower()
    assert sorted(record.__dict__["audit"]) == [
        "address",
        "connection",
        "event",
        "key_id",
        "outcome",
        "peer",
        "request_id",
        "seconds",
        "type",
    ]

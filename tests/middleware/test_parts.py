"""Parts of messages that are checked when they are taken, and those that a middleware makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sealwire import RemoteError, SynchronousTCPClient, ThreadingTCPServer
from sealwire.middleware.parts import checked_parts
from sealwire.testing import Throwaway
from support.service import running


def check(part: int) -> None:
    if part == 2:
        raise LookupError


async def numbers() -> AsyncIterator[int]:
    for number in range(5):
        yield number


def test_the_error_of_a_part_stays() -> None:
    parts: Any = checked_parts(range(5), check)
    assert [next(parts), next(parts)] == [0, 1]
    for _ in range(3):
        with pytest.raises(LookupError):
            next(parts)
    assert list(checked_parts([0, 1], check)) == [0, 1]


def test_the_error_of_a_part_stays_on_the_loop() -> None:
    async def main() -> None:
        parts: Any = checked_parts(numbers(), check)
        assert [await anext(parts), await anext(parts)] == [0, 1]
        for _ in range(3):
            with pytest.raises(LookupError):
                await anext(parts)

    asyncio.run(main())


def test_what_has_no_parts() -> None:
    with pytest.raises(TypeError):
        checked_parts(5, check)


def total(message: Iterator[int]) -> int:
    return sum(message)


def doubling(context: Any, message: Any, call_next: Any) -> Any:
    """Passes on each part twice, as another type if it is 13."""
    return call_next(context, (part if part != 13 else "x" for part in message for _ in range(2)))


def test_parts_that_a_middleware_makes_are_held_to_what_the_handler_declares(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Throwaway() as place:
        server = place.security("server", "localhost", peers=["dns:client.example"])
        client = place.security("client", "client.example")
        with (
            running(ThreadingTCPServer(("127.0.0.1", 0), total, server, middleware=[doubling])) as port,
            SynchronousTCPClient("localhost", port, security=client) as one,
        ):
            assert one.send_parts([1, 2]) == 6
            with pytest.raises(RemoteError) as failed:
                one.send_parts([1, 13])
            assert failed.value.code == 19
    assert "passed on by a middleware: message: expected int, got str" in caplog.text

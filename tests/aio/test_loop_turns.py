"""Places for requests: each peer has its share, and peers that wait take turns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from sealwire.aio.loop_turns import LoopTurns, Places
from sealwire.contention import activity, shares


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def waiting(places: Places, order: list[str], *keys: str) -> list[asyncio.Task[None]]:
    """A task for each of them that takes a place, in this order."""

    async def take(key: str) -> None:
        await places.acquire(key)
        order.append(key)

    return [asyncio.create_task(take(key)) for key in keys]


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_a_share_for_each_peer() -> None:
    async def main() -> None:
        places, order = Places(3, 2), list[str]()
        tasks = waiting(places, order, "flood", "flood", "flood", "good", "other")
        await settled()
        assert order == ["flood", "flood", "good"]
        places.release("good")
        await settled()
        assert order == ["flood", "flood", "good", "other"]
        places.release("other")
        await settled()
        assert len(order) == 4
        places.release("flood")
        await asyncio.gather(*tasks)
        assert order[4:] == ["flood"]

    run(main)


def test_peers_take_turns() -> None:
    async def main() -> None:
        places, order = Places(1, 1), list[str]()
        tasks = waiting(places, order, "first", "flood", "flood", "flood", "good", "good", "other")
        for _ in tasks:
            await settled()
            places.release(order[-1])
        await asyncio.gather(*tasks)
        assert order == ["first", "flood", "good", "other", "flood", "good", "flood"]

    run(main)


def test_one_that_gives_up_takes_no_place() -> None:
    async def main() -> None:
        places, order = Places(1, 1), list[str]()
        first, given_up, granted, last = waiting(places, order, "a", "b", "b", "c")
        await settled()
        given_up.cancel()
        await settled()
        places.release("a")
        granted.cancel()  # it has its place, and does not know that yet
        await asyncio.gather(first, last)
        assert order == ["a", "c"]
        places.release("c")
        await asyncio.gather(*waiting(places, order, "b"))

    run(main)


@pytest.fixture
def contended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several peers are active, and one of them has used more than its share."""
    monkeypatch.setattr(activity, "until", monotonic() + 3600)
    shares.reset()
    shares.use("good", 0.001, monotonic())
    shares.use("flood", 60.0, monotonic())
    shares._pauses["flood"] = monotonic() + 3600
    yield
    activity.calm(math.inf)
    shares.reset()


@pytest.mark.usefixtures("contended")
def test_a_peer_that_had_nothing_to_do_is_forgiven_its_pause() -> None:
    async def main() -> None:
        assert LoopTurns().take("flood", monotonic())
        assert not shares.pause("flood", monotonic(), 0.0)

    run(main)


@pytest.mark.usefixtures("contended")
def test_a_peer_that_had_to_wait_is_not() -> None:
    async def main() -> None:
        turns = LoopTurns()
        waits = asyncio.create_task(turns.wait("flood"))
        await settled()
        assert not turns.take("flood", monotonic()), "its other connections wait for the same pause"
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        turns._paused.clear()  # as if its time were over
        assert turns.take("flood", monotonic())
        assert shares.pause("flood", monotonic(), 0.0)
        await settled()
        assert turns.take("flood", monotonic() + 1), "and has caught up"
        assert not shares.pause("flood", monotonic(), 0.0)

    run(main)


@pytest.mark.usefixtures("contended")
def test_peers_that_never_come_back_are_forgotten() -> None:
    async def main() -> None:
        turns = LoopTurns()
        for number in range(3000):
            waits = asyncio.create_task(turns.wait(number))
            await asyncio.sleep(0)
            waits.cancel()
        assert len(turns._behind) <= 1024

    run(main)

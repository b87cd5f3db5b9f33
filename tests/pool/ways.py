"""Both pools, used synchronously, and a handler for their servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from conformance.combinations import LOOP
from sealwire import AsyncClientPool, ClientPool


class Threads:
    """A ClientPool."""

    def __init__(self, addresses: Any, **options: Any) -> None:
        self.pool = ClientPool(addresses, **options)

    def request(self, data: Any, **options: Any) -> Any:
        return self.pool.send_request(data, **options)

    def requests(self, data: list[Any], **options: Any) -> list[Any]:
        return list(self.pool.send_requests(data, **options))

    def ping(self) -> float:
        return self.pool.ping()

    def close(self) -> None:
        self.pool.close()


class Tasks:
    """An AsyncClientPool."""

    def __init__(self, addresses: Any, **options: Any) -> None:
        async def made() -> AsyncClientPool:
            return AsyncClientPool(addresses, **options)

        self.pool: AsyncClientPool = LOOP.run(made())

    def request(self, data: Any, **options: Any) -> Any:
        return LOOP.run(self.pool.send_request(data, **options))

    def requests(self, data: list[Any], **options: Any) -> list[Any]:
        async def gathered() -> list[Any]:
            return [reply async for reply in self.pool.send_requests(data, **options)]

        found: list[Any] = LOOP.run(gathered())
        return found

    def ping(self) -> float:
        seconds: float = LOOP.run(self.pool.ping())
        return seconds

    def close(self) -> None:
        LOOP.run(self.pool.close())


Way = Callable[..., Any]


class Gate:
    """A handler that tells of each request, and answers once it is opened."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, message: bytes) -> bytes:
        if message == b"hold":
            self.entered.release()
            assert self.opened.wait(20)
        return self._name

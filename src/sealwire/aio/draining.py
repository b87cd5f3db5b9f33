"""Ends an asyncio server: requests in progress are finished, and new clients are told that it is going away.

``shutdown``, or the end of ``async with``, lets requests in progress finish:

1. Connections stop taking requests; idle ones send CLOSE at once, the others after their requests.
2. Unauthenticated connections have GRACE seconds and are evicted then: they have no request in progress.
3. Meanwhile new clients are accepted and rejected with REJECT 5.
4. Tasks of connections that remain after Limits.drain_timeout are cancelled.

A pre-fork worker that is being replaced has ``rejects_while_draining`` set to False: it stops accepting, and first
waits for clients that are in the middle of connecting (see :mod:`sealwire.sync.draining`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from time import monotonic
from typing import Final

from sealwire.admission import GRACE, Admission
from sealwire.aio.handler_runner import HandlerRunner
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import Workers
from sealwire.contention import activity
from sealwire.security import Security
from sealwire.session.server import TERMINATION_WAIT
from sealwire.slot import Slot

_POLL: Final = 0.05
"""Seconds between two looks if clients are still in the middle of connecting."""


class Draining:
    """The end of a server. A mix-in for AsyncTCPServer."""

    security: Security
    rejects_while_draining: bool
    _admission: Admission
    _channels: dict[AsyncServerChannel, None]
    _connections: dict[asyncio.Task[None], Slot]
    _duties: list[asyncio.Task[None]]
    _workers: Workers
    _files: Workers
    _runner: HandlerRunner
    _loop: asyncio.AbstractEventLoop
    _finished: asyncio.Event | None
    _draining: bool
    _drain_task: asyncio.Task[None] | None

    def _start_draining(self) -> asyncio.Task[None]:
        if self._drain_task is None:
            self._draining = self.rejects_while_draining
            self._drain_task = self._loop.create_task(self._drain())
        return self._drain_task

    async def _drain(self) -> None:
        """Drain, stop listening and release everything; see the head of the module."""
        limits = self.security.limits
        deadline = monotonic() + limits.drain_timeout
        if not self.rejects_while_draining:
            await self._stop_duties()
            await self._wait_until_authenticated(monotonic() + min(limits.handshake_timeout, limits.drain_timeout / 2))
        self._draining = True
        start = monotonic()
        awaited = set(self._connections)
        for channel in self._channels:
            channel.drain()
        await _wait_for(awaited, min(deadline, start + GRACE))
        self._admission.evict(self._admission.unauthenticated())
        await _wait_for(awaited, deadline)
        await self._stop_duties()
        await _wait_for(self._connections, min(deadline, monotonic() + GRACE))
        for task in self._connections:
            task.cancel()
        await _wait_for(self._connections, monotonic() + TERMINATION_WAIT)
        await self._workers.close(0.0 if self._connections else TERMINATION_WAIT)
        await self._runner.close(0.0 if self._connections else TERMINATION_WAIT)
        await self._files.close(TERMINATION_WAIT)
        activity.calm(math.inf)
        self._release()
        assert self._finished is not None  # it has served
        self._finished.set()

    async def _wait_until_authenticated(self, deadline: float) -> None:
        """Wait until no connection is unauthenticated, or until the deadline."""
        while self._admission.unauthenticated() and monotonic() < deadline:
            await asyncio.sleep(_POLL)

    async def _stop_duties(self) -> None:
        for duty in self._duties:
            duty.cancel()
        await asyncio.wait(self._duties)

    def _release(self) -> None:
        raise NotImplementedError


async def _wait_for(tasks: Collection[asyncio.Task[None]], deadline: float) -> None:
    """Wait until all tasks have ended, or until the deadline."""
    if tasks:
        await asyncio.wait(list(tasks), timeout=max(0.0, deadline - monotonic()))

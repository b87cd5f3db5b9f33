"""A worker of PreforkTCPServer with an event loop in it: uvloop's where that is installed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sealwire.aio.server import AsyncTCPServer
from sealwire.security import Security
from sealwire.worker import Recycling, start_obeying


def new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes an event loop: uvloop's, or else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def work(listener: socket.socket, handler: Any, security: Security, link: socket.socket, recycling: Recycling) -> None:
    """Serve until told otherwise. link: to the parent. recycling: when another one should take our place."""
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        runner.run(_serve(listener, handler, security, link, recycling))


async def _serve(
    listener: socket.socket, handler: Any, security: Security, link: socket.socket, recycling: Recycling
) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncTCPServer(None, handler, security, listener=listener) as server:
        server.recycling = recycling

        def leave(replaced: bool) -> None:
            server.turns_away = not replaced
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(server.leave)

        start_obeying(link, recycling, reload=server.reload, leave=leave, drain_timeout=security.limits.drain_timeout)
        await server.serve_forever()

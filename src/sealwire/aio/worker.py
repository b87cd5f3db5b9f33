"""A worker of PreforkTCPServer with an event loop in it: uvloop's where that is installed."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sealwire.aio.server import AsyncTCPServer
from sealwire.security import Security
from sealwire.worker import NOT_RELOADED, READY, RELOAD, RELOADED, RETIRE, Recycling, say


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
    link.setblocking(False)
    async with AsyncTCPServer(None, handler, security, listener=listener) as server:
        server.recycling = recycling

        async def look() -> None:
            while True:
                await asyncio.sleep(recycling.interval)
                recycling.look()

        def listen_to_parent() -> None:
            word = b""
            with suppress(OSError):
                word = link.recv(1)
            if word == RELOAD:
                say(link, RELOADED if server.reload() else NOT_RELOADED)
            else:  # DRAIN, RETIRE, or the parent's end
                loop.remove_reader(link)
                server.turns_away = word != RETIRE
                server.leave()

        loop.add_reader(link, listen_to_parent)
        loop.add_signal_handler(signal.SIGTERM, server.leave)
        looking = loop.create_task(look())
        say(link, READY)
        try:
            await server.serve_forever()
        finally:
            looking.cancel()
            loop.remove_reader(link)

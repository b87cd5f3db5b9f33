"""A worker of PreforkTCPServer with an event loop: uvloop's if it is installed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sealwire.aio.server import AsyncTCPServer
from sealwire.prefork.worker import RestartPolicy, follow_parent
from sealwire.security import Security


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes an event loop: uvloop's if it is installed, otherwise asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def serve(
    listener: socket.socket,
    handler: Any,
    security: Security,
    link: socket.socket,
    policy: RestartPolicy,
    join: Callable[[Any], None],
) -> None:
    """Serve connections from ``listener`` until the parent, at the other end of ``link``, ends this worker.

    ``join`` makes the server share its bounds with the other workers, and report to the parent.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(listener, handler, security, link, policy, join))


async def _serve(
    listener: socket.socket,
    handler: Any,
    security: Security,
    link: socket.socket,
    policy: RestartPolicy,
    join: Callable[[Any], None],
) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncTCPServer(None, handler, security, listener=listener) as server:
        server.on_request = policy.count_request
        join(server)

        def leave(replaced: bool) -> None:
            server.rejects_while_draining = not replaced
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(server.start_shutdown)

        follow_parent(link, policy, reload=server.reload, leave=leave, drain_timeout=security.limits.drain_timeout)
        await server.serve_forever()

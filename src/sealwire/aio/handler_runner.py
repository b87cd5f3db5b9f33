"""Runs handlers for connections.

The handler class defines ``respond`` or ``handle``, each as a coroutine function or as an ordinary one:

    async def respond   runs on the loop, for up to Limits.max_in_flight messages of a connection at a time
    def respond         runs in the worker threads, for as many messages at a time
    async def handle    runs on the loop and has the connection to itself
    def handle          runs in a new thread, from the first message on, and has the connection to itself

Messages for ``respond`` are answered in :mod:`sealwire.aio.answering`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sealwire.aio.answering import Answering
from sealwire.aio.handler_calls import HandlerCalls, in_handler
from sealwire.aio.loop_turns import Places
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threaded_channel import ThreadedChannel
from sealwire.aio.threads import Workers, run_in_thread
from sealwire.handler import RequestHandler
from sealwire.listeners import address_text


class HandlerRunner:
    """The handlers of one server.

    Args:
        handler: The handler class.
        server: The server, with the attribute ``security``; the handlers' ``self.server``.
        workers: The threads for handlers that are not coroutine functions.
    """

    def __init__(self, handler: type[RequestHandler], server: Any, workers: Workers) -> None:
        self._server = server
        self._calls = HandlerCalls(handler, server, workers)
        limits = server.security.limits
        self._places = Places(limits.max_in_flight_total, limits.max_in_flight_per_identity)
        self._stream_places = Places(limits.max_in_flight_total, limits.max_in_flight_per_identity)

    async def close(self, seconds: float) -> None:
        """Stop the runner's own threads, and wait up to ``seconds`` for them."""
        await self._calls.close(seconds)

    @property
    def takes_parts(self) -> bool:
        """True if handlers take and give messages in parts."""
        return not self._calls.owns_connection

    async def serve(self, channel: AsyncServerChannel, client_address: Any) -> None:
        """Serve a connection to its end. Raises SealwireError and any exception of the handler's own ``handle``."""
        calls = self._calls
        if not calls.owns_connection:
            places = self._places, self._stream_places
            await Answering(calls, places, channel.security.limits.max_in_flight, channel, client_address).serve()
            return
        in_handler.set(True)
        if calls.on_loop:
            handler = calls.new_handler(channel, client_address)
            try:
                await handler.handle()
            finally:
                handler.finish()
        elif (first := await channel.next_for_handler()) is not None:
            threaded = ThreadedChannel(channel, *first)
            make: Callable[..., RequestHandler] = calls.class_for(channel)
            await run_in_thread(
                partial(make, threaded, client_address, self._server), f"sealwire {address_text(client_address)}"
            )

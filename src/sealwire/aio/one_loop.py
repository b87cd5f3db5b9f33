"""The base class of objects that belong to one event loop of one process, until their client is used in another."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from sealwire.aio.threads import MAX_DECODED_ON_LOOP, is_large, run_in_thread
from sealwire.fork import this_process
from sealwire.session import explain, misuse
from sealwire.wire.frames import Payload, VerifiedPayload

_T = TypeVar("_T")


class OneLoop(ABC):
    """The connections of a client or pool in the running event loop. Raises InvalidState if none runs."""

    def __init__(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise misuse.no_loop() from None
        self._process = this_process()
        self._codec_thread = asyncio.Lock()

    @abstractmethod
    def drop(self) -> None:
        """Drop all connections without telling the servers."""

    @property
    def is_here(self) -> bool:
        """True if the connections belong to the running event loop of this process."""
        return self._process is this_process() and self._loop is asyncio.get_running_loop()

    def leave(self) -> None:
        """Drop the connections, since another event loop is used now. Raises InvalidState if theirs still runs."""
        if self._process is this_process() and self._loop.is_running():
            raise misuse.other_loop()
        self.drop()

    def call_soon(self, function: Callable[[], None]) -> bool:
        """Call a function in the loop, from any thread, if it runs; return True if it does."""
        if self._process is this_process() and self._loop.is_running():
            with suppress(RuntimeError):  # it was closed just now
                self._loop.call_soon_threadsafe(function)
                return True
        return False

    async def encode(self, encode: Callable[[Any], Payload], data: Any, deadline: float) -> Payload:
        """Return an encoded value; a large one is encoded in a thread. Raises EncodeError, DeadlineExceeded."""
        if not is_large(data):
            return encode(data)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await self._in_thread(partial(encode, data))
        except TimeoutError:
            raise explain.not_encoded() from None

    async def decode(self, decode: Callable[[VerifiedPayload], Any], payload: VerifiedPayload) -> Any:
        """Return a decoded value; a large one is decoded in a thread. Raises DecodeError."""
        if len(payload) <= MAX_DECODED_ON_LOOP:
            return decode(payload)
        return await self._in_thread(partial(decode, payload))

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        """Run a function in a thread, after those before it: more at a time would only share one interpreter."""
        async with self._codec_thread:
            return await run_in_thread(function, "sealwire codec")

"""Counts what a server's end of a connection holds in memory, and ends it if it holds too much.

:mod:`sealwire.session.buffers` has the rules.
"""

from __future__ import annotations

from functools import partial
from time import monotonic

from sealwire.aio.byte_stream import settle
from sealwire.aio.pump import AsyncChannel
from sealwire.session import explain
from sealwire.session.buffers import Holding
from sealwire.session.server import ServerSession
from sealwire.slot import Slot
from sealwire.trust.identity import PeerIdentity


class CountedChannel(AsyncChannel):
    """A server's end of a connection, as far as it counts what it holds: parts of frames, requests, unsent replies.

    Attributes:
        session: The rules of the connection, after TLS.
    """

    session: ServerSession
    _holding: Holding
    _slot: Slot
    _in_hand = 0
    """Bytes of the requests that are not finished."""

    @property
    def peer(self) -> PeerIdentity | None:
        """The client's verified identity; None without a certificate."""
        raise NotImplementedError

    def _count_in(self, holding: Holding) -> None:
        """Count what the connection holds there from now on."""
        self._holding = holding
        holding.end = self._shed_soon

    def _count_held(self) -> None:
        self._holding.update(self._protocol.buffered + self._in_hand + max(0, self._unsent_bytes))

    def _all_sent(self) -> None:
        if self._holding.counted:
            self._count_held()

    async def _wait_for_others(self, deadline: float) -> bool:
        """Wait until another connection holds more, or less is held in all; return False at the deadline."""
        while self._holding.waits and not self.ended:
            changed = self._waiting = self._loop.create_future()
            self._holding.when_changed(partial(settle, changed, True))
            timer = self._loop.call_later(max(0.0, deadline - monotonic()), settle, changed, False)
            try:
                if not await changed:
                    return False
            finally:
                timer.cancel()
                self._waiting = None
            if self.session.closing is not None:
                break
        return True

    def _shed_soon(self) -> None:
        """End the connection to make room: it holds most. What it holds is freed at once."""
        self._loop.call_soon(self._shed)

    def _shed(self) -> None:
        if self._discarding or self.lost.done():
            return
        self._slot.events.hit("max_buffered", self._slot.known, f"ended: {explain.shed()}")
        self.failure = self.failure or ConnectionAbortedError(str(explain.shed()))
        self.abort()
        self._wake()

"""A client's end of a connection on asyncio, as far as it is about PINGs: those of callers, and those of keepalive."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from sealwire.aio.client_parts import ClientPartsChannel
from sealwire.errors import ConnectionClosed, SealwireError
from sealwire.session import explain
from sealwire.sync.keep_alive import PATIENCE


class Pings:
    """The PINGs of one connection. The protocol allows one at a time, so others wait for the answer to the last one.

    They do so also when that one's caller waits no more: a late answer is not taken for theirs.
    """

    def __init__(self) -> None:
        self._pong: asyncio.Future[None] | None = None
        """Done when the PING that is unanswered is answered; None if there is none."""

    async def ping(self, send: Callable[[], None]) -> float:
        """Return the seconds until the answer to a PING.

        Args:
            send: Sends it, or raises the reason if that is not possible any more.

        Raises:
            SealwireError: Why the connection has ended.
        """
        while self._pong is not None:
            await asyncio.wait([self._pong])
        send()
        begun = monotonic()
        self._pong = pong = asyncio.get_running_loop().create_future()
        await asyncio.shield(pong)
        return monotonic() - begun

    def answered(self) -> bool:
        """Answer the task that waits for a PONG; return False if no PING is unanswered."""
        pong, self._pong = self._pong, None
        if pong is None:
            return False
        pong.set_result(None)
        return True

    def fail(self, error: SealwireError) -> None:
        """Fail the PING that is unanswered, if there is one."""
        pong, self._pong = self._pong, None
        if pong is not None:
            pong.set_exception(explain.without_frames(error))
            pong.exception()  # retrieved, or asyncio logs it when no caller is waiting


class ClientPingsChannel(ClientPartsChannel):
    """The part of a client's end for PINGs."""

    def _prepare_pings(self) -> None:
        self._pinger: asyncio.Task[None] | None = None
        self._pings = Pings()

    async def ping(self, deadline: float) -> float:
        """Return the seconds until the server's answer to a PING.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionLost.
        """
        begun = monotonic()
        try:
            async with asyncio.timeout(deadline - begun):
                return await self._pings.ping(self._send_ping)
        except ConnectionClosed as closed:
            raise self._session.lost(closed, None) from None
        except TimeoutError:
            self._doubt(0, begun)
            raise explain.no_reply(self._address, sent=True) from None

    def _send_ping(self) -> None:
        if self.end_error is not None or self.ended:
            raise ConnectionClosed("the connection has ended")
        self._protocol.send_ping()
        self.flush_soon()

    def keep_alive(self, seconds: float | None) -> None:
        """Send a PING whenever nothing was sent or received for ``seconds``; close the connection without an answer."""
        if seconds is not None:
            self._pinger = self._loop.create_task(self._ping_when_idle(seconds), name=f"keepalive {self._address}")

    async def _ping_when_idle(self, seconds: float) -> None:
        while self.end_error is None:
            quiet = monotonic() - self._last_heard
            if quiet < seconds or self._replies:
                await asyncio.sleep(max(seconds - quiet, seconds / 4))
                continue
            try:
                await self.ping(monotonic() + PATIENCE)
            except SealwireError:
                self._doubted_since, self._doubted_request = math.inf, 0
                if not self._replies:
                    self.abort()
                return

    def _stop_pings(self) -> None:
        """Send no more PINGs of keepalive."""
        if self._pinger is not None:
            self._pinger.cancel()

"""A client's end of a connection on asyncio, as far as it is about PINGs: those of callers, and those of keepalive."""

from __future__ import annotations

import asyncio
import math
from time import monotonic

from sealwire.aio.client_parts import ClientPartsChannel
from sealwire.errors import ConnectionClosed, SealwireError
from sealwire.session import explain
from sealwire.sync.keep_alive import PATIENCE


class ClientPingsChannel(ClientPartsChannel):
    """The part of a client's end for PINGs."""

    def _prepare_pings(self) -> None:
        self._pinger: asyncio.Task[None] | None = None
        self._pong: asyncio.Future[None] | None = None
        """Done when the PING that is unanswered is answered; None if there is none."""

    async def ping(self, deadline: float) -> float:
        """Return the seconds until the server's answer to a PING.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionLost.
        """
        begun = monotonic()
        try:
            async with asyncio.timeout(deadline - begun):
                while self._pong is not None:  # the protocol allows one at a time
                    await asyncio.wait([self._pong])
                if self.end_error is not None or self.ended:
                    raise self._session.lost(ConnectionClosed("the connection has ended"), None)
                begun = monotonic()
                self._pong = pong = self._loop.create_future()
                self._protocol.send_ping()
                self.flush_soon()
                await asyncio.shield(pong)
        except ConnectionClosed as closed:
            raise self._session.lost(closed, None) from None
        except TimeoutError:
            self._doubt(0, begun)
            raise explain.no_reply(self._address, sent=True) from None
        return monotonic() - begun

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

    def _note_pong(self) -> bool:
        """Answer the task that waits for a PONG; return False if there is none."""
        pong, self._pong = self._pong, None
        if pong is None:
            return False
        pong.set_result(None)
        return True

    def _fail_ping(self, error: SealwireError) -> None:
        """Fail the PING that is unanswered, if there is one."""
        pong, self._pong = self._pong, None
        if pong is not None and not pong.done():
            pong.set_exception(error)
            pong.exception()  # retrieved, or asyncio logs it when no caller is waiting

    def _stop_pings(self) -> None:
        """Send no more PINGs of keepalive."""
        if self._pinger is not None:
            self._pinger.cancel()

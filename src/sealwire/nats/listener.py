"""The subject on which a worker takes sessions, in place of a listening socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import SystemRandom
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sealwire.admission import Admission
from sealwire.backoff import Backoff
from sealwire.errors import SealwireError
from sealwire.nats.link import Link
from sealwire.nats.messages import Kind, pack, unpack
from sealwire.nats.session import Session
from sealwire.security import Security
from sealwire.wire.frames import escaped

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

logger = logging.getLogger("sealwire.server")

_INTERVAL: Final = 10.0
"""Seconds without a message after which a worker probes a client. Clients probe more often."""
_WAITING: Final = 1024
"""Sessions that wait to be accepted."""
_CONNECTING: Final = 5.0
"""Seconds for a connection to NATS."""
_LEAVING: Final = 2.0
"""Seconds for leaving the queue group."""
_random = SystemRandom()


class Listener:
    """A subject, with the methods that a server calls of its listening socket.

    Args:
        urls: The URLs of the NATS servers.
        subject: The subject.
        queue: The queue group.
        address: The name of both in messages.
        security: The worker's Security.
        options: Options of nats-py's connect.
    """

    family = None

    def __init__(
        self,
        urls: Sequence[str],
        subject: str,
        queue: str,
        address: str,
        security: Security,
        options: Mapping[str, Any],
    ) -> None:
        self._urls = urls
        self._subject = subject
        self._queue = queue
        self._address = address
        self._security = security
        self._options = options
        self._opened: asyncio.Queue[Msg | None] = asyncio.Queue(_WAITING)
        """Messages that open sessions; None when the connection to NATS has ended."""
        self._link: Link | None = None
        self._subscription: Subscription | None = None
        self._left = False
        self._closed = False

    # The listening socket

    def setblocking(self, _: bool) -> None:
        """Do nothing: nothing here blocks."""

    def getsockname(self) -> str:
        """Return the URL of the subject."""
        return self._address

    def fileno(self) -> int:
        """Return a negative number if it is closed."""
        return -1 if self._closed else 0

    def close(self) -> None:
        """Take no more sessions. Those that there are end with :meth:`end`."""
        self._closed = True

    # Its connection

    async def open(self) -> None:
        """Connect to NATS, and join the queue group. Raises TransportError, ConfigurationError."""
        self._link = link = await Link.open(self._urls, self._address, self._security, self._options, _CONNECTING)
        try:
            self._subscription = await link.subscribe(self._subject, self._note, self._queue)
            await link.settle()
        except BaseException:
            await asyncio.shield(link.close())
            raise
        link.lost.add_done_callback(self._note_loss)

    async def _note(self, message: Msg) -> None:
        try:
            self._opened.put_nowait(message)
        except asyncio.QueueFull:
            self._refuse(message)

    def _note_loss(self, _: object) -> None:
        while self._opened.full():
            self._opened.get_nowait()
        self._opened.put_nowait(None)

    def _refuse(self, message: Msg) -> None:
        if self._link is not None and message.reply:
            self._link.send(message.reply, pack(Kind.RESET, 0, 0))

    async def accept(self, admission: Admission) -> tuple[Session, str]:
        """Return the next session that a client has opened, and its inbox as the client's address."""
        while True:
            message = await self._opened.get()
            await asyncio.sleep(0)  # however many come, others have their turns
            if message is None:
                await self._connect_again()
            elif not admission.wait_for_room(0.0):
                self._refuse(message)
            elif (session := await self._join(message)) is not None:
                return session, f"nats:{escaped(message.reply)[:100]}"

    async def _join(self, message: Msg) -> Session | None:
        """Return the worker's end of a session; None if the message does not open one."""
        link = self._link
        with suppress(ValueError, SealwireError):
            if link is not None and message.reply and unpack(message.data).kind is Kind.OPEN:
                session = Session(link, link.new_inbox(), message.reply, interval=_INTERVAL, is_client=False)
                await link.join(session)
                await session.receive(message)
                return session
        return None

    async def _connect_again(self) -> None:
        """Connect to NATS again, however long it takes, with back-off."""
        logger.warning("%s: the connection to NATS has ended; connecting again", self._address)
        backoff = Backoff(0.05, 2.0, jitter=lambda: _random.uniform(0.5, 1.0))
        failed_at = monotonic()
        while not self._left:
            try:
                await self.open()
            except SealwireError as error:
                pause = backoff.next()
                logger.log(logging.WARNING if pause > 1 else logging.INFO, "%s", error)
                await asyncio.sleep(pause)
            else:
                logger.info("%s: connected to NATS again after %.1f s", self._address, monotonic() - failed_at)
                return

    async def leave(self) -> None:
        """Leave the queue group: no more sessions are opened here when this returns, except those in progress."""
        self._left = True
        if self._subscription is not None and self._link is not None and self._link.is_open:
            with suppress(SealwireError, TimeoutError):
                async with asyncio.timeout(_LEAVING):
                    await self._link.leave(self._subscription)

    async def end(self) -> None:
        """Close the connection to NATS, and end all sessions."""
        self._left = True
        if self._link is not None:
            await self._link.close()

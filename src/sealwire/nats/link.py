"""A connection to a NATS server, which the sessions of one client or worker share.

nats-py does not connect again by itself here: it could not tell which of its messages were lost. All sessions end with
their connection instead, as those of TCP do, and their owners make a new one, with the certificates of that time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from nats.aio.client import Client
from nats.errors import Error, SlowConsumerError

from sealwire.errors import ConfigurationError, HandshakeFailed, SealwireError, TransportError, because
from sealwire.fork import blank, leave_in_children
from sealwire.nats.messages import HEADER_SIZE
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.terms import carrier_tls

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from sealwire.nats.session import Session

logger = logging.getLogger("sealwire.nats")

_WINDOW: Final = 262_144
"""Bytes that are under way to one session, at most."""
_SMALLEST_WINDOW: Final = 32_768
_WINDOWS: Final = 33_554_432
"""Bytes that are under way to all sessions. A NATS server drops a client that is behind by 64 MiB (``max_pending``)."""
_SMALLEST_RECORD: Final = 16
"""Bytes of a TLS record, at least: how many messages a window may be."""
_LEAST_PAYLOAD: Final = 4096
_LOOK: Final = 0.5
"""Seconds between two looks for an end of the connection that nats-py has not reported."""
_CLOSING: Final = 1.0
"""Seconds for what is still to be sent when the connection is closed."""
_POLL: Final = 0.01
Receive = Callable[["Msg"], Awaitable[None]]


class Link:
    """A connection to a NATS server. Make one with :meth:`open`.

    Attributes:
        sessions: The sessions on it, by their inboxes.
        lost: A future that is done when the connection has ended.
        refusal: What the NATS server has refused last, of publishing and subscribing; empty if it has not.
    """

    def __init__(self, address: str, inbox_prefix: str) -> None:
        self._address = address
        self._inboxes = f"{inbox_prefix}.{secrets.token_hex(11)}"
        self._client = Client()
        self._subscriptions: dict[str, Subscription] = {}
        self._steps: deque[Callable[[], Awaitable[Any]]] = deque()
        """The steps of sending to the NATS server that are to come, in order."""
        self._has_steps = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._error: Exception | None = None
        self.sessions: dict[str, Session] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusal = ""
        leave_in_children(self)

    @classmethod
    async def open(
        cls, urls: Sequence[str], address: str, security: Security, options: Mapping[str, Any], seconds: float
    ) -> Link:
        """Connect to one of the NATS servers.

        Args:
            urls: Their URLs.
            address: Their name in messages.
            security: The Security with the certificates for TLS, unless ``options`` has another context.
            options: Options of nats-py's connect.
            seconds: Seconds for connecting, at most.

        Raises TransportError, ConfigurationError.
        """
        link = cls(address, str(options.get("inbox_prefix", "_INBOX")))
        pinned = security.pinned()
        task = asyncio.current_task()
        assert task is not None  # this runs in one
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(seconds):
                ours = {"tls": carrier_tls(pinned.credentials.current), "connect_timeout": seconds / len(urls)}
                await link._connect(urls, ours | dict(options))
        except BaseException as error:
            await asyncio.shield(link.close())
            if isinstance(error, TimeoutError):
                raise explain.no_answer(address) from None
            if isinstance(error, SealwireError) or not isinstance(error, OSError | Error):
                raise
            if task.cancelling() > cancelled:  # nats-py takes it for an error of the connection
                raise asyncio.CancelledError from None
            raise explain.unreachable(address, link._reason(error)) from None
        return link

    async def _connect(self, urls: Sequence[str], options: dict[str, Any]) -> None:
        await self._client.connect(
            **options,
            servers=list(urls),
            error_cb=self._note_error,
            closed_cb=self._note_end,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
        )
        transport: Any = self._client._transport  # there is no other way to the socket
        self._writer = writer = transport._io_writer
        if writer.get_extra_info("ssl_object") is not None:
            protocol: Any = writer.transport.get_protocol()
            protocol._over_ssl = True  # nats-py's way to TLS does not set it, and asyncio warns at each end
        elif any(url.startswith("tls:") for url in urls):
            raise TransportError(f"{self._address}: the NATS server does not speak TLS, which tls:// asks for")
        if self.max_payload < _LEAST_PAYLOAD:
            raise ConfigurationError(
                f"{self._address}: the NATS server's max_payload is {self.max_payload} bytes; "
                f"{_LEAST_PAYLOAD} are needed at least"
            )
        for name in ("_reading_task", "_flusher_task", "_ping_interval_task"):
            task: asyncio.Task[None] | None = getattr(self._client, name, None)
            if task is not None:  # its errors are those of the connection, which are noticed here otherwise
                task.add_done_callback(lambda task: task.cancelled() or task.exception())
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(duty(), name=f"NATS {self._address}") for duty in (self._write, self._watch)]

    def _reason(self, error: BaseException) -> str:
        last = self._error if self._error is not None else error
        if isinstance(last, ConnectionResetError) and self._writer is None:
            return "the NATS server cut the connection, as it does when it refuses a user or a certificate"
        if isinstance(last, OSError):
            return explain.reason(last)
        return str(last).removeprefix("nats: ") or type(last).__name__

    @property
    def is_open(self) -> bool:
        """True until the connection has ended."""
        return not (self.lost.done() or self._client.is_closed)

    @property
    def max_payload(self) -> int:
        """Bytes of a message that the NATS server takes."""
        return int(self._client.max_payload)

    @property
    def window(self) -> int:
        """Bytes that may be under way to one session, so that all together are fewer than a NATS server drops."""
        return max(_SMALLEST_WINDOW, min(_WINDOW, _WINDOWS // max(1, len(self.sessions))))

    def new_inbox(self) -> str:
        """Return a subject that nobody can guess. Those of one link have a common beginning."""
        return f"{self._inboxes}.{secrets.token_hex(11)}"

    # Sending

    def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Publish a message, after those before it."""
        self._do(partial(self._client.publish, subject, payload, reply))

    def _do(self, step: Callable[[], Awaitable[Any]]) -> None:
        if self.is_open:
            self._steps.append(step)
            self._has_steps.set()

    async def _write(self) -> None:
        """Send what is to be sent. Waits when nats-py has much that is not sent."""
        try:
            while True:
                await self._has_steps.wait()
                self._has_steps.clear()
                while self._steps:
                    try:
                        await self._steps.popleft()()
                    except (Error, ValueError) as error:  # a subject that a stranger has named, or the connection ended
                        logger.debug("not sent to NATS: %s", type(error).__name__)
        finally:
            if not self.lost.done():
                self.drop()  # the loop ends, which cancels its tasks

    # Receiving

    async def join(self, session: Session) -> None:
        """Subscribe a session to its inbox."""
        self.sessions[session.inbox] = session
        self._subscriptions[session.inbox] = await self.subscribe(session.inbox, session.receive)

    async def subscribe(self, subject: str, receive: Receive, queue: str = "") -> Subscription:
        """Subscribe to a subject. Raises HandshakeFailed, which is transient, if the connection has just ended."""
        most = _WINDOW // _SMALLEST_RECORD
        try:
            return await self._client.subscribe(
                subject,
                queue=queue,
                cb=receive,
                pending_msgs_limit=most,
                pending_bytes_limit=_WINDOW + most * HEADER_SIZE,
            )
        except (Error, OSError) as error:
            raise self._has_ended(error) from None

    def _has_ended(self, error: Exception) -> HandshakeFailed:
        reason = self._reason(error)
        return HandshakeFailed(f"{self._address}: the connection to NATS has ended: {reason}", transient=True)

    async def leave(self, subscription: Subscription) -> None:
        """Unsubscribe; return when no message can come any more. Those that have come are received."""
        # Subscription.drain would drop what comes between its PING and UNSUB.
        await self._client._send_unsubscribe(subscription._id)
        await self.settle()

    async def settle(self) -> None:
        """Wait until the NATS server has seen what was sent. Raises TransportError if it has refused something."""
        try:
            # nats-py sends the first PING before what waits to be sent.
            await self._client.flush()
            await self._client.flush()
        except (Error, OSError) as error:
            raise self._has_ended(error) from None
        if self.refusal:
            refused = TransportError(f"{self._address}: the NATS server refused: {self.refusal}")
            raise because(refused, "not_authorised")

    def end(self, inbox: str) -> None:
        """Unsubscribe a session from its inbox."""
        self.sessions.pop(inbox, None)
        subscription = self._subscriptions.pop(inbox, None)
        if subscription is not None:
            self._do(subscription.unsubscribe)

    # The end

    async def _note_error(self, error: Exception) -> None:
        self._error = error
        if "permissions violation" in str(error).lower():
            self.refusal = str(error).removeprefix("nats: ")
            logger.warning("%s: %s", self._address, self.refusal)
            for session in [each for each in self.sessions.values() if each.is_new]:
                session.fail(ConnectionAbortedError(errno.ECONNABORTED, self.refusal))
        elif isinstance(error, SlowConsumerError):
            logger.warning("%s: more has come than there is room for; a session ends for that", self._address)
        elif isinstance(error, OSError) and self._writer is not None:
            await self._note_end()

    async def _note_end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def _watch(self) -> None:
        """End all sessions with the connection."""
        while not (self.lost.done() or self._client.is_closed):
            await asyncio.wait([self.lost], timeout=_LOOK)
        await self.close()

    async def close(self) -> None:
        """Close the connection after what is to be sent, and end all sessions."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                while self._steps and self.is_open and not self._client.is_closed:
                    await asyncio.sleep(_POLL)
        self._end_sessions()
        current = asyncio.current_task()
        ending = [task for task in self._tasks if task is not current]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        with suppress(OSError, Error, TimeoutError, AssertionError):  # the last if it was never connected
            async with asyncio.timeout(_CLOSING):
                await self._client.close()
        if self._writer is not None:
            self._writer.transport.abort()

    def drop(self) -> None:
        """Close the connection without sending anything, and end all sessions. The loop need not run."""
        with suppress(RuntimeError):  # the loop is closed
            self._end_sessions()
        with suppress(OSError, TypeError), socket.socket(fileno=os.dup(self._descriptor)) as sock:
            sock.shutdown(socket.SHUT_RDWR)
        with suppress(RuntimeError):
            if self._writer is not None:
                self._writer.transport.abort()

    def _end_sessions(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for session in list(self.sessions.values()):
            session.fail(ConnectionResetError(errno.ECONNRESET, "the connection to NATS has ended"), tell=False)

    @property
    def _descriptor(self) -> int:
        """The descriptor of the socket; -1 if it is closed."""
        return -1 if self._writer is None else int(self._writer.get_extra_info("socket").fileno())

    def leave_to_parent(self) -> None:
        """Close this process's copy of the socket, in a forked child: with it open, NATS would consider the link
        alive."""
        if self._descriptor >= 0:
            blank(self._descriptor)

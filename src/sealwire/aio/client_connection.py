"""A client's end of a connection on asyncio: requests out, and each reply to the task that waits for it.

The future of each request is resolved by its number as soon as the reply comes (``_process_input``), so replies may
come in any order and a cancelled request leaves the others alone. One task, ``_read_replies``, waits for the end of the
connection, and takes over when input is left. One timer for all requests watches their deadlines.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from time import monotonic

from sealwire.aio.client_pings import ClientPingsChannel
from sealwire.aio.unix_socket import PlainObject
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    SealwireError,
    TruncatedFrame,
)
from sealwire.security import Security
from sealwire.session import explain, misuse, terms
from sealwire.session.begin import begin_client_session, begin_unix_client_session
from sealwire.session.call_metadata import sendable
from sealwire.session.requests import LINGER
from sealwire.sync.unix_socket import own_process, peer_process
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import certificates_above
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Ponged
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata


class AsyncClientChannel(ClientPingsChannel):
    """A client's end of a sealed connection.

    Args:
        security: The client's Security.
        certificates: The client's certificates.
        host: The server's host name in canonical form, to verify; empty if it has none, None on a Unix socket.
        address: The server's address, for messages.

    Attributes:
        peer: The server's verified identity; None before the handshake.
        end_error: The error for requests since no more replies can come; None while they can.
    """

    _reads_while_full = True

    def __init__(self, security: Security, certificates: Certificates, *, host: str | None, address: str) -> None:
        super().__init__(
            None if host is None else terms.client_tls(security, certificates, named=bool(host)),
            server_side=False,
            host=host or None,
        )
        self._security = security
        self._certificates = certificates
        self._host = host or ""
        self._address = address
        self._limits = security.limits
        self._frame_timeout = security.limits.frame_timeout
        self._replies: dict[int, asyncio.Future[VerifiedPayload]] = {}
        self._deadlines: dict[int, float] = {}
        """The moments at which the callers of requests stop waiting."""
        self._due = math.inf
        """The moment for which the timer is set, no later than any deadline."""
        self._timer: asyncio.TimerHandle | None = None
        self._in_order: deque[asyncio.Future[VerifiedPayload]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.peer: PeerIdentity | None = None
        self.end_error: SealwireError | None = None
        self._prepare_parts()
        self._prepare_pings()

    async def establish(self, deadline: float) -> None:
        """Complete TLS and Sealwire's handshake.

        Raises HandshakeFailed, HandshakeRejected, PeerNotAllowed, DeadlineExceeded, ConfigurationError.
        """
        assert self._transport is not None  # it is connected
        if isinstance(self._tls, PlainObject):
            peer = peer_process(self._transport.get_extra_info("socket"))
            protocol, self._session = begin_unix_client_session(
                self._security, self._certificates, peer, own_process(), address=self._address, now=monotonic()
            )
        else:
            try:
                await self.secure(deadline)
            except DeadlineExceeded:
                raise explain.incomplete(self._address, "TLS") from None
            except OSError as error:
                raise explain.client_tls(error, self._address, self._certificates) from None
            protocol, self._session = begin_client_session(
                self._security, self._certificates, self._tls.selected_alpn_protocol(),
                self._tls.getpeercert(binary_form=True), above=certificates_above(self._tls), host=self._host,
                address=self._address, now=monotonic(),
            )  # fmt: skip
        self.peer = self._session.peer
        self.seal(protocol)
        self.flush_soon()
        try:
            event = await self.next_event(deadline)
        except SealwireError as error:
            anonymous = self._certificates.leaf is None
            failed = explain.missing_welcome(error, self._address, self.failure, anonymous=anonymous)
            raise failed from failed.__cause__
        self._session.establish(event)
        self._last_heard = monotonic()
        self._reader = self._loop.create_task(self._read_replies(), name=f"sealwire {self._address}")

    @property
    def is_open(self) -> bool:
        """True until the socket is closed."""
        return not self.lost.done()

    def usable(self) -> bool:
        """Return True if the connection can take a request. Checks certificates and key if due."""
        is_heard = self._last_heard >= self._doubted_since or not self._is_doubted
        return is_heard and self.end_error is None and not self.ended and self._session.usable(monotonic())

    async def request(
        self,
        payload: Payload,
        deadline: float,
        *,
        idempotent: bool = False,  # noqa: ARG002 - datagrams are sent again meanwhile
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> VerifiedPayload:
        """Send a request and return its reply.

        Args:
            payload: The encoded request.
            deadline: The time of ``time.monotonic()`` at which the caller stops waiting.
            idempotent: Not used.
            metadata: The metadata of the request. Default: none.
            reply_metadata: A dict to fill with the metadata of the reply. Default: none.

        Raises:
            FeatureNotSupported: The server takes no metadata.
            RemoteError: The server answered with FAULT.
            PayloadTooLarge: The payload is over the server's limit.
            RemoteProtocolError: The server broke the protocol.
            DeadlineExceeded: There was no reply in time.
            ConnectionLost: The connection ended.
        """
        begun = now = monotonic()
        sequence: int | None = None
        if metadata:
            metadata = sendable(metadata, self._protocol.features, self._address)
        try:
            if self._exchanges or self._full or self._unsent:
                now = await self._until_it_can_be_sent(deadline)
            if self.end_error is not None or self.ended:
                # Handled below, together with the end during the request.
                raise ConnectionClosed("the connection ended before the request was sent")
            sequence, future = self._send(payload, max(0.0, deadline - now), metadata)
            if reply_metadata is not None:
                self._reply_metadata[sequence] = reply_metadata
            self._deadlines[sequence] = deadline
            if deadline < self._due:
                self._watch_deadlines(deadline)
            return await future
        except ConnectionClosed as closed:
            if self._is_parents:
                raise explain.forked() from None
            # Each request gets an error of its own, which tells if a handler may have seen it.
            raise self._session.lost(closed, sequence if self._was_sent(sequence) else None) from None
        except DeadlineExceeded:
            raise explain.not_taken(sent=self._was_sent(sequence)) from None
        except TimeoutError:
            self._doubt(sequence or 0, begun)
            sent = sequence is not None
            if sent and len(self._replies) == 1 and not self._was_sent(sequence):
                # No other request needs the connection. Without it the rest of this one can no longer be sent.
                self.abort()
                sent = False
            raise explain.no_reply(self._address, sent=sent) from None
        finally:
            if sequence is not None:
                self._deadlines.pop(sequence, None)
                if self._reply_metadata:
                    self._reply_metadata.pop(sequence, None)
                if self._replies.pop(sequence, None) is not None:
                    self._cancel(sequence)

    async def _until_it_can_be_sent(self, deadline: float) -> float:
        """Wait for exchanges and for what is still to be sent; return the time. Raises TimeoutError."""
        if self._exchanges:
            await self._wait_for_room(deadline)
        if self._full or self._unsent:
            # If the connection breaks meanwhile, the missing reply reports it.
            async with asyncio.timeout(deadline - monotonic()):
                with suppress(ConnectionClosed, DeadlineExceeded):
                    await self.drained()
        return monotonic()

    def send_msg(self, payload: Payload) -> None:
        """Send a request. Usually called as ``sealwire.send_msg(channel, payload)``.

        Args:
            payload: The encoded message.

        Raises:
            PayloadTooLarge: The payload is over the server's limit; nothing was sent.
            ConnectionClosed: The connection has ended.
        """
        if self.end_error is not None or self.ended:
            raise ConnectionClosed("the connection has ended; connect again to send more")
        self._in_order.append(self._send(payload, None)[1])

    async def recv_async(self) -> bytes | None:
        """Return the payload of the next reply. Usually called as ``await sealwire.recv_async(channel)``.

        Returns:
            The encoded reply, in the order of the requests; None if the server has closed the connection.

        Raises:
            InvalidState: No request is unanswered.
            RemoteError: The server answered with an error.
            DeadlineExceeded: There was no reply within Limits.idle_timeout. The next call waits for it again.
            ConnectionClosed: The connection broke.
            RemoteProtocolError: The server broke the protocol.
        """
        if not self._in_order:
            raise misuse.nothing_awaited()
        future = self._in_order.popleft()
        try:
            await asyncio.wait([future], timeout=self._limits.idle_timeout)
        finally:
            if not future.done():
                self._in_order.appendleft(future)
        if not future.done():
            raise explain.nothing_came(self._address)
        try:
            return bytes(future.result())
        except ConnectionClosed as closed:
            if closed.code is None:
                raise
            return None

    # The end

    async def end(self) -> None:
        """Wait for the replies to all pending requests, then close the connection.

        Requests have the time of their callers. It takes two seconds at most to wait for replies that no task waits
        for, and as much again to close the connection.
        """
        await asyncio.wait([self.retire()])

    def retire(self) -> asyncio.Task[None]:
        """Close the connection when no request is in flight; return the task that does it."""
        if self._ending is None:
            self._ending = self._loop.create_task(self._end())
        return self._ending

    def close_now(self) -> None:
        """Fail all pending requests with ConnectionClosed, and close the connection."""
        self._fail_pending(explain.closed_here())
        self.retire()

    def drop(self) -> None:
        """Drop the connection without sending anything, and fail all pending requests. The loop need not run."""
        super().drop()
        with suppress(RuntimeError):  # the loop is closed
            self._fail_pending(explain.closed_here())

    def leave_to_parent(self) -> None:
        """Close this process's copy of the socket, in a forked child, where no pending request gets its reply."""
        super().leave_to_parent()
        with suppress(RuntimeError):  # the loop is closed
            self._fail_pending(explain.forked())

    async def _end(self) -> None:
        unclaimed_until = monotonic() + LINGER
        try:
            while self._replies:
                claimed = len(self._replies) > sum(not future.done() for future in self._in_order)
                left = None if claimed else unclaimed_until - monotonic()
                if left is not None and left <= 0:
                    break
                await asyncio.wait(self._replies.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            self._fail_pending(explain.closed_here())
            if self._reader is not None:
                self._reader.cancel()
                await asyncio.wait([self._reader])
            if self._unsent or self._full:
                return  # the rest of these requests is of no use to the server
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    # Do not linger for replies that no task waits for.
                    await self.close(linger=0 if self._protocol.unanswered else LINGER)
        finally:
            self.abort()

    def _send(
        self, payload: Payload, wait: float | None, metadata: Metadata | None = None, flags: int = 0
    ) -> tuple[int, asyncio.Future[VerifiedPayload]]:
        try:
            sequence = self._protocol.send_request(payload, wait=wait, metadata=metadata, flags=flags)
        except SealwireError:
            raise  # it has changed nothing
        except BaseException:
            # A signal handler raised it. A number may be used up, and the server would end the connection for the gap.
            self.abort()
            raise
        future: asyncio.Future[VerifiedPayload] = self._loop.create_future()
        self._replies[sequence] = future
        if len(self._replies) == 1 and not self._flush_scheduled:
            self._flush()  # alone, it need not wait for others
        else:
            self.flush_soon()
        return sequence, future

    def _watch_deadlines(self, due: float) -> None:
        """Set the timer for the next deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, None
        if due < math.inf and not self.lost.done():
            self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._time_out)

    def _time_out(self) -> None:
        """Fail the requests that have run out of time. The others have later deadlines than the timer had."""
        now = monotonic()
        for sequence, deadline in self._deadlines.items():
            future = self._replies.get(sequence)
            if deadline <= now and future is not None and not future.done():
                future.set_exception(TimeoutError())
        self._watch_deadlines(min((each for each in self._deadlines.values() if each > now), default=math.inf))

    async def _read_replies(self) -> None:
        """Resolve the futures of requests until the connection ends or the client closes it."""
        try:
            while self.end_error is None:
                if not self._process_input(monotonic()) and self.ended:
                    raise self._end_reason()
                await self._wait_for_input(math.inf)
        except TruncatedFrame:
            self._fail_pending(ConnectionClosed("the connection ended inside a frame of the server"))
        except SealwireError as error:
            self._fail_pending(error)
        except asyncio.CancelledError:
            self._fail_pending(explain.closed_here())
            if self._ending is None:
                self._leave()
            raise
        finally:
            self._fail_pending(explain.closed_here())  # also after an exception of a signal handler
        await self.close()

    def _process_input(self, now: float) -> bool:
        """Resolve the futures of all requests that have their replies; return False if there is more to do."""
        if self._reader is None:
            return False
        while self.end_error is None:
            event = self._poll_event()
            if self._hearing is not None:
                self._heard()
            if event is None:
                if self._room_waiters:
                    self._wake_all()
                return not (self._has_input or self.ended)
            self._last_heard = now
            if type(event) is Ponged and self._pings.answered():
                continue
            answer = self._session.receive(event)
            if answer is None:
                self._note(event)
            else:
                if self._reply_metadata:
                    self._note_metadata(event)
                future = self._replies.pop(answer[0], None)
                if future is not None and not future.done():
                    _settle(future, answer[1])
                if self._room_waiters:
                    self._wake_all()
            if self._is_exhausted:
                return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection."""
        super().connection_lost(exc)
        self._stop_pings()
        self._watch_deadlines(math.inf)

    def _leave(self) -> None:
        """Close the connection at once, since its event loop ends and no task can wait."""
        self._protocol.close()
        self._flush()
        if self._transport is not None and not self._discarding:
            with suppress(OSError, ValueError):
                self._tls.unwrap()
            self._write_out()
            self._discarding = True
            self._transport.close()

    def _fail_pending(self, error: SealwireError) -> None:
        """Fail all pending requests, since no more replies come."""
        if self.end_error is None:
            self.end_error = error
        if self._unsent:
            self.abort()  # or the rest of a request could arrive after it was sent on another connection
        for future in self._replies.values():
            if not future.done():
                _settle(future, self.end_error)
        self._replies.clear()
        self._pings.fail(self.end_error)
        self._wake_all()
        self._heard()


def _settle(future: asyncio.Future[VerifiedPayload], result: VerifiedPayload | SealwireError) -> None:
    if not isinstance(result, SealwireError):
        future.set_result(result)
        return
    future.set_exception(result)
    # Mark the exception as retrieved, or asyncio logs it when no caller is waiting.
    future.exception()

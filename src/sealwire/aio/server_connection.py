"""A server's end of a connection on asyncio: handshake, requests in, replies out."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final, Protocol

from sealwire.aio.loop_turns import LoopTurns
from sealwire.aio.server_parts import PartsChannel
from sealwire.aio.threads import look
from sealwire.aio.unix_socket import PlainObject
from sealwire.errors import ConnectionClosed, DeadlineExceeded, TransportError
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.arrival_times import Arrivals
from sealwire.session.begin import begin_server_session, begin_unix_server_session
from sealwire.session.buffers import STEP
from sealwire.session.round_robin import ROUND
from sealwire.session.server import MAX_UNANSWERED, ServerSession
from sealwire.session.validity import Termination
from sealwire.slot import Slot
from sealwire.sync.unix_socket import peer_process
from sealwire.trust.contexts import certificates_above
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.known_peers import known_peers
from sealwire.wire.events import Doubted, Event, Request
from sealwire.wire.frames import CloseCode, Payload
from sealwire.wire.metadata import Metadata
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerProtocol

_TOGETHER: Final = 16
"""Replies that are sent together, at most."""


class Handlers(Protocol):
    """Answers the requests of one connection, unless a handler owns it."""

    @property
    def has_room(self) -> bool:
        """True if another frame may be read."""

    @property
    def is_ready(self) -> bool:
        """True if another request may be handed over now."""

    def hand_over(self, request: Request, deadline: float | None) -> None:
        """Handle a request until its handler has to wait."""

    def cancel(self, request: int) -> None:
        """Cancel the handler of a request, if it is a coroutine that waits."""

    def end_streams(self) -> None:
        """Cancel the handlers that yield parts: the connection is closing."""


class AsyncServerChannel(PartsChannel):
    """A server's end of a sealed connection; the ``self.request`` of an ``async def handle``.

    One task takes requests; any number of tasks may answer.

    Args:
        security: The server's Security.
        unix: True if the connection is on a Unix socket.
        slot: The connection's slot; gets the client's identity.
        turns: The turns of the server's connections.
        busy: Returns the code to REJECT an authorised client with, or None.
        in_parts: True if handlers take and give messages in parts.

    Attributes:
        security: The Security that was pinned for the connection.
        session: The rules of the connection, after TLS.
        handlers: Answers the requests; None if a handler owns the connection.
        deadline: The time (``time.monotonic()``) at which the client stops waiting for the reply to the last request;
            None if it did not say.
    """

    _protocol: ServerProtocol
    _reads_while_full = False

    def __init__(
        self,
        security: Security,
        *,
        unix: bool,
        slot: Slot,
        turns: LoopTurns,
        busy: Callable[[], int | None],
        in_parts: bool,
    ) -> None:
        self.security = self._security = security = security.pinned()
        self._features = terms.server_features(security, at_once=security.limits.max_in_flight, in_parts=in_parts)
        self._certificates = security.credentials.current
        super().__init__(None if unix else terms.server_tls(security, self._certificates), server_side=True)
        self._count_in(slot.holding)
        self._prepare_parts()
        self._slot = slot
        self._turns = turns
        self._busy = busy
        self._limits = security.limits
        self._frame_timeout = security.limits.frame_timeout
        self._arrivals: Arrivals = Arrivals()
        self._handling = False
        """True if the last request from ``next_for_handler`` is not finished yet."""
        self.handlers: Handlers | None = None
        self.deadline: float | None = None

    @property
    def peer(self) -> PeerIdentity | None:
        """The client's verified identity; None without a certificate."""
        return self._slot.peer

    @property
    def share(self) -> Hashable:
        """The peer that the connection's work is charged to."""
        return self._slot.key

    @property
    def key_id(self) -> str:
        """The id of the key that the client proved to have."""
        return self.session.key_id

    @property
    def termination(self) -> Termination | None:
        """The reason if certificates, key or age ended the connection."""
        return self.session.termination

    @property
    def oldest_unanswered(self) -> int | None:
        """The number of the oldest unanswered request; None if all are answered."""
        return self._protocol.oldest_unanswered

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection, before the transport closes the socket."""
        self._slot.track_socket(None)
        if self._sealed:
            self.session.drop_unanswered()
        super().connection_lost(exc)

    async def accept(self) -> None:
        """Complete TLS and Sealwire's handshake, within Limits.handshake_timeout.

        Raises HandshakeFailed, PeerNotAllowed, RemoteProtocolError, ConnectionClosed, DeadlineExceeded.
        """
        deadline = self._slot.since + self._limits.handshake_timeout
        protocol, self.session = await self._begin_session(deadline)
        self.seal(protocol)
        try:
            event = await self.next_event(deadline)
        except ConnectionClosed:
            if isinstance(self._tls, PlainObject):
                raise explain.silent() from None  # HELLO comes first, and no byte of it has come
            raise
        if isinstance(event, Doubted):
            await look(self._security, deadline)
            try:
                event = self.session.answer_hello()
            finally:
                self.flush_soon()
        self.session.establish(event)

    async def _begin_session(self, deadline: float) -> tuple[ServerProtocol, ServerSession]:
        """Identify the client, with the TLS handshake if there is TLS, and set the slot's ``peer``."""
        slot = self._slot
        assert self._transport is not None  # it is connected
        if isinstance(self._tls, PlainObject):
            try:
                process = peer_process(self._transport.get_extra_info("socket"))
            except TransportError:
                raise  # says that the system cannot tell
            except OSError as error:
                raise explain.ended_at_start(error) from None
            slot.peer = process
            return begin_unix_server_session(
                self._security, self._certificates, process, slot=slot, busy=self._busy, now=monotonic(),
                features=self._features,
            )  # fmt: skip
        try:
            await self.secure(deadline)
        except DeadlineExceeded:
            raise
        except OSError as error:
            raise (explain.silent() if self._is_silent else explain.server_tls(error, self._certificates)) from None
        leaf = self._tls.getpeercert(binary_form=True)
        slot.peer = None if leaf is None else known_peers.identify(leaf)
        alpn = self._tls.selected_alpn_protocol()
        return begin_server_session(
            self._security, self._certificates, alpn, leaf, slot.peer,
            above=certificates_above(self._tls), slot=slot, busy=self._busy, now=monotonic(), features=self._features,
        )  # fmt: skip

    # Requests

    async def next_request(self) -> Request | None:
        """Return the next request; None after the last one, or if its handlers have no room for another.

        Call :meth:`start_handling` before a handler gets it.

        Raises RemoteProtocolError, ConnectionClosed, DeadlineExceeded, InvalidState.
        """
        session, handlers = self.session, self.handlers
        if session.unanswered >= MAX_UNANSWERED:
            raise session.too_many_unanswered()
        turns, key = self._turns, self._slot.key
        while session.closing is None if handlers is None else handlers.has_room:
            if session.closing is not None and handlers is not None:
                handlers.end_streams()
            if not (self._is_exhausted or turns.take(key, monotonic())):
                session.paused(await turns.wait(key))
            if (
                self._holding.counted
                and self._holding.waits
                and not await self._wait_for_others(session.input_deadline(monotonic()))
            ):
                session.on_timeout(monotonic())
                continue
            event = self._poll_event()
            now = monotonic()
            if event is not None:
                request = self._receive(event, now)
                if request is not None:
                    return request
                if now < session.input_deadline(now):
                    continue
            elif self.ended:
                if self.failure is not None and self._protocol.state is not State.ENDED:
                    raise self._end_reason()  # what came before is more than one turn takes
                return None
            elif self._protocol.inside_frame:
                session.begin_frame(now)
                self._count_held()
            if self._full:  # nothing is read until there is room, so the time of a frame does not run
                await self.drained()
                session.restart_frame(monotonic())
                continue
            # If a reply has filled the transport meanwhile, nothing was read, and the client is not late.
            if not await self._wait_for_input(session.input_deadline(now)) and not self._full:
                self._finish_handling()
                session.on_timeout(monotonic())
        return None

    def _receive(self, event: Event, now: float) -> Request | None:
        """Process an event; return it if it is a request for a handler, and note its deadline."""
        request = self.session.receive(event, now)
        if request is not None:
            self._in_hand += len(request.payload)
            if self._in_hand >= STEP:
                self._count_held()
            arrived = self._arrivals.at(self._unread)
            self.deadline = None if request.wait is None else arrived + request.wait
            if request.flags:
                self._note_upload(request)
        else:
            self._note(event)
        return request

    def _process_input(self, now: float) -> bool:
        """Hand over the requests that have just come, if none of them has to wait for anything."""
        if self.handlers is None:
            return False
        self._flush_scheduled = True  # below, for all replies together
        try:
            is_complete = self._hand_over(self.handlers, now)
        finally:
            self._flush()
        return is_complete and not self._unsent and not self._full

    def _hand_over(self, handlers: Handlers, now: float) -> bool:
        """Hand over requests for ROUND seconds; return False if there is more to do.

        Replies are sent several at a time, and not all at the end, so that the client is at work meanwhile.
        """
        session, end = self.session, now + ROUND
        while (
            now < end
            and session.closing is None
            and session.unanswered < MAX_UNANSWERED
            and handlers.is_ready
            and not (self._full or self._unsent or self._holding.counted)
            and self._turns.take(self._slot.key, now)
        ):
            event = self._poll_event()
            if event is None:
                return self._is_exhausted and not self.ended
            request = self._receive(event, now)
            if request is not None:
                handlers.hand_over(request, self.deadline)
                if len(self._protocol.queued) >= _TOGETHER:
                    self._flush()
                    self._flush_scheduled = True
            if self._is_exhausted:
                return session.closing is None and not session.ended
            now = monotonic()
        return False

    def start_handling(self, request: Request, deadline: float | None) -> bool:
        """Start handling a request; return False if its deadline passed or the connection is closing.

        When the handler has finished, call ``session.finish_handling``.
        """
        if self._discarding or self.lost.done():
            return False
        started = self.session.start_handling(request, deadline, monotonic())
        if not started and self._protocol.queued:
            self.flush_soon()
        return started

    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Queue the answer to a request; FAULT 18 if the payload is over the client's limit.

        Raises ConnectionClosed, InvalidState, PayloadTooLarge.
        """
        if self._discarding or self.lost.done():
            raise explain.dropped_reply()
        try:
            self.session.reply(request, payload, monotonic(), metadata)
            self._unsent_bytes += sum(map(len, payload)) if isinstance(payload, list) else len(payload)
            if self._unsent_bytes >= STEP:
                self._count_held()
        finally:
            if self._unsent_bytes >= STEP:
                self._flush()
            else:
                self.flush_soon()

    def _cancel_handler(self, request: int) -> None:
        if self.handlers is not None:
            self.handlers.cancel(request)

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Queue FAULT for a request; the default text is the code's own. Raises like :meth:`send_reply`."""
        if self._discarding or self.lost.done():
            raise explain.dropped_reply()
        self.session.fault(request, code, text)
        self.flush_soon()

    def refuse_request(self, request: Request, limit: str) -> None:
        """Queue FAULT for a request that is not handed over, because of a limit. Raises like :meth:`send_reply`."""
        if self._discarding or self.lost.done():
            raise explain.dropped_reply()
        self.session.refuse(request.sequence, limit)
        self.flush_soon()

    async def next_for_handler(self) -> tuple[Request, float | None] | None:
        """Start handling the next request, for a handler that owns the connection; the last one counts as finished.

        Returns:
            The request and its deadline, or None after the last one.
        """
        self._finish_handling()
        while (request := await self.next_request()) is not None:
            deadline = self.deadline
            if self.start_handling(request, deadline):
                if self._handling:
                    self.session.finish_handling(monotonic())
                self._handling = True
                return request, deadline
        return None

    def _finish_handling(self) -> None:
        """Finish with the requests of a handler that owns the connection, unless its tasks still have to answer one."""
        if self._handling and not self.session.unanswered:
            self._handling = False
            self._in_hand = 0
            self.session.finish_handling(monotonic())

    async def recv_async(self) -> bytes | None:
        """Return the payload of the next request. Usually called as ``await sealwire.recv_async(channel)``.

        Waits first until earlier replies were passed to the transport, so that a client that does not read its replies
        cannot make the server queue more of them.

        Returns:
            The encoded message, or None after the last one.

        Raises:
            ConnectionClosed: The connection broke, or ended without the closing frame.
            DeadlineExceeded: The client did not take earlier replies in time.
            RemoteProtocolError: The client broke the protocol.
            InvalidState: 1,024 requests are unanswered.
        """
        # Flush now: if requests have arrived already, the handler continues without giving the loop a chance to flush.
        if self._protocol.queued:
            self._flush()
        await self.drained()
        started = await self.next_for_handler()
        return None if started is None else bytes(started[0].payload)

    # The end

    def drain(self) -> None:
        """Take no more requests: the server is going away."""
        if self._sealed:  # otherwise the server calls this again after the handshake
            self.session.close(CloseCode.GOING_AWAY)
            self._wake()

    def check(self) -> None:
        """Begin to close the connection if its certificates, key or age no longer allow it."""
        if not self._sealed or not self.session.key_id:
            return
        before = self.session.termination
        # The server has just reloaded the files for all connections, even those that were checked in the meantime.
        self.session.validity.next_check = 0.0
        self.session.check(monotonic())
        if self.session.termination is not before:
            if self._protocol.queued:
                self.flush_soon()
            self._wake()

    async def end(self) -> None:
        """Close the connection with the session's code, by default 0."""
        closing = self.session.closing
        await self.close(CloseCode.DONE if closing is None else closing)

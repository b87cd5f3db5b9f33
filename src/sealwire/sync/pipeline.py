"""The loop over ``send_requests``: requests out, replies in, on a connection of its own.

Everything runs in the caller's thread, between the steps of the caller's code: the iterable, which makes requests, and
the body of the loop, which takes replies. Either may take its time, raise, fork, or use the client itself. So before
each of them everything that can be sent is sent, and nothing is held that others wait for. If they need the connection
itself, because the server serves one at a time, the loop lends it, and takes it or another one when it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from time import monotonic
from typing import Any, Final, Protocol

from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    PayloadTooLarge,
    RemoteError,
    SealwireError,
    TruncatedFrame,
)
from sealwire.fork import this_process
from sealwire.retry import Resend
from sealwire.security import Security
from sealwire.session import explain, misuse
from sealwire.session.call_time import end_of
from sealwire.session.client import ConnectionLost
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.pipeline_items import Items, Request
from sealwire.wire.frames import FaultCode, VerifiedPayload

SHORT_LINGER: Final = 0.1
"""Seconds to linger on a connection that the server has ended already; the caller is waiting for a new one."""
_TOGETHER: Final = 8192
"""Bytes of small requests that are sent together, about: one TLS record has twice as many, and their frames in it."""
_NOTICED: Final = 0.001
"""Seconds of the caller's code from which on they are taken off the time of requests."""
_SLOW: Final = 0.01
"""Seconds from which on an iterable is slow, and replies are waited for before its next item is taken."""
_PATIENCE: Final = 0.25
"""Part of the time of a slow iterable's last item to wait for replies, and seconds at most."""


class _Connect(Protocol):
    def __call__(self, loop: Pipeline, deadline: float, /) -> None: ...


class _Finish(Protocol):
    def __call__(self, loop: Pipeline, error: BaseException | None, /) -> None: ...


class _Remaining(Protocol):
    def __call__(self, resend: Resend, lost: ConnectionLost, loop: Pipeline, /) -> float: ...


class Pipeline:
    """One loop over ``send_requests``.

    Args:
        security: The client's Security.
        connect: Sets ``channel``.
        finish: Takes ``channel`` back.
        remaining: Returns the seconds for sending a lost request again, or raises.
        decode: Returns the value of a reply, or raises DecodeError.
        wait: Seconds for each request.
        window: Number of requests in flight, at most.
        idempotent: True if the server may act on a request twice.
        return_errors: Yield errors in place of replies.
        resends: The number of times that a request which no handler can have seen is sent again.

    Attributes:
        channel: The connection; None if there is none.
        place: The place of the connection in a pool, if it is one's.
        closed: True if the client was closed meanwhile.
        in_order: True while no step on the connection is half done.
        process: The process of the loop.
    """

    def __init__(
        self,
        security: Security,
        *,
        connect: _Connect,
        finish: _Finish,
        remaining: _Remaining,
        decode: Callable[[VerifiedPayload], Any],
        wait: float,
        window: int,
        idempotent: bool,
        return_errors: bool,
        resends: int = 1,
    ) -> None:
        self._security = security
        self._connect = connect
        self._finish = finish
        self._remaining = remaining
        self._decode = decode
        self._wait = wait
        self._window = window
        self._idempotent = idempotent
        self._return_errors = return_errors
        self._resends = resends
        self._order: deque[Request] = deque()
        """All items without a result, in order."""
        self._again: deque[Request] = deque()
        """Those of them that are to be sent again."""
        self._in_flight: dict[int, Request] = {}
        self._leaving = False
        """True if the connection is to be replaced when nothing is in flight."""
        self._held = 0
        """Bytes of requests that are to be sent together with the next one."""
        self._pull_time = 0.0
        self._longest_pause = 0.0
        self._paused: deque[int] = deque()
        """The thread whose code the loop waits for; the thread that takes it out has the connection to itself."""
        self._failed: SealwireError | None = None
        """The error of the connection, found while the loop waited for the caller's code or behind the last answer."""
        self.channel: ClientChannel | None = None
        self.place: Any = None
        self.closed = False
        self.in_order = True
        self.process = this_process()

    def run(self, requests: Iterable[Any], timeout: float) -> Iterator[Any]:
        """Yield the results of all requests, in order. Connecting may take ``timeout`` seconds each time."""
        self._items = Items(requests, self._security, return_errors=self._return_errors)
        error: BaseException | None = None
        self.process = this_process()
        try:
            self._connect(self, end_of(timeout))
            while True:
                self.in_order = False
                self._step(timeout)
                self.in_order = True
                while self._order and self._order[0].answer is not None:
                    result = self._result(self._order.popleft())
                    paused = self._pause_now()
                    yield result
                    self._resume(paused)
                if not self._order and not self._items.more:
                    return
        except SealwireError as raised:
            self.in_order = True  # each step that raises one is whole
            error = raised
            raise
        finally:
            self._finish(self, error)

    def discard(self, linger: float) -> None:
        """Close the connection, which must not be used any more."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close(linger=linger)

    def interrupt(self) -> None:
        """End the loop, since the client is closed: its next step raises ConnectionClosed."""
        self.closed = True
        if self.channel is None:
            return
        if self.in_order:
            self.channel.close(linger=0.0)
        else:
            self.channel.interrupt()

    @property
    def is_paused_here(self) -> bool:
        """True if the loop waits for code of the caller's that runs in this thread."""
        return list(self._paused) == [get_ident()]

    def lend(self, deadline: float) -> ClientChannel | None:
        """Give the connection away when all requests in flight are answered; None if they are not in time.

        For a call of the caller's code, in the thread that the loop waits for.
        """
        try:
            thread = self._paused.pop()
        except IndexError:  # another thread was faster
            return None
        channel = None
        self.in_order = False
        try:
            while self._in_flight:
                self._take(self._channel.wait_for_answer(deadline))
            channel, self.channel = self.channel, None
        except SealwireError as error:
            self._failed = None if isinstance(error, DeadlineExceeded) else error
        finally:
            self._paused.append(thread)
        self.in_order = True
        return channel

    def _step(self, timeout: float) -> None:
        """Send what there is, and wait for an answer if nothing more can be sent."""
        try:
            if self._failed is not None:
                raise self._failed
            self._send(timeout)
            if self.channel is not None:
                self.channel.send_queued()
            if self._in_flight and self._order[0].answer is None:
                self._take(self._channel.wait_for_answer(self._deadline))
                self._take_others()
        except (ConnectionClosed, TruncatedFrame) as error:
            self._recover(error, timeout)
        except DeadlineExceeded as late:
            late.sent = bool(self._in_flight)
            raise self._explained(late) from None

    def _take_others(self) -> None:
        """Take the answers that came together with the last one, so that what they make room for is sent together."""
        try:
            while self._in_flight and self._channel.has_frames and self._take(self._channel.answer_now(0.0)):
                pass
        except SealwireError as error:
            self._failed = error  # for the next step: the replies before it come first

    @property
    def _channel(self) -> ClientChannel:
        if self.channel is None:
            raise explain.closed_here()
        return self.channel

    def _send(self, timeout: float) -> None:
        """Send requests until the window is full, the server takes no more, or an answer is there.

        Items that are there at once are sent several at a time: when a quarter of the window is free.
        """
        if self._items.is_instant and len(self._in_flight) > self._window - self._window // 4:
            return
        while len(self._in_flight) < self._window and not (self.channel is not None and self.channel.has_unsent):
            if self._leaving and not self._in_flight:
                self.discard(SHORT_LINGER)
            if self._in_flight:
                self._leaving = self._leaving or not self._channel.is_current()
                if self._leaving:
                    return
                if not self._items.is_instant and self._take(self._channel.answer_now(self._patience())):
                    if self._order[0].answer is not None:
                        return
                    continue
                if monotonic() >= self._deadline:
                    return
            request = self._again.popleft() if self._again else self._pull()
            if request is None:
                return
            if request.answer is None:
                self._send_one(request, timeout)
            if request.answer is not None:
                return

    def _send_one(self, request: Request, timeout: float) -> None:
        if not self._in_flight and (self.channel is None or not self.channel.usable()):
            # It ended while nothing was in flight, or is to be replaced.
            self._replace(timeout)
        if request.resend is None:
            request.resend = Resend(end_of(self._wait), idempotent=self._idempotent, times=self._resends)
        assert request.payload is not None  # it has no answer yet
        try:
            sequence = self._channel.send(request.payload, max(0.0, request.resend.deadline - monotonic()))
            self._held += len(request.payload)
            if not self._items.is_instant or self._held >= _TOGETHER:
                self._held = 0
                self._channel.send_queued()
        except PayloadTooLarge as error:
            self._items.refuse(request, error)
        else:
            self._in_flight[sequence] = request

    def _replace(self, timeout: float) -> None:
        self.discard(SHORT_LINGER)
        self._leaving = False
        self._connect(self, end_of(timeout))

    def _pull(self) -> Request | None:
        """Return the next item, or None after the last one."""
        if not self._items.more:
            return None
        self.in_order = True
        paused = self._pause_now()
        try:
            request = self._items.take()
        finally:
            self._pull_time = self._resume(paused)
            self.in_order = False
        if request is not None:
            self._order.append(request)
        return request

    def _take(self, answer: tuple[int, VerifiedPayload | RemoteError] | None) -> bool:
        """Assign an answer to its request; return True if there was one. A server may answer in any order."""
        if answer is None:
            return False
        self._in_flight.pop(answer[0]).answer = answer[1]
        return True

    @property
    def _deadline(self) -> float:
        """The time until which the oldest request in flight is waited for."""
        resend = next(iter(self._in_flight.values())).resend
        assert resend is not None  # it was sent
        return resend.deadline

    def _patience(self) -> float:
        """Return the seconds to wait for an answer before the next item is taken."""
        return min(self._pull_time, 1.0) * _PATIENCE if self._pull_time > _SLOW else 0.0

    def _pause_now(self) -> float:
        """Leave the thread to the caller's code; return the time."""
        self._paused.append(get_ident())
        return monotonic()

    def _resume(self, paused: float) -> float:
        """Take up the loop after the caller's code; return the seconds that it took. Raises InvalidState."""
        if self.process is not this_process():
            raise misuse.of_parent()
        try:
            self._paused.pop()
        except IndexError:
            raise misuse.lent() from None
        if not self.in_order and self.channel is not None:  # what borrowed the connection was interrupted
            self.channel.abandon()
            self.closed = True
        if self.closed:
            raise explain.closed_here()
        seconds = monotonic() - paused
        self._longest_pause = max(self._longest_pause, seconds)
        if seconds > _NOTICED and self._in_flight and self._channel.has_input:
            # The server has answered, and perhaps waits until that is taken. If it was silent, its time went on.
            for request in self._in_flight.values():
                assert request.resend is not None  # it was sent
                request.resend.deadline += seconds
        return seconds

    def _recover(self, error: ConnectionClosed | TruncatedFrame, timeout: float) -> None:
        """Make another connection, and send again what may be sent again."""
        self._failed = None
        channel, lost_requests = self._channel, dict(self._in_flight)
        self._in_flight.clear()
        remaining = timeout
        for sequence, request in lost_requests.items():
            assert request.resend is not None  # it was sent
            if channel.was_sent(sequence):
                lost = channel.lost(error, sequence)
                try:
                    remaining = min(remaining, self._remaining(request.resend, lost, self))
                except ConnectionClosed as unknown:
                    raise self._explained(unknown) from None
            else:
                request.resend = None
        self._again.extendleft(reversed(lost_requests.values()))
        self.discard(SHORT_LINGER)
        self._leaving = False
        self._connect(self, monotonic() + remaining)

    def _result(self, request: Request) -> Any:
        """Return the result of a request. Raises its error unless errors are returned."""
        answer = request.answer
        try:
            if not isinstance(answer, Exception):
                assert answer is not None  # it was answered
                return self._decode(answer)
            if isinstance(answer, RemoteError) and answer.code == FaultCode.DEADLINE_EXCEEDED and self._pause_matters:
                answer.add_note(self._pause)
        except DecodeError as error:
            answer = error
        if self._return_errors:
            return answer
        raise answer

    @property
    def _pause_matters(self) -> bool:
        return self._longest_pause >= min(self._wait, self._security.limits.frame_timeout) / 2

    @property
    def _pause(self) -> str:
        return (
            f"the loop over send_requests, or its iterable, paused for {self._longest_pause:.1f} s, in which no reply "
            "was taken from the server; make its steps shorter, or the window smaller"
        )

    def _explained(self, error: ConnectionClosed | DeadlineExceeded) -> SealwireError:
        """Return an error of the connection, with the part that the caller's code may have in it."""
        if not self._pause_matters or self.closed:
            return error
        error.args = (f"{error}; {self._pause}",)
        return error

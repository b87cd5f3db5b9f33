"""A client's end of a connection, as far as it is about parts and cancellation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from sealwire.errors import ConnectionClosed, RemoteError, SealwireError, TruncatedFrame
from sealwire.events import emit
from sealwire.session import explain, misuse
from sealwire.session.call_metadata import sendable
from sealwire.session.client import ClientSession
from sealwire.sync.pump import WOULD_BLOCK, Channel
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Event, Part, Reply
from sealwire.wire.frames import Flag, Payload

_LAST_WORDS: Final = 0.05
"""Seconds for sending CANCEL: the caller's time is over."""
_PATIENCE: Final = 0.1
"""Seconds for which the next request waits for the answers to cancelled ones, before it goes over a new connection."""


class ClientPartsChannel(Channel):
    """The methods for requests and replies in parts. All but the last two raise like :meth:`ClientChannel.request`."""

    _protocol: ClientProtocol
    _session: ClientSession

    def begin(self, payload: Payload, deadline: float, metadata: Mapping[str, str] | None, flags: Flag) -> int:
        """Send a request in parts, or one that may have a reply in parts, and return its number.

        Raises FeatureNotSupported if the server does not know parts, or metadata.
        """
        if not self._protocol.features.parts:
            raise misuse.not_in_parts(self._session.address)
        metadata = sendable(metadata, self._protocol.features, self._session.address)
        wait = max(0.0, deadline - monotonic())
        sequence = self._protocol.send_request(payload, wait=wait, metadata=metadata, flags=flags)
        try:
            self.flush(deadline)
        except ConnectionClosed as error:
            raise self._session.lost(error, None) from None
        return sequence

    def next_answer(self, request: int, deadline: float) -> Part | Reply | RemoteError:
        """Return the next part of the reply to a request, the reply itself, or the fault in its place."""
        try:
            while True:
                answer = self._answer_in(self.next_event(deadline))
                if answer is not None:
                    return answer
        except (ConnectionClosed, TruncatedFrame) as error:
            raise self._session.lost(error, request) from None

    def note_processed(self, request: int, size: int, deadline: float) -> None:
        """Give the server credit for a part of ``size`` bytes that the caller has taken."""
        if not self.ended:
            self._protocol.note_processed(request, size)
            with suppress(ConnectionClosed):  # which is reported when the next part is missing
                self.flush(deadline)

    def send_part(self, request: int, payload: Payload, deadline: float) -> Reply | RemoteError | None:
        """Send a part of a request when the server gives credit for it; return the answer if that comes before."""
        try:
            while True:
                event = self._protocol.next_event()
                if event is None and (self._sock.buffered or self._input.poll(0)):
                    self.receive(deadline, ready=True)
                    continue
                answer = self._answer_in(event) if event is not None or self.ended else None
                if answer is not None and not isinstance(answer, Part):
                    return answer
                if event is None and self._protocol.may_send_part(request):
                    self._protocol.send_part(request, payload)
                    self.flush(deadline)
                    return None
                if event is None:
                    self.receive(deadline)
        except (ConnectionClosed, TruncatedFrame) as error:
            raise self._session.lost(error, request) from None

    def end_parts(self, request: int, deadline: float) -> None:
        """Send the end of a request's parts."""
        self._protocol.end_parts(request)
        with suppress(ConnectionClosed):  # which is reported when the reply is missing
            self.flush(deadline)

    def cancel(self, request: int) -> None:
        """Give up a request, and tell the server. Does nothing if the connection has ended."""
        if self.ended or self._broken_off:
            return
        if self._protocol.is_wanted(request):
            number, address = self._protocol.request_id(request), self._session.address
            emit("client.given_up", f"request {number} to {address}: given up", address=address, request_id=number)
        with suppress(SealwireError):
            self._protocol.cancel(request)
            self.flush(monotonic() + _LAST_WORDS)

    def forget_cancelled(self) -> bool:
        """Wait a moment until all cancelled requests are answered; return True if they are."""
        deadline = monotonic() + _PATIENCE
        try:
            while self._protocol.unanswered and not self.ended and (seconds := deadline - monotonic()) > 0:
                if self._protocol.next_event() is not None:
                    return False
                if self._protocol.unanswered and (self._sock.buffered or self._input.poll(seconds * 1000)):
                    with suppress(*WOULD_BLOCK):  # a part of a TLS record has arrived
                        self._read()
        except SealwireError:
            return False
        return not self._protocol.unanswered and not self.ended

    def _answer_in(self, event: Event | None) -> Part | Reply | RemoteError | None:
        """Return the answer or part in an event; None if it is neither."""
        if event is None:
            raise explain.closed_here()
        if isinstance(event, Part | Reply):
            return event
        answer = self._session.receive(event)
        return answer[1] if answer is not None and isinstance(answer[1], RemoteError) else None

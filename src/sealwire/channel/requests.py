"""A server's end as handlers have it, whatever carries it."""

from __future__ import annotations

from abc import abstractmethod

from sealwire.channel.pump import Sealed
from sealwire.errors import InvalidState
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload


class Requests(Sealed):
    """What a handler finds as ``self.request``.

    ``peer``: who asks; None without a certificate. ``key_id``: the key that he proved to hold. ``deadline``: the moment
    of ``time.monotonic()`` until which the client of the last request waits; None where it did not say.
    """

    peer: PeerIdentity | None
    key_id: str
    deadline: float | None

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether nothing more can be sent."""

    @property
    @abstractmethod
    def oldest_unanswered(self) -> int | None:
        """The request that has waited longest for its answer."""

    @abstractmethod
    def next_request(self) -> Request | None:
        """The next request, which counts as handed to a handler from now on; None where no more come."""

    @abstractmethod
    def send_reply(self, request: int, payload: Payload) -> None:
        """Answer a request."""

    @abstractmethod
    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; ``text``: by default the fixed one for the code."""

    def recv_msg(self) -> bytes | None:
        """The next request's payload; None at the clean end. sealwire.recv_msg(channel) is the usual way to call it."""
        request = self.next_request()
        return None if request is None else bytes(request.payload)

    def send_msg(self, payload: Payload) -> None:
        """Answer the oldest unanswered request. Raises InvalidState where there is none."""
        request = self.oldest_unanswered
        if request is None:
            raise InvalidState("there is no unanswered request; a server sends nothing unasked")
        self.send_reply(request, payload)

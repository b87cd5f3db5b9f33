"""The end of an association that a handler sees."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from sealwire.dtls.server_association import ServerAssociation
from sealwire.session.context import Context
from sealwire.session.requests import RequestChannel
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode, Payload
from sealwire.wire.metadata import Metadata

if TYPE_CHECKING:
    from sealwire.dtls.server import UDPServer


class DatagramChannel(RequestChannel):
    """The ``self.request`` of a handler on UDP: one request, then the end."""

    def __init__(self, server: UDPServer, association: ServerAssociation, request: Request, deadline: float | None):
        self._server = server
        self._association = association
        self._request: Request | None = request
        self._unanswered: int | None = request.sequence
        self.security = association.security
        self.session = association.session
        self.peer = association.peer
        self.key_id = association.session.key_id
        self.deadline = deadline

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self._association.ended

    @property
    def oldest_unanswered(self) -> int | None:
        """The number of the request; None if it is answered."""
        return self._unanswered

    def next_request(self) -> Request | None:
        """Return the request, then None."""
        request, self._request = self._request, None
        if request is not None and self.deadline is not None and monotonic() >= self.deadline:
            self.send_fault(request.sequence, FaultCode.DEADLINE_EXCEEDED)
            return None
        return request

    def context(self, request: Request, client_address: Any) -> Context:
        """Return the context of the request."""
        return Context(
            request,
            session=self.session,
            client_address=client_address,
            deadline=self.deadline,
            connection=self._association.state,
            request_id=self.request_id(request.sequence),
        )

    def request_id(self, request: int) -> str:
        """Return the id for logs of the request."""
        return self._association.protocol.request_id(request)

    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Answer the request. Raises PayloadTooLarge."""
        self._unanswered = None
        if monotonic() >= self._association.session.validity.next_check:
            self._server.security.refresh()
        with self._server.lock:
            self._server.demultiplexer.send_reply(self._association, request, payload, metadata)

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer the request with FAULT; the default text is the code's own."""
        self._unanswered = None
        with self._server.lock:
            self._server.demultiplexer.send_fault(self._association, request, code, text)

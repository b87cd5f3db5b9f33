"""The context of one request, for its handler: its client, time and metadata, and whether it was cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

from sealwire.session.server import ServerSession
from sealwire.wire.events import Request


class CancelEvent(Protocol):
    """An event that is set when a request is cancelled: threading.Event, or asyncio.Event for coroutine functions."""

    def is_set(self) -> bool:
        """Return True if the client does not want the reply any more."""

    def set(self) -> None:
        """Set it."""

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it is set. In a coroutine function it is awaited, and takes no time-out."""


class Context:
    """The context of one request.

    Attributes:
        peer: The client's verified identity; None if it has no certificate.
        key_id: The id of the key that the client proved to have.
        client_address: The client's address, as in socketserver.
        deadline: The time (``time.monotonic()``) at which the client stops waiting for the reply, or for its next part;
            None if it did not say.
        metadata: The metadata that came with the request.
        reply_metadata: The metadata that goes with the reply; a handler may fill it. It is dropped if the client does
            not know metadata.
        request_id: The client's ``request-id`` in the metadata, escaped and of at most 64 characters, or else an id
            that both ends derive. The logs of both show it.
        sequence: The number of the request on its connection.
        connection: A namespace for the handler's own state of the connection. It is the same object for all requests of
            a connection, on every server.
    """

    __slots__ = (
        "_cancelled",
        "_is_cancelled",
        "_new_event",
        "_session",
        "client_address",
        "connection",
        "deadline",
        "key_id",
        "metadata",
        "peer",
        "reply_metadata",
        "request_id",
        "sequence",
    )

    def __init__(
        self,
        request: Request,
        *,
        session: ServerSession,
        client_address: Any,
        deadline: float | None,
        connection: SimpleNamespace,
        request_id: str,
        new_event: Callable[[], CancelEvent] = threading.Event,
    ) -> None:
        self._session = session
        self.peer = session.peer
        self.key_id = session.key_id
        self.client_address = client_address
        self.deadline = deadline
        self.metadata: dict[str, str] = request.metadata or {}
        self.reply_metadata: dict[str, str] = {}
        self.request_id = request_id
        self.sequence = request.sequence
        self.connection = connection
        self._new_event = new_event
        self._cancelled: CancelEvent | None = None
        self._is_cancelled = False

    @property
    def cancelled(self) -> CancelEvent:
        """An event that is set when the client no longer wants the reply: asyncio's in a coroutine, else threading's.

        A coroutine function is cancelled anyway, and a generator is closed at its next ``yield``.
        """
        if self._cancelled is None:
            self._cancelled = self._new_event()
            if self._is_cancelled:
                self._cancelled.set()
        return self._cancelled

    def cancel(self) -> None:
        """Note that the client cancelled the request. Called by the server, in any thread."""
        self._is_cancelled = True
        if self._cancelled is not None:
            self._cancelled.set()

    def __repr__(self) -> str:
        return f"<Context of request {self.request_id!a} from {self.peer}>"

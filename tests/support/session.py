"""The sessions of a server and a client back to back, without any carrier, and clocks that stand still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from sealwire.metrics import FAMILIES
from sealwire.security import Security
from sealwire.server_events import ServerEvents
from sealwire.session.begin import (
    begin_client_session,
    begin_server_session,
    begin_unix_client_session,
    begin_unix_server_session,
)
from sealwire.trust.contexts import ALPN
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Doubted, Event, Request
from sealwire.wire.features import NO_FEATURES, Features
from support.wire import feed, sent

ADDRESS = "localhost:4711"


def counted(connection: Connection, family: str) -> Any:
    """What the server's metrics say."""
    return FAMILIES[family].shown(connection.slot.events.counts)


class Clock:
    """A monotonic clock, ``now``, and the time of day, ``moment``; both stand until a test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.moment = datetime.now(UTC)

    def forward(self, seconds: float) -> float:
        """Move both clocks; return the monotonic one's time."""
        self.now += seconds
        self.moment += timedelta(seconds=seconds)
        return self.now


class WallClock:
    """Takes the place of ``datetime`` in a module that asks for the time of day."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self, zone: Any) -> datetime:
        assert zone is UTC, "a time without a zone cannot be compared with those of certificates and keys"
        return self._clock.moment


class Slot:
    """A slot that remembers.

    Args:
        room: whether another connection may be established.
    """

    def __init__(self, *, room: bool = True) -> None:
        self.room = room
        self.events = ServerEvents()
        self.address: Any = ("192.0.2.1", 4711)
        self.peer = None
        self.since = monotonic()
        self.welcomed = False
        self.authenticated = 0
        self.requests = 0

    def mark_welcomed(self) -> None:
        self.welcomed = True

    def mark_authenticated(self) -> bool:
        self.authenticated += 1
        return self.room

    def on_request(self) -> None:
        self.requests += 1


class Connection:
    """Both ends of one connection, with certificates and keys as they are in service now.

    Attributes:
        client: the client's protocol; ``asking`` is its session.
        server: the server's protocol; ``session`` is its session.
    """

    def __init__(
        self,
        server: Security,
        client: Security,
        clock: Clock,
        *,
        slot: Slot | None = None,
        host: str = "localhost",
        busy: int | None = None,
        features: Features = NO_FEATURES,
        above: tuple[bytes, ...] = (),
    ) -> None:
        self.clock = clock
        self.slot = slot or Slot()
        ours, theirs = server.credentials.current, client.credentials.current
        self.client, self.asking = begin_client_session(
            client, theirs, ALPN, ours.leaf, above=above, host=host, address=ADDRESS, now=clock.now
        )
        self.server, self.session = begin_server_session(
            server,
            ours,
            ALPN,
            theirs.leaf,
            theirs.identity,
            above=above,
            slot=self.slot,
            busy=lambda: busy,
            now=clock.now,
            features=features,
        )

    def shake_hands(self) -> None:
        (event,) = feed(self.server, sent(self.client)) or [None]
        if isinstance(event, Doubted):
            event = self.session.answer_hello()
        self.session.establish(event)
        (event,) = feed(self.client, sent(self.server))
        self.asking.establish(event)

    def to_server(self) -> list[Request]:
        """Carry all that the client has queued; return the requests that handlers may get."""
        events = feed(self.server, sent(self.client))
        received = [self.session.receive(event, self.clock.now) for event in events]
        return [request for request in received if request is not None]

    def to_client(self) -> list[Event]:
        """Carry all that the server has queued; return the events at the client."""
        return feed(self.client, sent(self.server))

    def ask(self, payload: bytes = b"?", *, wait: float | None = None) -> Request:
        """Send one request, which a handler may get."""
        self.client.send_request(payload, wait=wait)
        (request,) = self.to_server()
        return request

    def take(self, request: Request) -> bool:
        """Hand a request over as pumps do: its wait counts from now."""
        deadline = None if request.wait is None else self.clock.now + request.wait
        return self.session.start_handling(request, deadline, self.clock.now)

    def in_hand(self, payload: bytes = b"?") -> Request:
        """Send one request, and hand it over."""
        request = self.ask(payload)
        assert self.take(request)
        return request


class UnixConnection(Connection):
    """Both ends of one connection on a Unix socket, between a client and a server with these identities."""

    CLIENT, SERVER = PeerIdentity.of_process(1000, 1000, 1), PeerIdentity.of_process(2000, 2000, 2)

    def __init__(
        self,
        server: Security,
        client: Security,
        clock: Clock,
        *,
        busy: int | None = None,
        features: Features = NO_FEATURES,
    ) -> None:
        self.clock = clock
        self.slot = Slot()
        self.client, self.asking = begin_unix_client_session(
            client, client.credentials.current, self.SERVER, self.CLIENT, address="/run/x.sock", now=clock.now
        )
        self.server, self.session = begin_unix_server_session(
            server,
            server.credentials.current,
            self.CLIENT,
            slot=self.slot,
            busy=lambda: busy,
            now=clock.now,
            features=features,
        )

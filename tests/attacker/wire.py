"""The means of an attacker that owns the wire behind TLS. Each takes numbers, which choose among what is there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from attacker.deployment import ClientKind, ServerKind, deployment
from attacker.endpoint import Endpoint
from attacker.promises import check
from sealwire.errors import SealwireError
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.events import Event, Request
from sealwire.wire.features import Features
from sealwire.wire.frames import HEAD, TAG, Hello, Kind, Welcome

MOST = 10
"""Endpoints that are there at a time."""
Alteration = tuple[int, int] | None
"""The number of a field of HELLO or WELCOME, and that of its new value."""


class Wire:
    """All endpoints of one carrier, and all that was sent."""

    def __init__(self, carrier: str) -> None:
        kinds = deployment()
        self._clients = [each for each in kinds.clients if each.carrier == carrier]
        self._servers = [each for each in kinds.servers if each.carrier == carrier]
        self._pairs = [each for each in kinds.pairs if each[0].carrier == carrier]
        self._living: list[Endpoint] = []
        self._all: list[Endpoint] = []
        self.delivered = 0
        """Events that were delivered, and checked."""

    # Endpoints

    def connect(self, number: int) -> None:
        """Have a client and a server make an honest handshake."""
        self._shake_hands(*self._pairs[number % len(self._pairs)])

    def bend(self, number: int, hello: Alteration, welcome: Alteration) -> None:
        """Have a client and its server make a handshake, with their frames altered or not."""
        self._shake_hands(*self._pairs[number % len(self._pairs)], hello, welcome)

    def meet(self, number: int, other: int) -> None:
        """Have a client make a handshake with another service, under other certificates, or any with any."""
        client, server = self._pairs[number % len(self._pairs)]
        if other == 0:
            server = next(each for each in self._servers if each[1:] != server[1:] and each.binding == server.binding)
        elif other == 1:
            client = next(each for each in self._clients if _differ_by_certificate(each, client))
        elif other == 2:
            client = self._clients[number % len(self._clients)]
            server = next((each for each in self._servers if _are_shown_to_each_other(client, each)), server)
        else:
            client = self._clients[number % len(self._clients)]
            server = self._servers[other % len(self._servers)]
        self._shake_hands(client, server)

    def twin(self, number: int) -> None:
        """Open another endpoint of the same kind as one that has sent and received, and give it what that one got."""
        used = [each for each in self._all if each.received]
        if used:
            model = used[number % len(used)]
            twin = self._add(Endpoint(model.kind))
            for frame in model.peer.sent[: 1 + number % 4] if model.peer is not None else ():
                self._put(twin, frame)

    def _shake_hands(
        self, client: ClientKind, server: ServerKind, hello: Alteration = None, welcome: Alteration = None
    ) -> None:
        caller, called = self._add(Endpoint(client)), self._add(Endpoint(server))
        self._put(called, altered_handshake(caller.sent[0], hello))
        if called.sent:
            self._put(caller, altered_handshake(called.sent[0], welcome))

    def _add(self, endpoint: Endpoint) -> Endpoint:
        self._all.append(endpoint)
        self._living = [each for each in self._living if not each.ended][1 - MOST :]
        self._living.append(endpoint)
        return endpoint

    def _one_of(self, which: int, condition: Callable[[Endpoint], bool]) -> Endpoint | None:
        found = [each for each in self._living if condition(each)]
        return found[which % len(found)] if found else None

    def _ready(self, which: int) -> tuple[Endpoint, Endpoint] | None:
        """Return an endpoint for which there is a next frame, and its peer; if there is none, some endpoint speaks."""
        if not any(each.next_frame() for each in self._living):
            self.act(which, which, which, b"so that there is something")
        endpoint = self._one_of(which, lambda each: each.next_frame() is not None)
        return None if endpoint is None or endpoint.peer is None else (endpoint, endpoint.peer)

    # Bytes

    def _put(self, endpoint: Endpoint, data: bytes) -> None:
        """Put bytes, or a datagram, into an endpoint, and check what it delivers."""
        protocol = endpoint.protocol
        if endpoint.ended:
            return
        # An error ends the connection.
        with suppress(SealwireError):
            if endpoint.is_datagrams:
                endpoint.received = data
                event = protocol.datagram_received(data)
                if event is not None:
                    self._deliver(endpoint, event, HEAD.unpack_from(data)[4])
            else:
                endpoint.received += data
                self._feed(endpoint, memoryview(data))
        endpoint.collect()

    def _feed(self, endpoint: Endpoint, view: memoryview) -> None:
        protocol = endpoint.protocol
        while view:
            buffer = protocol.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            del buffer
            protocol.buffer_updated(count)
            view = view[count:]
            while (event := protocol.next_event()) is not None:
                self._deliver(endpoint, event, endpoint.next_sequence - 1)

    def _deliver(self, endpoint: Endpoint, event: Event, sequence: int) -> None:
        self.delivered += 1
        check(endpoint, event, sequence, self._all)
        if isinstance(event, Request):
            endpoint.requests.append(event.sequence)

    # Messages

    def act(self, which: int, what: int, request: int, payload: bytes) -> None:
        """Let an endpoint send something of its own."""
        endpoint = self._one_of(which, lambda each: each.can_act)
        if endpoint is None:
            self.connect(which)
        else:
            endpoint.act(what, request, payload)

    def relay(self, which: int) -> None:
        """Pass the next frame of its peer on to an endpoint."""
        if ready := self._ready(which):
            self._put(ready[0], ready[0].next_frame())

    def skip(self, which: int, count: int) -> None:
        """Pass a later frame of its peer on to an endpoint."""
        if ready := self._ready(which):
            self._put(ready[0], ready[1].sent[min(ready[0].next_sequence + count, len(ready[1].sent) - 1)])

    def repeat(self, which: int, back: int) -> None:
        """Put a frame of its peer that an endpoint has had into it again."""
        endpoint = self._one_of(which, lambda each: each.open and each.next_sequence > 1)
        if endpoint is None or endpoint.peer is None:
            self.relay(which)
        else:
            self._put(endpoint, endpoint.peer.sent[max(0, endpoint.next_sequence - 1 - back)])

    def reflect(self, which: int) -> None:
        """Put a frame into the endpoint that sent it, at its own place; best one of a kind that both sides send."""
        endpoint = self._one_of(which, lambda each: each.own_next_kind in (Kind.PART, Kind.CREDIT))
        endpoint = endpoint or self._one_of(which, lambda each: each.own_next_kind is not None)
        if endpoint is None:
            self.relay(which)
        else:
            self._put(endpoint, endpoint.sent[endpoint.next_sequence])

    def splice(self, which: int, source: int) -> None:
        """Put the frame into an endpoint that another connection has at this place, or the handshake of another."""
        endpoint = self._one_of(which, lambda _: True)
        if endpoint is not None:
            place = endpoint.next_sequence
            sources = [
                each for each in self._all if each.is_client is not endpoint.is_client and place < len(each.sent)
            ]
            if sources:
                self._put(endpoint, sources[-1 - source % len(sources)].sent[place])

    def alter(self, which: int, place: int, field: int, value: int) -> None:
        """Put a frame of its peer into an endpoint with another value in a field: the next one, or a later one."""
        if ready := self._ready(which):
            endpoint, peer = ready
            frame = peer.sent[min(endpoint.next_sequence + place, len(peer.sent) - 1)]
            self._put(endpoint, altered_header(frame, field, value, endpoint))

    def spoil(self, which: int, place: int, flip: int) -> None:
        """Put the next frame into an endpoint with one byte flipped, or without its end."""
        if ready := self._ready(which):
            frame = bytearray(ready[0].next_frame())
            if flip:
                frame[place % len(frame)] ^= flip
            else:
                del frame[place % len(frame) :]
            self._put(ready[0], bytes(frame))


def _differ_by_certificate(one: ClientKind, other: ClientKind) -> bool:
    """Return True for two clients that see different certificates of their server; on a Unix socket there are none."""
    return one[1:4] == other[1:4] and (one.presented != other.presented or one.presented is None)


def _are_shown_to_each_other(client: ClientKind, server: ServerKind) -> bool:
    return client.binding == server.binding and client.service == server.service


def altered_header(frame: bytes, field: int, value: int, endpoint: Endpoint) -> bytes:
    """Return a frame with one field changed, most of them to what its receiver could accept."""
    length, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(frame)
    payload, tag = frame[HEAD.size : -TAG], frame[-TAG:]
    if field == 0:
        payload = payload[: value % (len(payload) + 1)] if value % 2 else payload + bytes(value)
        length = HEAD.size - 4 + len(payload) + TAG
    elif field == 1:
        kind = (*Kind,)[value % len(Kind)]
    elif field == 2:
        flags ^= (1, 2, 4)[value % 3]
    elif field == 3:
        wait ^= value + 1
    elif field == 4:
        sequence = endpoint.next_sequence
    elif field == 5:
        choice = endpoint.requests or [1, 2]
        reply_to = choice[value % len(choice)]
    else:
        payload = bytes([value]) + payload[1:]
        length = HEAD.size - 4 + len(payload) + TAG
    return HEAD.pack(length, kind, flags, wait, sequence, reply_to) + payload + tag


_OTHERS: dict[str, tuple[object, ...]] = {
    "version": (1, 2),
    "key_id": ("shared", "again", "bound", "evil"),
    "codec": ("raw", "pickle-5"),
    "server_name": ("server.example/orders", "server.example/billing", "/orders", "/billing"),
    "max_frame": (1184, 1 << 20, 1 << 24),
    "extensions": (
        b"",
        Features(metadata=True, cancel=True).pack(),
        Features(cancel=True, window=1 << 30).pack(),
        Features(metadata=True, cancel=True, window=1, at_once=1).pack(),
    ),
}


def altered_handshake(frame: bytes, alteration: Alteration) -> bytes:
    """Return HELLO or WELCOME with one field changed to another sensible value, under the tag of before."""
    if alteration is None or frame[4] not in (Kind.HELLO, Kind.WELCOME):
        return frame
    field, value = alteration
    form: Callable = Hello.unpack if frame[4] == Kind.HELLO else Welcome.unpack
    fields = form(frame[HEAD.size : -TAG])
    name = fields._fields[field % len(fields)]
    values = _OTHERS.get(name, (bytes([value]) * 32,))
    payload = fields._replace(**{name: values[value % len(values)]}).pack()
    return HEAD.pack(len(payload) + FRAME_OVERHEAD, frame[4], 0, 0, 0, 0) + payload + frame[-TAG:]

"""Checks what must be true of everything that an endpoint delivers, whatever the attacker does."""

from __future__ import annotations

from attacker.deployment import KEYS
from attacker.endpoint import Endpoint, meaning
from sealwire.wire.events import Established, Event, Rejected


class Broken(AssertionError):
    """A promise is broken."""


def check(endpoint: Endpoint, event: Event, sequence: int, endpoints: list[Endpoint]) -> None:
    """Check an event that an endpoint delivers.

    Args:
        endpoint: the receiver.
        event: what it delivers.
        sequence: the sequence of the frame that brought it.
        endpoints: all that there are.
    """
    if isinstance(event, Rejected):
        return  # only TLS vouches for it, and the attacker ends TLS
    if isinstance(event, Established):
        (_check_welcome if endpoint.is_client else _check_hello)(endpoint, event, endpoints)
        return
    if not endpoint.is_client and endpoint.partner is None:
        _check_first(endpoint, endpoints)
    partner = endpoint.partner
    _hold(partner is not None, "a message is delivered that nobody sent on this connection", endpoint)
    _hold(sequence < len(partner.sent), "a message is delivered that its peer has not sent", endpoint)
    _hold(sequence not in endpoint.seen, "a message is delivered twice", endpoint)
    endpoint.seen.add(sequence)
    sent = meaning(partner.sent[sequence], of_client=partner.is_client)
    _hold(event == sent, f"{event} is delivered where its peer sent {sent}", endpoint)


def _check_hello(server: Endpoint, event: Established, endpoints: list[Endpoint]) -> None:
    """A server that answers WELCOME has a HELLO that a client made for it. (It may be a repeated one until a frame
    under the client's key has come.)"""
    hello = server.first_frame()
    makers = [each for each in endpoints if each.is_client and each.sent[0] == hello]
    _hold(bool(makers), "a server accepts a HELLO that no client sent", server)
    client = server.offering = makers[0]
    mine, theirs = server.kind, client.kind
    _hold(mine.binding == theirs.binding, "a server accepts a HELLO for other certificates", server)
    _hold(mine.service == theirs.service, "a server accepts a HELLO for another service", server)
    _hold(theirs.codec == "raw", "a server accepts a HELLO with another codec", server)
    _hold(event.key_id == theirs.key.id, "a server takes the key for another", server)
    if mine.owner == "server":
        _hold(KEYS[event.key_id].secret == theirs.key.secret, "a server accepts a client without the key", server)
        shown = (mine.presented or "bare").removeprefix("forged ")
        if mine.carrier != "Unix":
            _hold(theirs.owner == shown, f"a server takes {theirs.owner} for {shown}", server)


def _check_welcome(client: Endpoint, event: Established, endpoints: list[Endpoint]) -> None:
    """A client that is connected has the very answer that a server gave to its own HELLO."""
    welcome = client.first_frame()
    makers = [each for each in endpoints if not each.is_client and each.sent and each.sent[0] == welcome]
    server = client.partner = makers[0] if makers else None
    _hold(server is not None, "a client accepts a WELCOME that no server sent", client)
    _hold(server.offering is client, "a client accepts the WELCOME to another HELLO", client)
    _hold(server.partner in (None, client), "two clients are connected with one server's end", client)
    _hold(server.kind.owner == "server" or client.kind.owner == "evil", "a client accepts an impostor", client)
    _hold(server.kind.service == client.kind.service, "a client accepts another service", client)
    ours, theirs = client.protocol, server.protocol
    for name in ("metadata", "cancel", "parts"):
        _hold(getattr(ours.features, name) == getattr(theirs.features, name), f"{name} is agreed on at one end", client)
    _hold(event.max_frame == theirs._max_frame, "a client believes in another max_frame", client)


def _check_first(server: Endpoint, endpoints: list[Endpoint]) -> None:
    """The first message to a server comes from a client that is connected with this very end, and no other one."""
    clients = [each for each in endpoints if each.is_client and each.partner is server]
    _hold(len(clients) == 1, "a server takes a message of a client that is not connected with it", server)
    _hold(server.offering is clients[0], "a server takes a message of another client than it welcomed", server)
    server.partner = clients[0]


def _hold(promise: bool, broken: str, endpoint: Endpoint) -> None:
    if not promise:
        raise Broken(f"{broken}: {endpoint.kind[:-2]}")

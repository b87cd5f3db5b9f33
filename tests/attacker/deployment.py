"""Clients, servers, keys and certificates: two honest clients and two services that share a certificate and a key.

The attacker is a client, too: `evil`, with a certificate and a key of its own. The CA has given it certificates in the
names of `one` and of the server. It has the TLS keys of all others as well, so that certificates prove nothing here:
what the protocol itself does is tested. It has no other client's pre-shared key, and can only guess.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from sealwire.codec import RawCodec
from sealwire.security import Security
from sealwire.session import terms
from sealwire.testing import Throwaway
from sealwire.trust.certificates import Certificates
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.client import ClientProtocol
from sealwire.wire.datagram import ClientDatagrams, ServerDatagrams
from sealwire.wire.keys import Binding, Key
from sealwire.wire.server import ServerProtocol
from support import throwaway

HOST = "server.example"
SERVICES = ("orders", "billing")
CARRIERS = ("TLS", "Unix", "DTLS")
KEYS = {
    "bound": Key("bound", b"1" * 32, identity="dns:one.example"),
    "shared": Key("shared", b"2" * 32),
    # By mistake it has the same secret, so that its id is all that tells it from the other.
    "again": Key("again", b"2" * 32),
    "evil": Key("evil", b"3" * 32, identity="dns:evil.example"),
}
# What the attacker uses is bound to no identity at its own end: a client that follows the rules would not use it.
_EVIL = Key("evil", KEYS["evil"].secret)
_GUESSED = [Key(key.id, b"0" * 32) for key in KEYS.values()]
_NAMES = {
    "server": HOST,
    "forged server": HOST,
    "one": "one.example",
    "forged one": "one.example",
    "two": "two.example",
    "evil": "evil.example",
}
_HOLDERS = {"one": ("bound", "shared"), "two": ("shared", "again"), "bare": ("shared",), "evil": ("evil",)}
_PEERS = [*(f"dns:{name}" for name in {*_NAMES.values()} - {HOST}), "anonymous"]
_PROCESS = PeerIdentity.of_process(1000, 1000, 1)


class ClientKind(NamedTuple):
    """A client that may be opened: its owner, and what it does and sees."""

    carrier: str
    owner: str
    key: Key
    service: str
    presented: str | None
    """The server's certificate that TLS shows it."""
    certificate: str | None
    """Its own certificate."""
    codec: str
    make: Callable[[], ClientProtocol | ClientDatagrams]
    binding: Binding


class ServerKind(NamedTuple):
    """A server's end that may be opened."""

    carrier: str
    owner: str
    service: str
    presented: str | None
    """The client's certificate that TLS shows it."""
    make: Callable[[], ServerProtocol | ServerDatagrams]
    binding: Binding


class Deployment:
    """All kinds of endpoints that may be opened."""

    def __init__(self, directory: Path) -> None:
        place = Throwaway(directory)
        for stem, name in _NAMES.items():
            place.leaf(stem, name)
        self._credentials = {name: throwaway.credentials(place, name) for name in (*_NAMES, None)}
        self.clients = list(self._clients())
        self.servers = list(self._servers())
        self.pairs = [
            (client, server)
            for client, server in product(self.clients, self.servers)
            if (client.carrier, client.service, client.binding) == (server.carrier, server.service, server.binding)
            and server.owner == "server"
            and client.owner in ("bare", server.presented, "one" if client.carrier == "Unix" else "")
        ]

    def _security(self, name: str | None, keys: list[Key], carrier: str, service: str, codec: str = "raw") -> Security:
        peers = ["uid:1000"] if carrier == "Unix" else _PEERS if name == "server" else None
        return Security(
            credentials=self._credentials[name],
            keys=throwaway.Keyring(keys),
            peers=peers,
            service=service,
            codec=RawCodec() if codec == "raw" else None,
        )

    def _certificates(self, name: str | None) -> Certificates:
        return self._credentials[name].current

    def _clients(self) -> Iterator[ClientKind]:
        for carrier, (owner, ids), service in product(CARRIERS, _HOLDERS.items(), SERVICES):
            if carrier == "Unix":
                if owner == "one":
                    yield from self._client(carrier, owner, KEYS["shared"], service, None, None)
                    yield from self._client(carrier, "evil", _GUESSED[1], service, None, None)
                continue
            own = [None] if owner == "bare" else [owner]
            if owner == "evil":
                own += ["one", "forged one", None]
            for name, certificate, presented in product(ids, own, ("server", "forged server")):
                key = _EVIL if owner == "evil" else KEYS[name]
                yield from self._client(carrier, owner, key, service, presented, certificate)
            if owner == "evil":
                for key, certificate in product(_GUESSED[:2], ("one", "forged one")):
                    yield from self._client(carrier, owner, key, service, "server", certificate)

    def _client(
        self, carrier: str, owner: str, key: Key, service: str, presented: str | None, certificate: str | None
    ) -> Iterator[ClientKind]:
        for codec in ("raw", "pickle-5") if owner == "two" or carrier == "Unix" else ("raw",):
            security = self._security(certificate, [key], carrier, service, codec)
            if carrier == "Unix":
                parameters = terms.unix_client_parameters(security, _PROCESS, _PROCESS)
            else:
                leaf = self._certificates(presented).leaf
                peer = PeerIdentity.from_der(leaf)
                own = self._certificates(certificate)
                parameters = terms.client_parameters(security, own, host=HOST, peer=peer, leaf=leaf)
            side, arguments = (ClientDatagrams, (0.0,)) if carrier == "DTLS" else (ClientProtocol, ())
            made = _maker(side, *arguments, **parameters), parameters["binding"]
            yield ClientKind(carrier, owner, key, service, presented, certificate, codec, *made)

    def _servers(self) -> Iterator[ServerKind]:
        owners = {"server": list(KEYS.values()), "evil": _GUESSED}
        for carrier, (owner, keys), service in product(CARRIERS, owners.items(), SERVICES):
            security = self._security("server", keys, carrier, service)
            shown = ("one", "forged one", "two", "evil", None) if owner == "server" else ("one",)
            for presented in (None,) if carrier == "Unix" else shown:
                leaf = self._certificates(presented).leaf
                parameters = terms.server_parameters(
                    security,
                    None if carrier == "Unix" else self._certificates("server"),
                    client=_PROCESS if carrier == "Unix" else None if leaf is None else PeerIdentity.from_der(leaf),
                    leaf=leaf,
                    busy=lambda: None,
                    features=terms.server_features(security, at_once=8, in_parts=True),
                )
                made = _maker(ServerDatagrams if carrier == "DTLS" else ServerProtocol, parameters), parameters.binding
                yield ServerKind(carrier, owner, service, presented, *made)


def _maker(side: Callable, *arguments: object, **parameters: object) -> Callable:
    return lambda: side(*arguments, **parameters)


@cache
def deployment() -> Deployment:
    """Return the deployment, which takes a moment to make."""
    with tempfile.TemporaryDirectory() as directory:
        return Deployment(Path(directory))

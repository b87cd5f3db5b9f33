"""Configuration files, keyrings, lists of peers: only a ConfigurationError, without a secret; what loads is stable."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.harness import Source, refusal
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.testing import Throwaway
from sealwire.toml_options import parse_toml
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.peers import PeerPolicy

RUNS = 2_000
_SECRET = re.compile(rb'secret *= *"([^"\n]{24,})"')
CLIENT = PeerIdentity(
    dns=("client.example",), uri=("spiffe://prod/billing",), ip=("192.0.2.7",), email=("me@a.example",)
)


@cache
def place() -> Throwaway:
    made = Throwaway(Path(tempfile.mkdtemp(prefix="sealwire-fuzz-")))
    made.leaf("server", "localhost")
    return made


def load(document: dict[str, Any], previous: Security | None = None) -> Security:
    return Security._from_document(document, place().directory, previous)


def a_file(data: bytes) -> None:
    """A configuration, beside files that are good; it is loaded, and again over itself, when nothing may change."""
    made: list[Security] = []

    def go_on() -> None:
        document = parse_toml(data)
        made.append(load(document))
        made.append(load(document, made[0]))

    if refusal(ConfigurationError, of=go_on, quotes_user=True) is None:
        first, again = made
        assert Limits(**dataclasses.asdict(first.limits)) == first.limits == again.limits
        assert not again.waiting, "a setting waits for a restart, and is the same"
        assert again._agreed == first._agreed
        assert again.credentials is first.credentials
        assert again.keys is first.keys
        assert repr(again) == repr(first)
    else:
        assert len(made) != 1, "refused over itself"


def a_keyring(data: bytes) -> None:
    """A keyring: neither an error nor a repr has a secret, and each key has an id of its own."""
    made: list[KeySnapshot] = []
    error = refusal(
        ConfigurationError, of=lambda: made.append(KeySnapshot.parse(data, source="keyring.toml")), quotes_user=True
    )
    texts = [str(error)] if error is not None else [repr(made[0]), *map(repr, made[0])]
    given = [secret for secret in _SECRET.findall(data) if data.count(secret) == 1]  # not in another field as well
    for secret in given + [key.secret for key in made[0]] if made else given:
        assert not any(secret.decode("latin-1") in text for text in texts), "a secret in a text"
    if made:
        ids = [*made[0].revoked, *(key.id for key in made[0])]
        assert len(set(ids)) == len(ids)
        for key in made[0]:
            assert made[0].get(key.id) is key
            assert len(key.secret) >= 32


def a_list(data: bytes) -> None:
    """A list of peers, one in each line: what its entries allow one by one, the list allows."""
    lines = data.decode("latin-1").split("\n")
    lists: list[PeerPolicy] = []
    if refusal(ConfigurationError, of=lambda: lists.append(PeerPolicy(lines)), quotes_user=True) is None:
        for peer in (CLIENT, PeerIdentity(), None, PeerIdentity.of_process(1000, 1000, 1)):
            assert lists[0].allows(peer) is any(PeerPolicy([line]).allows(peer) for line in lines)


def one(data: bytes) -> None:
    source = Source(data)
    source.choice(a_file, a_keyring, a_list)(source.rest())


_FILES = b'ca = "ca.pem"\nkeyring = "keyring.toml"\n'
SEEDS = [
    b"\0" + _FILES,
    b"\0[[limits",
    b'\1[[key]]\nid = "k1"\nsecret = "' + b"c2VjcmV0" * 4 + b'!"\n',
    b"\0" + _FILES + b'cert = "server.pem"\nkey = "server.key"\npeers = ["dns:client.example", "spiffe://prod/*"]\n',
    b"\0" + _FILES + b'peers = "any-signed-by-ca"\nservice = "orders"\nnames = ["orders.example"]\ncodec = "raw"\n',
    b"\0"
    + _FILES
    + b'proxy_protocol = ["10.0.0.0/8", "::1"]\nreload_config = true\n[admin]\nlisten = "127.0.0.1:9090"\n',
    b"\0" + _FILES + b"[limits]\nmax_frame = 65536\nmax_depth = 10\nidle_timeout = 1.5\nmax_connections = 7\n",
    b"\0"
    + _FILES
    + b'faults = ["sealwire:RemoteError"]\n[[authorise]]\ntypes = ["builtins:dict"]\npeers = ["dns:a.example"]\n',
    b"\0" + _FILES + b'[allowlist]\ntypes = ["attacks.victims:Order"]\nwithout = ["paths"]\n',
    b"\0" + _FILES + b'[allowlist]\n[[allowlist.adapters]]\ntype = "attacks.victims:Order"\n',
    b"\0" + _FILES + b'allow_readable_key = true\nkeyring_group = true\ncrl = "ca.pem"\n',
    b'\1[[key]]\nid = "k1"\nsecret = "'
    + b"c2VjcmV0" * 8
    + b'"\nnot_before = 2026-11-01T00:00:00Z\nidentity = "dns:a.example"\n',
    b'\1[[key]]\nid = "k1"\nrevoked = true\n[[key]]\nid = "k2"\nsecret = "'
    + b"AAAA" * 11
    + b'"\nnot_after = 2027-02-01T00:00:00Z\n',
    b"\2dns:client.example\nspiffe://prod/*\nuri:urn:x\nip:192.0.2.7\nemail:me@a.example",
    b"\2dns:*.example\nsha256:" + b"a" * 64 + b"\nspki-sha256:" + b"B" * 64 + b"\nuid:1000\ngid:0\nanonymous",
]

"""The end of a connection, by clocks that stand, as files are replaced (docs/protocol.md, sections 5 and 8)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.pki.authority import Issuer, create_ca
from sealwire.security import Security
from sealwire.session import validity as module
from sealwire.session.validity import EXPIRY_MARGIN, Termination, Validity
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.known_peers import KnownPeers
from sealwire.wire.frames import CloseCode
from sealwire.wire.keys import Key
from support.certificates import Made, make_ca
from support.session import Clock, Connection
from support.sides import SECRETS, Side, revocation_list

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
INTERVAL = 2.0
LIMITS = {"reload_interval": INTERVAL, "max_connection_age": 86_400.0}
EXPIRED = Termination("the peer's certificate has expired")
REVOKED = Termination("the certificate of the peer, or of a CA above it, was revoked", immediate=True)
KEY_EXPIRED = Termination("the key 'k1' has expired")
KEY_REMOVED = Termination("the key 'k1' was removed from the keyring", immediate=True)
KEY_REBOUND = Termination("the key 'k1' belongs to another client now", immediate=True)


def leaf(ca: Issuer, *names: str, days: int = 7) -> bytes:
    """A certificate (DER)."""
    return ca.issue(*names, profile="peer", days=days).certificate.public_bytes(Encoding.DER)


def serial_of(der: bytes) -> int:
    return PeerIdentity.from_der(der).serial


def end_of(der: bytes) -> datetime:
    return PeerIdentity.from_der(der).not_after


def key(name: str = "k1", secret: str = "k1", **options: Any) -> Key:
    return Key(name, SECRETS[secret], **options)


def keyring(*keys: Key) -> bytes:
    """The file of these keys."""
    text = ""
    for key in keys:
        text += f'[[key]]\nid = "{key.id}"\nsecret = "{base64.b64encode(key.secret).decode()}"\n'
        if key.not_after is not None:
            text += f"not_after = {key.not_after:%Y-%m-%dT%H:%M:%S.%f}Z\n"
        if key.identity is not None:
            text += f'identity = "{key.identity}"\n'
    return text.encode()


class Server:
    """A server's Security, whose keys and revocation lists are replaced, and a client's certificate."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.ca: Issuer = create_ca("CA")
        self.side = Side(directory / "server", "localhost")
        self.side.leaf(self.ca, days=30)
        self.side.trust(self.ca)
        self.side.revoke(self.ca)
        self.keys(Key("k1", SECRETS["k1"]))
        self.clock = clock
        self.security = self.side.security(crl=True, peers=["dns:client.example"], limits=LIMITS)
        self.client = leaf(self.ca, "client.example")

    def keys(self, *keys: Key) -> None:
        """Replace the file of keys."""
        self.side.write(keyring=keyring(*keys))

    def in_service(self, *keys: Key) -> None:
        """Replace the keys in service."""
        self.keys(*keys)
        assert self.security.keys.reload()

    def revoke(self, *serials: int) -> None:
        """Replace the revocation list in service."""
        self.side.revoke(self.ca, *serials)
        assert self.security.credentials.reload()

    def validity(self, client: bytes | None = None) -> Validity:
        """Return the validity of a connection made now."""
        client = client or self.client
        peer = PeerIdentity.from_der(client)
        made = Validity(
            self.security, self.security.credentials.current, peer=peer, leaf=client, client=peer, now=self.clock.now
        )
        made.set_key("k1")
        return made


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Server:
    return Server(tmp_path, clock)


class TestNextCheck:
    def test_after_each_interval(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        assert made.next_check == clock.now + INTERVAL
        for seconds in (INTERVAL, 0.1, 100.0):
            assert made.check(clock.forward(seconds)) is None
            assert made.next_check == clock.now + INTERVAL

    def test_also_if_it_finds_something(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        server.in_service(key("k2"))
        assert made.check(clock.forward(5)) == KEY_REMOVED
        assert made.next_check == clock.now + INTERVAL


class TestAge:
    @pytest.mark.parametrize("drawn", [0.0, 0.5, 1.0])
    def test_varies_by_a_tenth(
        self, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch, drawn: float
    ) -> None:
        class Random:
            def uniform(self, low: float, high: float) -> float:
                assert (low, high) == (0.9, 1.0)
                return low + drawn * (high - low)

        monkeypatch.setattr(module, "_random", Random())
        # The lives of certificates and keys have nothing to do with it: the time of day stands.
        made = server.validity()
        end = clock.now + 86_400.0 * (0.9 + drawn * 0.1)
        assert made.check(end - 0.001) is None
        found = made.check(end + 0.001)
        assert found is not None
        assert (found.code, found.immediate) == (CloseCode.DONE, False)
        assert "max_connection_age" in found.reason

    def test_at_its_end(self, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_random", SimpleNamespace(uniform=lambda low, high: high))
        assert server.validity().check(clock.now + 86_400.0) is not None

    def test_is_random(self, server: Server, clock: Clock) -> None:
        """Connections made at one moment do not end at one moment, and none is older than it may be."""
        made = [server.validity() for _ in range(200)]
        ended = [sum(each.check(clock.now + 86_400 * part) is not None for each in made) for part in (0.89, 0.95, 1.0)]
        assert ended[0] == 0
        assert 20 < ended[1] < 180
        assert ended[2] == 200

    def test_is_the_least_reason(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        server.in_service(key("k2"))
        assert made.check(clock.now + 86_400) == KEY_REMOVED


class TestConfiguration:
    """A configuration that was changed counts for the connections that are there."""

    @pytest.fixture
    def side(self, tmp_path: Path) -> Side:
        side = Side(tmp_path / "server", "localhost")
        ca = create_ca("CA")
        side.leaf(ca, days=30)
        side.trust(ca)
        side.keys("k1")
        self.client = leaf(ca, "client.example")
        self.configure(side)
        return side

    def configure(self, side: Side, *, peer: str = "client.example", service: str = "", interval: float = 2.0) -> None:
        files = [f'{name} = "{name}"' for name in ("cert", "key", "ca", "keyring")]
        lines = [
            f'peers = ["dns:{peer}"]',
            f'service = "{service}"',
            *files,
            "[limits]",
            f"reload_interval = {interval}",
        ]
        side.write(**{"sealwire.toml": "\n".join(lines).encode()})

    def validity(self, security: Security, clock: Clock) -> Validity:
        peer = PeerIdentity.from_der(self.client)
        current = security.credentials.current
        made = Validity(security.pinned(), current, peer=peer, leaf=self.client, client=peer, now=clock.now)
        made.set_key("k1")
        return made

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({}, None),
            (
                {"peer": "other.example"},
                Termination("the peer is not on the list of peers any more", CloseCode.CREDENTIAL, immediate=True),
            ),
            (
                {"service": "orders"},
                Termination("the configuration has another service, codec or allowlist now", CloseCode.DONE),
            ),
        ],
        ids=["nothing", "peers", "service"],
    )
    def test_changed(self, side: Side, clock: Clock, change: dict[str, Any], found: Termination | None) -> None:
        security = Security.from_toml(side.path("sealwire.toml"))
        made = self.validity(security, clock)
        self.configure(side, **change)
        assert security.reload()
        assert made.check(clock.now) == found

    def test_another_interval(self, side: Side, clock: Clock) -> None:
        security = Security.from_toml(side.path("sealwire.toml"))
        made = self.validity(security, clock)
        self.configure(side, interval=0.5)
        assert security.reload()
        assert made.next_check == clock.now + 2.0
        assert made.check(clock.now) is None
        assert made.next_check == clock.now + 0.5


class TestKeysOfTheHandshake:
    def test_are_those_of_its_beginning_or_of_another_look(self, server: Server) -> None:
        made = server.validity()
        before = server.security.keys.current
        server.in_service(key("k2", "k2"))
        assert made.keys is before
        made.renew_keys()
        assert made.keys is server.security.keys.current
        assert made.keys is not before


class TestRememberPeer:
    @pytest.fixture
    def known(self, monkeypatch: pytest.MonkeyPatch) -> KnownPeers:
        known = KnownPeers()
        monkeypatch.setattr(module, "known_peers", known)
        return known

    def test_by_its_certificate(self, server: Server, known: KnownPeers) -> None:
        made = server.validity()
        assert len(known) == 0
        made.remember_peer()
        assert len(known) == 1
        assert known.identify(server.client) is known.identify(server.client)

    @pytest.mark.parametrize("peer", [None, PeerIdentity.of_process(1, 1, 1)])
    def test_not_without_one(self, server: Server, clock: Clock, known: KnownPeers, peer: PeerIdentity | None) -> None:
        current = server.security.credentials.current
        Validity(server.security, current, peer=peer, leaf=None, client=peer, now=clock.now).remember_peer()
        assert len(known) == 0


class TestCertificate:
    @pytest.mark.parametrize(("late", "expired"), [(-SECOND, False), (0 * SECOND, False), (SECOND, True)])
    def test_expired(self, server: Server, clock: Clock, late: timedelta, expired: bool) -> None:
        made = server.validity()
        clock.moment = end_of(server.client) + late
        assert made.check(clock.now) == (EXPIRED if expired else None)

    def test_without_one(self, server: Server, clock: Clock) -> None:
        security = server.side.security(crl=True, peers=["anonymous"], limits=LIMITS)
        made = Validity(security, security.credentials.current, peer=None, leaf=None, client=None, now=clock.now)
        made.set_key("k1")
        server.revoke(1)
        clock.moment += 1000 * DAY
        assert made.check(clock.forward(1)) is None

    def test_revoked(self, server: Server, clock: Clock) -> None:
        made, other = server.validity(), server.validity(leaf(server.ca, "client.example"))
        server.revoke(serial_of(server.client))
        assert made.check(clock.now) == REVOKED
        assert other.check(clock.now) is None

    def test_revoked_before_its_handshake_was_over(self, server: Server, clock: Clock) -> None:
        """A connection is checked against what it was made with: OpenSSL has seen those lists, and no newer ones."""
        old = server.security.credentials.current
        server.revoke(serial_of(server.client))
        peer = PeerIdentity.from_der(server.client)
        made = Validity(server.security, old, peer=peer, leaf=server.client, client=peer, now=clock.now)
        made.set_key("k1")
        assert made.check(clock.now) == REVOKED

    def test_the_certificate_of_a_ca_above_it(self, server: Server, clock: Clock) -> None:
        above = make_ca("the CA above", issuer=Made(server.ca.certificate, server.ca.private_key))
        peer = PeerIdentity.from_der(server.client)
        made = Validity(
            server.security,
            server.security.credentials.current,
            peer=peer,
            leaf=server.client,
            above=(above.der,),
            client=peer,
            now=clock.now,
        )
        made.set_key("k1")
        server.revoke(1)
        assert made.check(clock.now) is None
        server.revoke(above.certificate.serial_number)
        assert made.check(clock.now) == REVOKED

    def test_a_process_has_none(self, server: Server, clock: Clock) -> None:
        process = PeerIdentity.of_process(1, 1, 1)
        security = server.side.security(crl=True, peers=["uid:1"], service="orders", limits=LIMITS)
        made = Validity(security, security.credentials.current, peer=process, leaf=None, client=process, now=clock.now)
        made.set_key("k1")
        server.side.revoke(server.ca, 1)
        assert security.credentials.reload()
        assert made.check(clock.now) is None

    def test_another_issuers_list(self, server: Server, clock: Clock) -> None:
        """Serial numbers are an issuer's."""
        another = create_ca("another CA")
        made = server.validity()
        server.side.trust(server.ca, another)
        server.side.write(crl=revocation_list(server.ca) + revocation_list(another, serial_of(server.client)))
        assert server.security.credentials.reload()
        assert made.check(clock.now) is None

    def test_revoked_and_expired(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        server.revoke(serial_of(server.client))
        clock.moment += 8 * DAY
        assert made.check(clock.now) == REVOKED

    def test_a_ca_that_is_trusted_no_longer(self, server: Server, clock: Clock) -> None:
        """This ends no connection (docs/protocol.md, section 8)."""
        made = server.validity()
        another = create_ca("another CA")
        server.side.leaf(another)
        server.side.trust(another)
        server.side.revoke(another)
        assert server.security.credentials.reload()
        assert made.check(clock.now) is None


class TestKey:
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ([key()], None),
            ([key("k2", "k2"), key()], None),
            ([key(identity="dns:client.example")], None),
            ([key("k2", "k1")], KEY_REMOVED),
            ([key("k1", "k2")], KEY_REMOVED),
            ([key(identity="dns:other.example")], KEY_REBOUND),
            ([key(identity="anonymous")], KEY_REBOUND),
        ],
        ids=["the same", "one more", "bound to it", "another id", "another secret", "another client", "anonymous"],
    )
    def test_replaced(self, server: Server, clock: Clock, change: list[Key], found: Termination | None) -> None:
        made = server.validity()
        server.in_service(*change)
        assert made.check(clock.now) == found
        assert made.check(clock.forward(INTERVAL)) == found

    def test_none_yet(self, server: Server, clock: Clock) -> None:
        peer = PeerIdentity.from_der(server.client)
        current = server.security.credentials.current
        made = Validity(server.security, current, peer=peer, leaf=server.client, client=peer, now=clock.now)
        assert made.check(clock.now) == Termination("the key '' was removed from the keyring", immediate=True)

    def test_one_that_never_was_in_service(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        made.set_key("k9")
        assert made.check(clock.now) == Termination("the key 'k9' was removed from the keyring", immediate=True)

    @pytest.mark.parametrize(("late", "found"), [(-SECOND, None), (0 * SECOND, None), (SECOND, KEY_EXPIRED)])
    def test_expired(self, server: Server, clock: Clock, late: timedelta, found: Termination | None) -> None:
        end = clock.moment + HOUR
        server.in_service(key(not_after=end))
        made = server.validity()
        clock.moment = end + late
        assert made.check(clock.now) == found

    @pytest.mark.parametrize("checked", [True, False])
    def test_an_end_that_is_set_later(self, server: Server, clock: Clock, checked: bool) -> None:
        made = server.validity()
        end = clock.moment + HOUR
        server.in_service(key(not_after=end))
        if checked:
            assert made.check(clock.forward(1)) is None
        clock.moment = end + SECOND
        assert made.check(clock.forward(1)) == KEY_EXPIRED

    def test_an_end_that_is_put_off(self, server: Server, clock: Clock) -> None:
        end = clock.moment + HOUR
        server.in_service(key(not_after=end))
        made = server.validity()
        server.in_service(key(not_after=end + HOUR))
        clock.moment = end + SECOND
        assert made.check(clock.now) is None
        clock.moment += HOUR
        assert made.check(clock.now) == KEY_EXPIRED

    @pytest.mark.parametrize("change", [[key("k2", "k2")], [key("k1", "k2")]], ids=["removed", "another secret"])
    def test_expired_and_taken_out(self, server: Server, clock: Clock, change: list[Key]) -> None:
        """A key ends like this in the ordinary way, which costs no reply."""
        end = clock.moment + HOUR
        server.in_service(key(not_after=end))
        made = server.validity()
        server.in_service(*change)
        assert made.check(clock.now) == KEY_REMOVED
        clock.moment = end + SECOND
        assert made.check(clock.now) == KEY_EXPIRED

    def test_an_end_set_later_counts_for_what_is_taken_out(self, server: Server, clock: Clock) -> None:
        made = server.validity()
        end = clock.moment + HOUR
        server.in_service(key(not_after=end))
        assert made.check(clock.now) is None
        clock.moment = end + SECOND
        server.in_service(key("k2", "k2"))
        assert made.check(clock.now) == KEY_EXPIRED

    def test_the_end_of_another_secret_does_not_count(self, server: Server, clock: Clock) -> None:
        """A new key of the old one's id says nothing of the old one's end."""
        made = server.validity()
        server.in_service(key("k1", "k2", not_after=clock.moment + HOUR))
        assert made.check(clock.now) == KEY_REMOVED
        clock.moment += 2 * HOUR
        assert made.check(clock.now) == KEY_REMOVED

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ([key("k2", "k2")], KEY_REMOVED),
            ([key("k1", "k2")], KEY_REMOVED),
            ([key("k1", identity="dns:other.example")], KEY_REBOUND),
            ([key(), key("k2", "k2")], None),
        ],
        ids=["removed", "another secret", "another client", "one more"],
    )
    def test_replaced_during_the_handshake(
        self, server: Server, clock: Clock, change: list[Key], found: Termination | None
    ) -> None:
        """The client proved to hold the key in service at the beginning of the connection, and no other one."""
        security = server.security
        client = Side(server.side.directory.parent / "client", "client.example")
        client.leaf(server.ca)
        client.trust(server.ca)
        client.keys("k1")
        connection = Connection(security, client.security(), clock)
        server.in_service(*change)
        connection.shake_hands()
        assert connection.session.key_id == "k1"
        assert connection.session.validity.check(clock.now) == found

    def test_taken_out_of_use_by_an_expired_client(self, server: Server, clock: Clock) -> None:
        """A revocation is not put off because something else has expired."""
        made = server.validity()
        clock.moment = end_of(server.client) + SECOND
        assert made.check(clock.now) == EXPIRED
        server.in_service(key("k2", "k2"))
        assert made.check(clock.now) == KEY_REMOVED

    def test_an_expired_key_of_an_expired_client(self, server: Server, clock: Clock) -> None:
        server.in_service(key(not_after=clock.moment + HOUR))
        made = server.validity()
        clock.moment += 100 * DAY
        assert made.check(clock.now) == EXPIRED


class Client:
    """A client's Security, whose files are replaced; it and its servers have certificates for seven days by default."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.ca: Issuer = create_ca("CA")
        self.side = Side(directory / "client", "client.example")
        self.side.leaf(self.ca, days=7)
        self.side.trust(self.ca)
        self.side.keys("k1")
        self.clock = clock
        self.security = self.side.security(limits=LIMITS)

    @property
    def own(self) -> PeerIdentity:
        assert self.security.credentials.identity is not None
        return self.security.credentials.identity

    def reload(self) -> None:
        assert self.security.reload()

    def validity(self, *, days: int = 7) -> Validity:
        """Return the validity of a connection made now; ``days``: of the server's certificate."""
        self.server = leaf(self.ca, "localhost", days=days)
        made = Validity(
            self.security,
            self.security.credentials.current,
            peer=PeerIdentity.from_der(self.server),
            leaf=self.server,
            client=self.own,
            now=self.clock.now,
        )
        made.set_key("k1")
        return made

    def unix(self, own: PeerIdentity, peer: PeerIdentity) -> Validity:
        """Return the validity of a connection to another process."""
        made = Validity(
            self.security, self.security.credentials.current, peer=peer, leaf=None, client=own, now=self.clock.now
        )
        made.set_key("k1")
        return made


@pytest.fixture
def client(tmp_path: Path, clock: Clock) -> Client:
    return Client(tmp_path, clock)


class TestExpiresSoon:
    @pytest.mark.parametrize("first", ["client", "server", "key"])
    @pytest.mark.parametrize(("early", "soon"), [(SECOND, False), (0 * SECOND, True), (-SECOND, True)])
    def test_whichever_ends_first(self, client: Client, clock: Clock, first: str, early: timedelta, soon: bool) -> None:
        client.side.leaf(client.ca, days=2 if first == "client" else 20)
        client.side.keys("k1", k1=(-HOUR, (2 if first == "key" else 20) * DAY))
        client.reload()
        made = client.validity(days=2 if first == "server" else 20)
        used = client.security.keys.get("k1")
        assert used is not None
        assert used.not_after is not None
        ends = {"client": client.own.not_after, "server": end_of(client.server), "key": used.not_after}
        assert min(ends.values()) == ends[first]
        clock.moment = ends[first] - EXPIRY_MARGIN - early
        assert made.expires_soon() is soon

    def test_a_key_without_end(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        clock.moment = client.own.not_after - HOUR
        assert not made.expires_soon()

    def test_an_end_that_was_set_later(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        client.side.keys("k1", k1=(-HOUR, HOUR))
        client.reload()
        assert made.check(clock.forward(1)) is None  # which takes note of it
        clock.moment += HOUR - EXPIRY_MARGIN
        assert made.expires_soon()

    def test_made_as_late(self, client: Client, clock: Clock) -> None:
        """Nothing would be gained by another one, until something newer is there."""
        clock.moment = client.own.not_after - EXPIRY_MARGIN + SECOND
        made = client.validity(days=30)
        assert not made.expires_soon()
        clock.moment += 20 * SECOND
        assert not made.expires_soon()
        client.side.leaf(client.ca, days=30)
        client.reload()
        assert made.expires_soon()

    def test_made_at_that_very_moment(self, client: Client, clock: Clock) -> None:
        clock.moment = client.own.not_after - EXPIRY_MARGIN
        assert not client.validity(days=30).expires_soon()

    def test_anonymous(self, client: Client, clock: Clock) -> None:
        server = leaf(client.ca, "localhost")
        current = client.security.credentials.current
        peer = PeerIdentity.from_der(server)
        made = Validity(client.security, current, peer=peer, leaf=server, client=None, now=clock.now)
        made.set_key("k1")
        clock.moment = peer.not_after - EXPIRY_MARGIN
        assert made.expires_soon()


class TestNewerCredentials:
    @pytest.mark.parametrize(
        ("change", "newer"),
        [
            (lambda client: None, False),
            (lambda client: client.side.leaf(client.ca), True),
            (lambda client: client.side.keys("k1", "k2"), True),
            (lambda client: client.side.keys("k2", "k1"), False),
            (lambda client: client.side.keys("k2"), True),
            (lambda client: client.side.keys("k1", "k2", k2=(HOUR, DAY)), False),
            (lambda client: client.side.keys("k1", k1=(-HOUR, HOUR)), False),
            (lambda client: client.side.keys("k1", k1=(HOUR, DAY)), False),
            (lambda client: client.side.trust(client.ca, create_ca("another CA")), False),
        ],
        ids=[
            "nothing", "certificate", "a newer key", "an older key", "another key", "a key for later", "an end",
            "no valid key", "trust",
        ],
    )  # fmt: skip
    def test_what_a_new_connection_would_use(
        self, client: Client, change: Callable[[Client], Any], newer: bool
    ) -> None:
        made = client.validity()
        change(client)
        client.reload()
        assert made.has_newer_credentials() is newer

    def test_another_secret_of_the_same_id(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        made = client.validity()
        monkeypatch.setitem(SECRETS, "k1", SECRETS["k2"])
        client.side.keys("k1")
        client.reload()
        assert made.has_newer_credentials()

    def test_on_a_unix_socket(self, client: Client) -> None:
        """Certificates have nothing to do with it, and keys have."""
        made = client.unix(PeerIdentity.of_process(1, 1, 1), PeerIdentity.of_process(2, 2, 2))
        client.side.leaf(client.ca)
        client.reload()
        assert not made.has_newer_credentials()
        client.side.keys("k2")
        client.reload()
        assert made.has_newer_credentials()

    @pytest.mark.parametrize(
        ("identity", "newer"), [("dns:client.example", True), ("dns:other.example", False), ("anonymous", False)]
    )
    def test_a_key_of_its_own_identity(self, client: Client, identity: str, newer: bool) -> None:
        made = client.validity()
        client.side.write(keyring=keyring(key(), key("k2", "k2", identity=identity)))
        client.reload()
        assert made.has_newer_credentials() is newer

    @pytest.mark.parametrize(("identity", "newer"), [("uid:1", True), ("uid:2", False), ("dns:client.example", False)])
    def test_a_key_of_its_own_user(self, client: Client, identity: str, newer: bool) -> None:
        made = client.unix(PeerIdentity.of_process(1, 1, 1), PeerIdentity.of_process(2, 2, 2))
        client.side.write(keyring=keyring(key(), key("k2", "k2", identity=identity)))
        client.reload()
        assert made.has_newer_credentials() is newer

    def test_on_a_unix_socket_nothing_expires(self, client: Client, clock: Clock) -> None:
        made = client.unix(PeerIdentity.of_process(1, 1, 1), PeerIdentity.of_process(2, 2, 2))
        clock.moment += 1000 * DAY
        assert made.check(clock.now) is None
        assert not made.expires_soon()


class TestIsReplaced:
    """Clients leave what they would not make again, each at its own moment (docs/protocol.md, section 8)."""

    @pytest.fixture(autouse=True)
    def drawn(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        drawn = [0.5]
        fixed = SimpleNamespace(random=lambda: drawn.pop(0), uniform=lambda low, _: low)
        monkeypatch.setattr(module, "_random", fixed)
        return drawn

    def test_nothing_newer(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        assert not made.is_replaced(clock.now, clock.forward(1000.0))

    def test_within_half_an_interval(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        client.side.leaf(client.ca)
        client.reload()
        due, end = clock.now, clock.now + INTERVAL / 4
        assert not made.is_replaced(due, clock.now)
        assert made.next_check == end
        for now, left in ((end - 0.001, False), (end, True), (end + 1, True)):
            assert made.is_replaced(now, now) is left, "the moment is drawn once"

    def test_a_check_that_is_earlier_stays(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        client.side.leaf(client.ca)
        client.reload()
        made.next_check = clock.now + 0.1
        assert not made.is_replaced(clock.now, clock.now)
        assert made.next_check == clock.now + 0.1

    def test_at_once_if_it_was_idle_meanwhile(self, client: Client, clock: Clock) -> None:
        made = client.validity()
        client.side.leaf(client.ca)
        client.reload()
        assert made.is_replaced(clock.now - INTERVAL, clock.now)

    def test_another_moment_after_it_was_in_use_again(self, client: Client, clock: Clock, drawn: list[float]) -> None:
        drawn.append(1.0)
        made = client.validity()
        for part in (4, 2):
            client.side.keys("k2")
            client.reload()
            now = clock.forward(10.0)
            assert not made.is_replaced(now, now + INTERVAL / part - 0.001)
            assert made.is_replaced(now, now + INTERVAL / part)
            client.side.keys("k1")
            client.reload()
            assert not made.is_replaced(now, now + 1000.0)
        assert drawn == []

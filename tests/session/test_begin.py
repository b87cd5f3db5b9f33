"""The beginning of a session at either end, after TLS (docs/protocol.md, sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sealwire.errors import HandshakeFailed, PeerNotAllowed, RemoteProtocolError
from sealwire.faults import Refuse
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.session.begin import begin_client_session, begin_server_session, begin_unix_client_session, reject_code
from sealwire.session.validity import EXPIRY_MARGIN
from sealwire.trust.contexts import ALPN
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.keyring import Keyring
from sealwire.wire.events import Rejected
from sealwire.wire.features import Features
from sealwire.wire.frames import CloseCode, RejectCode
from sealwire.wire.keys import Key
from support.certificates import Files, Made, make, make_ca, make_crl
from support.service import Deployment
from support.session import ADDRESS, Clock, Connection, Slot, UnixConnection
from support.sides import SECRETS, Side
from support.throwaway import ANYBODY
from support.wire import feed, sent

INTERVAL, IDLE = 2.0, 30.0
SECOND = timedelta(seconds=1)
LIMITS = {"reload_interval": INTERVAL, "idle_timeout": IDLE, "part_window": 65_536}
FEATURES = Features(metadata=True, cancel=True, window=65_536, at_once=3)


class Closed(Refuse):
    code = 64


class Tcp:
    """Two ends with certificates of one day; the server's key is bound to the client."""

    bound_to = "dns:client.example"
    make = Connection

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.clock = clock
        self.place = Deployment(directory)

    def ends(self) -> dict[str, Security]:
        key = Key("k1", SECRETS["k1"], identity=self.bound_to)
        common = {"keys": Keyring([key]), "limits": Limits(**LIMITS)}
        return {
            "server": self.place.security("server", peers=["dns:client.example"], **common),
            "client": self.place.security("client", peers=["dns:localhost"], faults=[Closed], **common),
        }

    def connection(self, **options: Any) -> Connection:
        ends = self.ends()
        return self.make(ends["server"], ends["client"], self.clock, **options)


class Unix(Tcp):
    """Two processes; the server's key is bound to the client's user."""

    bound_to = "uid:1000"
    make = UnixConnection

    def ends(self) -> dict[str, Security]:
        key = Key("k1", SECRETS["k1"], identity=self.bound_to)
        common = {"keys": Keyring([key]), "limits": Limits(**LIMITS), "service": "orders"}
        return {
            "server": self.place.security("server", peers=["uid:1000"], **common),
            "client": self.place.security("client", peers=["uid:2000"], faults=[Closed], **common),
        }


@pytest.fixture(params=[Tcp, Unix], ids=["tcp", "unix"])
def carrier(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Tcp:
    return request.param(tmp_path, clock)


class TestBothEnds:
    def test_each_is_checked_as_the_peer_that_it_is(self, carrier: Tcp) -> None:
        """The key is bound to the client, so that a check that takes another for it, or none, ends the connection."""
        connection = carrier.connection()
        connection.shake_hands()
        for _ in range(3):
            now = carrier.clock.forward(INTERVAL)
            assert connection.asking.usable(now)
            connection.session.check(now)
            assert connection.session.closing is None

    def test_the_first_check_is_after_an_interval(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        due = carrier.clock.now + INTERVAL
        assert connection.asking.validity.next_check == connection.session.validity.next_check == due

    def test_agree_on_the_features_that_both_have(self, carrier: Tcp) -> None:
        connection = carrier.connection(features=FEATURES)
        connection.shake_hands()
        assert connection.client.features == FEATURES
        assert connection.server.features == FEATURES._replace(at_once=0)

    def test_have_no_features_by_default(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        connection.shake_hands()
        assert connection.client.features == connection.server.features == Features()

    def test_a_request_and_its_reply(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        connection.shake_hands()
        request = connection.in_hand()
        assert (connection.slot.welcomed, connection.slot.authenticated, connection.slot.requests) == (True, 1, 1)
        connection.session.reply(request.sequence, b"!", carrier.clock.now)
        (event,) = connection.to_client()
        assert connection.asking.receive(event) == (request.sequence, b"!")

    def test_a_fault_is_the_exception_that_the_client_has_for_it(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        connection.shake_hands()
        request = connection.in_hand()
        connection.session.fault(request.sequence, Closed.code, "at night")
        (event,) = connection.to_client()
        result = connection.asking.receive(event)
        assert result is not None
        assert isinstance(result[1], Closed)

    def test_the_client_knows_the_server(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        unix = isinstance(connection, UnixConnection)
        assert connection.asking.address == ("/run/x.sock" if unix else ADDRESS)
        assert str(connection.asking.peer).startswith("uid:2000" if unix else "dns:localhost")

    def test_the_limits_are_the_servers(self, carrier: Tcp) -> None:
        connection = carrier.connection()
        assert connection.session.input_deadline(carrier.clock.now) == carrier.clock.now + IDLE

    @pytest.mark.parametrize("code", [RejectCode.OVERLOADED, RejectCode.SHUTTING_DOWN])
    def test_a_busy_server_rejects(self, carrier: Tcp, code: RejectCode) -> None:
        connection = carrier.connection(busy=code)
        with pytest.raises(HandshakeFailed):
            connection.shake_hands()
        assert connection.to_client() == [Rejected(code)]


class TestNewKeys:
    """A key that came into service after the connection began is found, when its client has used it."""

    @pytest.mark.parametrize("make", [Connection, UnixConnection])
    def test_are_looked_for(self, tmp_path: Path, clock: Clock, make: Callable[..., Connection]) -> None:
        place, side = Deployment(tmp_path), Side(tmp_path / "keys")
        side.keys("k1")
        common = {"peers": ANYBODY} if make is Connection else {"peers": ["uid:1000", "uid:2000"], "service": "orders"}
        server = place.security("server", keys=Keyring.from_file(side.path("keyring")), **common)
        client = place.security("client", keys=Keyring([Key("k2", SECRETS["k2"])]), **common)
        connection = make(server, client, clock)
        side.keys("k1", "k2")
        assert server.keys.reload()
        connection.shake_hands()
        assert connection.session.key_id == "k2"

    def test_no_other_key_is(self, tmp_path: Path, clock: Clock) -> None:
        place = Deployment(tmp_path)
        server = place.security("server", keys=Keyring([Key("k1", SECRETS["k1"])]), peers=ANYBODY)
        client = place.security("client", keys=Keyring([Key("k2", SECRETS["k2"])]))
        with pytest.raises(RemoteProtocolError):
            Connection(server, client, clock).shake_hands()


class Chains:
    """A server and a client whose certificates come from a CA below the root; each end has lists of both CAs."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.clock = clock
        self.root, self.files = make_ca("root"), Files(directory)
        self.above = make_ca("the CA above", issuer=self.root)
        self.security = {
            side: self._security(name) for side, name in (("server", "localhost"), ("client", "c.example"))
        }

    def _lists(self, *revoked: Made) -> bytes:
        return make_crl(self.root, *revoked) + make_crl(self.above)

    def _security(self, name: str) -> Security:
        own = make(name, issuer=self.above)
        return Security(
            credentials=self.files.credentials(own, self.root, chain=[self.above], crl=self._lists()),
            keys=Keyring([Key("k1", SECRETS["k1"])]),
            peers=ANYBODY,
            limits=Limits(**LIMITS),
        )

    def list_of(self, side: str) -> Path:
        return Path(self.security[side].credentials.current.paths["crl"])

    def revoke(self, side: str) -> None:
        """Put the CA above both certificates on the list of one end."""
        self.list_of(side).write_bytes(self._lists(self.above))
        assert self.security[side].credentials.reload()

    def connection(self) -> Connection:
        return Connection(self.security["server"], self.security["client"], self.clock, above=(self.above.der,))


@pytest.fixture
def chains(tmp_path: Path, clock: Clock) -> Chains:
    return Chains(tmp_path, clock)


class TestRevokedCAs:
    """OpenSSL compares the leaf with the lists; the CAs between it and the root are compared here."""

    def test_a_client_sends_such_a_server_nothing(self, chains: Chains) -> None:
        chains.revoke("client")
        says = f"the certificate of localhost is not .* CA above it is revoked, by {chains.list_of('client')}; get"
        with pytest.raises(HandshakeFailed, match=says):
            chains.connection()

    def test_a_server_rejects_such_a_client(self, chains: Chains) -> None:
        chains.revoke("server")
        connection = chains.connection()
        with pytest.raises(RemoteProtocolError, match="above it is revoked"):
            feed(connection.server, sent(connection.client))
        assert connection.to_client() == [Rejected(RejectCode.NOT_AUTHORISED)]

    def test_a_client_leaves_a_server_that_has_become_one(self, chains: Chains) -> None:
        connection = chains.connection()
        connection.shake_hands()
        assert connection.asking.usable(chains.clock.forward(INTERVAL))
        chains.revoke("client")
        assert not connection.asking.usable(chains.clock.forward(INTERVAL))

    def test_a_server_ends_the_connection_of_a_client_that_has_become_one(self, chains: Chains) -> None:
        connection = chains.connection()
        connection.shake_hands()
        connection.session.check(chains.clock.forward(INTERVAL))
        assert not connection.session.ended
        chains.revoke("server")
        connection.session.check(chains.clock.forward(INTERVAL))
        assert connection.session.ended
        assert connection.session.closing == CloseCode.CREDENTIAL


class TestClient:
    @pytest.mark.parametrize(("alpn", "with_leaf"), [(None, True), ("h2", True), (ALPN, False)])
    def test_another_protocol(self, deployment: Deployment, alpn: str | None, with_leaf: bool) -> None:
        security = deployment.security("client")
        leaf = deployment.security("server").credentials.leaf if with_leaf else None
        with pytest.raises(HandshakeFailed, match=f"^{ADDRESS} did not agree to the protocol sealwire/1"):
            begin_client_session(
                security, security.credentials.current, alpn, leaf, host="localhost", address=ADDRESS, now=0.0
            )

    def test_a_server_that_is_not_on_the_list(self, deployment: Deployment) -> None:
        security = deployment.security("client", peers=["dns:other.example"])
        leaf = deployment.security("server").credentials.leaf
        with pytest.raises(PeerNotAllowed, match="not on this client's list of peers; add one of its names"):
            begin_client_session(
                security, security.credentials.current, ALPN, leaf, host="localhost", address=ADDRESS, now=0.0
            )

    def test_its_own_certificate_counts_for_the_end(self, tmp_path: Path, clock: Clock) -> None:
        files, ca = Files(tmp_path), make_ca()
        names = {"server": ("localhost", 20), "client": ("client.example", 2)}
        ends = {
            side: Security(
                credentials=files.credentials(make(name, issuer=ca, end=days * 86_400 * SECOND), ca),
                keys=Keyring([Key("k1", SECRETS["k1"])]),
                peers=ANYBODY,
                limits=Limits(**LIMITS),
            )
            for side, (name, days) in names.items()
        }
        connection = Connection(ends["server"], ends["client"], clock)
        connection.shake_hands()
        own = ends["client"].credentials.identity
        assert own is not None
        clock.moment = own.not_after - EXPIRY_MARGIN - SECOND
        assert connection.asking.usable(clock.now + INTERVAL)
        clock.moment += SECOND
        assert not connection.asking.usable(clock.now + 2 * INTERVAL)

    def test_unix(self, deployment: Deployment) -> None:
        """The kernel names both processes, and no host name is sent."""
        own, peer = PeerIdentity.of_process(1000, 1000, 1), PeerIdentity.of_process(2000, 2000, 2)
        for peers, allowed in ((["uid:2000"], True), (["uid:1000"], False)):
            security = deployment.security("client", peers=peers, service="orders")
            arguments = (security, security.credentials.current, peer, own)
            if allowed:
                protocol, session = begin_unix_client_session(*arguments, address="/run/x.sock", now=0.0)
                assert session.peer is peer
                assert b"\x07/orders" in sent(protocol)
            else:
                with pytest.raises(PeerNotAllowed, match=r"at /run/x\.sock showed uid:2000"):
                    begin_unix_client_session(*arguments, address="/run/x.sock", now=0.0)


class TestServer:
    @pytest.mark.parametrize("alpn", [None, "h2", "sealwire/2"])
    def test_another_protocol(self, deployment: Deployment, alpn: str | None) -> None:
        security = deployment.security("server", peers=["anonymous"])
        with pytest.raises(HandshakeFailed, match="did not offer the protocol sealwire/1") as failed:
            begin_server_session(
                security, security.credentials.current, alpn, None, None, slot=Slot(), busy=lambda: None, now=0.0
            )
        assert failed.value.reason == "protocol"

    @pytest.mark.parametrize(
        ("draining", "full", "code"),
        [(False, False, None), (False, True, RejectCode.OVERLOADED), (True, False, 5), (True, True, 5)],
    )
    def test_a_busy_one(self, draining: bool, full: bool, code: int | None) -> None:
        assert reject_code(draining=draining, full=full) == code

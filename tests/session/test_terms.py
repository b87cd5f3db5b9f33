"""Handshake parameters and TLS contexts, as a Security makes them; handshakes in memory."""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealwire.codec import RawCodec
from sealwire.errors import AuthenticationError, ConfigurationError, PeerNotAllowed, RemoteProtocolError, UnknownKey
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.session import terms
from sealwire.testing import Throwaway
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import Keyring
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Established
from sealwire.wire.features import Features
from sealwire.wire.frames import RejectCode
from sealwire.wire.keys import Key
from sealwire.wire.server import ServerProtocol
from support.certificates import HOST, Files, Handshake, make, make_ca, make_crl
from support.session import Clock
from support.throwaway import ANYBODY, SECRETS, credentials, security
from support.wire import feed, sent

ENTRIES = ["anonymous", "dns:client.example"]


def accepts(security: Security, name: str) -> bool:
    return terms.server_parameters(
        security, security.credentials.current, client=None, leaf=None, busy=lambda: None
    ).accepts_name(name)


def client_protocol(security: Security, *, host: str, leaf: bytes) -> ClientProtocol:
    peer = PeerIdentity.from_der(leaf)
    current = security.credentials.current
    return ClientProtocol(**terms.client_parameters(security, current, host=host, peer=peer, leaf=leaf))


def server_protocol(server: Security, client: Security, *, busy: Any = lambda: None) -> ServerProtocol:
    return ServerProtocol(
        terms.server_parameters(
            server,
            server.credentials.current,
            client=client.credentials.identity,
            leaf=client.credentials.leaf,
            busy=busy,
        )
    )


class TestServer:
    def test_needs_a_list_of_peers(self, place: Throwaway) -> None:
        with pytest.raises(ConfigurationError, match="which clients may connect"):
            terms.check_server(security(place, "server"))

    def test_needs_a_certificate(self, place: Throwaway) -> None:
        with pytest.raises(ConfigurationError, match="needs a certificate"):
            terms.check_server(security(place, None, peers=ANYBODY))

    def test_insists_on_certificates_unless_the_list_says_anonymous(self, place: Throwaway) -> None:
        stranger = security(place, None)
        nobody = terms.client_tls(stranger, stranger.credentials.current)
        for peers, refused in ((ANYBODY, True), (["dns:a.example"], True), (["anonymous"], False)):
            made = security(place, "server", peers=peers)
            pair = Handshake(terms.server_tls(made, made.credentials.current), nobody)
            assert bool(pair.failures) is refused

    def test_contexts_are_made_once(self, place: Throwaway) -> None:
        made = security(place, "server", peers=ANYBODY)
        assert terms.server_tls(made, made.credentials.current) is terms.server_tls(made, made.credentials.current)
        assert terms.client_tls(made, made.credentials.current) is terms.client_tls(made, made.credentials.current)

    def answer(self, place: Throwaway, server: Security, client: Security, *, host: str = HOST) -> int | None:
        """The code of the server's REJECT; None for WELCOME, which the client verifies."""
        assert server.credentials.leaf is not None
        ours = client_protocol(client, host=host, leaf=server.credentials.leaf)
        theirs = server_protocol(server, client)
        with suppress(RemoteProtocolError):  # what rejected is about
            feed(theirs, sent(ours))
        if theirs.rejected is None:
            feed(ours, sent(theirs))
        return theirs.rejected

    @pytest.mark.parametrize(
        ("peers", "answer"),
        [
            (ANYBODY, None),
            (["dns:client.example"], None),
            (["dns:other.example"], 3),
            (["anonymous"], 3),
            (None, 3),
        ],
    )
    def test_only_listed_peers(self, place: Throwaway, peers: Any, answer: int | None) -> None:
        assert self.answer(place, security(place, "server", peers=peers), security(place, "client")) == answer

    def test_anonymous(self, place: Throwaway) -> None:
        client = security(place, None)
        assert self.answer(place, security(place, "server", peers=["anonymous"]), client) is None
        assert self.answer(place, security(place, "server", peers=["dns:client.example"]), client) == 3
        assert self.answer(place, security(place, "server", peers=ANYBODY), client) == 3

    def test_a_key_that_is_bound_to_an_identity(self, place: Throwaway) -> None:
        plain = security(place, "client")
        for identity, answer in (("dns:client.example", None), ("dns:other.example", 3), ("anonymous", 3)):
            bound = Key("k1", SECRETS["k1"], identity=identity)
            server = security(place, "server", bound, peers=[*ENTRIES])
            assert self.answer(place, server, plain) == answer

    def test_a_key_that_is_bound_to_nobody_with_a_certificate(self, place: Throwaway) -> None:
        server = security(place, "server", Key("k1", SECRETS["k1"], identity="anonymous"), peers=[*ENTRIES])
        assert self.answer(place, server, security(place, None)) is None

    def test_a_key_that_is_not_valid_now(self, place: Throwaway) -> None:
        past = datetime.now(UTC) - timedelta(hours=1)
        over, begun = Key("k1", SECRETS["k1"], not_after=past), Key("k1", SECRETS["k1"], not_before=past)
        for key, answer in ((over, 3), (begun, None)):
            server = security(place, "server", key, peers=ANYBODY)
            assert self.answer(place, server, security(place, "client")) == answer

    def test_every_valid_key_verifies(self, place: Throwaway) -> None:
        keys = [Key(name, secret) for name, secret in SECRETS.items()]
        server = security(place, "server", *keys, peers=ANYBODY)
        for key in keys:
            assert self.answer(place, server, security(place, "client", key)) is None
        assert self.answer(place, server, security(place, "client", Key("k4", SECRETS["k1"]))) == 3
        assert self.answer(place, server, security(place, "client", Key("k1", SECRETS["k2"]))) == 3

    @pytest.mark.parametrize(
        ("host", "service", "answer"),
        [
            (HOST, "", None),
            ("192.0.2.7", "", None),
            ("alias.example", "", None),
            ("other.example", "", 3),
            ("client.example", "", 3),
            (HOST, "orders", 3),
        ],
    )
    def test_names(self, place: Throwaway, host: str, service: str, answer: int | None) -> None:
        server = security(place, "server", peers=ANYBODY, names=["alias.example"])
        assert self.answer(place, server, security(place, "client", service=service), host=host) == answer

    def test_services_must_be_the_same(self, place: Throwaway) -> None:
        server = security(place, "server", peers=ANYBODY, service="orders")
        for service, answer in (("orders", None), ("", 3), ("order", 3), ("Orders", 3), ("orders/v1", 3)):
            assert self.answer(place, server, security(place, "client", service=service)) == answer

    def test_codecs_must_be_the_same(self, place: Throwaway) -> None:
        server = security(place, "server", peers=ANYBODY, codec=RawCodec())
        assert self.answer(place, server, security(place, "client")) == 2

    def test_server_names_are_taken_in_their_one_form(self, place: Throwaway) -> None:
        plain = security(place, "server", names=["::1"])
        served = security(place, "server", names=["::1"], service="orders")
        for name in ("", "server.example", "::1"):
            assert accepts(plain, name)
            assert accepts(served, f"{name}/orders")
            assert not accepts(served, name)
        for name in (
            "/",
            "server.example/",
            "SERVER.example",
            "server.example.",
            "0:0:0:0:0:0:0:1",
            "server.example/orders",
            "a b",
            "*",
        ):
            assert not accepts(plain, name)
        for name in ("server.example/", "server.example/orders/", "/orders/orders", "0:0:0:0:0:0:0:1/orders"):
            assert not accepts(served, name)


class TestDoubt:
    """A server looks for other keys before it refuses a client as not authorised (docs/protocol.md, section 8)."""

    def doubts(self, server: Security, keys: Callable[[], KeySnapshot] | None) -> bool:
        current = server.credentials.current
        return terms.server_parameters(server, current, client=None, leaf=None, busy=lambda: None, keys=keys).doubt()

    def test_without_other_keys_there_is_none(self, place: Throwaway) -> None:
        server = security(place, "server", peers=ANYBODY)
        assert not self.doubts(server, lambda: server.keys.current)
        assert not self.doubts(server, None)

    def test_others_are_in_use_by_now(self, place: Throwaway) -> None:
        server, before = security(place, "server", peers=ANYBODY), security(place, "server").keys.current
        assert self.doubts(server, lambda: before)

    def test_the_file_may_have_others(self, place: Throwaway) -> None:
        server = place.security("a server", HOST, peers=ANYBODY)
        assert self.doubts(server, lambda: server.keys.current)


class TestReason:
    """The word in audit records for a client that may not connect at all."""

    def test_of_one_that_is_not_listed(self, place: Throwaway) -> None:
        server, client = security(place, "server", peers=["dns:other.example"]), security(place, "client")
        assert server.credentials.leaf is not None
        hello = sent(client_protocol(client, host=HOST, leaf=server.credentials.leaf))
        with pytest.raises(AuthenticationError, match="is not on the peer list") as refused:
            feed(server_protocol(server, client), hello)
        assert refused.value.reason == "peer_not_listed"

    def test_of_one_below_a_revoked_ca(self, tmp_path: Path) -> None:
        root, files = make_ca("root"), Files(tmp_path)
        above = make_ca("the CA above", issuer=root)
        lists = make_crl(root, above) + make_crl(above)
        ends = {
            name: Security(
                credentials=files.credentials(make(name, issuer=above), root, chain=[above], crl=crl),
                keys=Keyring([Key("k1", SECRETS["k1"])]),
                peers=ANYBODY,
            )
            for name, crl in ((HOST, lists), ("client.example", None))
        }
        server, client = ends[HOST], ends["client.example"]
        assert server.credentials.leaf is not None
        parameters = terms.server_parameters(
            server,
            server.credentials.current,
            client=client.credentials.identity,
            leaf=client.credentials.leaf,
            above=(above.der,),
            busy=lambda: None,
        )
        with pytest.raises(AuthenticationError, match="of a CA above it is revoked") as refused:
            feed(ServerProtocol(parameters), sent(client_protocol(client, host=HOST, leaf=server.credentials.leaf)))
        assert refused.value.reason == "certificate"


class TestClient:
    def leaf(self, place: Throwaway) -> bytes:
        leaf = credentials(place, "server").leaf
        assert leaf is not None
        return leaf

    def test_without_a_list_the_host_name_is_enough(self, place: Throwaway) -> None:
        made = security(place, "client")
        assert terms.client_tls(made, made.credentials.current).check_hostname
        assert client_protocol(made, host=HOST, leaf=self.leaf(place))

    @pytest.mark.parametrize(
        "peers", [["dns:other.example"], ["spiffe://prod/*"], ["anonymous"], ["sha256:" + "0" * 64]]
    )
    def test_a_server_that_is_not_listed(self, place: Throwaway, peers: list[str]) -> None:
        made = security(place, "client", peers=peers)
        with pytest.raises(PeerNotAllowed, match=f"showed dns:{HOST}"):
            client_protocol(made, host=HOST, leaf=self.leaf(place))

    @pytest.mark.parametrize("peers", [ANYBODY, [f"dns:{HOST}"], [f"dns:{HOST}", "spiffe://prod/*"], ["ip:192.0.2.7"]])
    def test_the_host_name_counts_beside_the_list(self, place: Throwaway, peers: Any) -> None:
        made = security(place, "client", peers=peers)
        server = security(place, "server", peers=ANYBODY)
        assert terms.client_tls(made, made.credentials.current).check_hostname
        pair = Handshake(
            terms.server_tls(server, server.credentials.current),
            terms.client_tls(made, made.credentials.current),
            host="other.example",
        )
        assert "Hostname mismatch" in pair.problem("client")

    def test_a_fingerprint_replaces_the_host_name(self, place: Throwaway) -> None:
        leaf = self.leaf(place)
        identity = PeerIdentity.from_der(leaf)
        server = security(place, "server", peers=ANYBODY)
        for entry in (f"sha256:{identity.fingerprint}", f"spki-sha256:{identity.key_fingerprint}"):
            made = security(place, "client", peers=[entry], service="orders")
            assert not Handshake(
                terms.server_tls(server, server.credentials.current),
                terms.client_tls(made, made.credentials.current),
                host="other.example",
            ).failures
            protocol = client_protocol(made, host="other.example", leaf=leaf)
            # The server is told that no host name was verified.
            hello = sent(protocol)
            assert b"\x07/orders" in hello
            assert b"other.example" not in hello

    def test_the_chain_is_always_verified(self, place: Throwaway) -> None:
        own = make(HOST)
        made = security(place, "client", peers=[f"sha256:{PeerIdentity.from_der(own.der).fingerprint}"])
        server = Files(place.directory).credentials(own, own)
        theirs = Security(credentials=server, keys=Keyring([Key("k1", SECRETS["k1"])]), peers=ANYBODY)
        pair = Handshake(
            terms.server_tls(theirs, theirs.credentials.current), terms.client_tls(made, made.credentials.current)
        )
        assert pair.problem("client") == "self-signed certificate"

    def test_uses_only_keys_of_its_own_identity(self, place: Throwaway) -> None:
        keys = [
            Key("k1", SECRETS["k1"], identity="dns:client.example"),
            Key("k2", SECRETS["k2"], identity="dns:other.example"),
            Key("k3", SECRETS["k3"], identity="anonymous"),
        ]
        for name, expected in (("client", b"\x02k1"), (None, b"\x02k3")):
            made = security(place, name, *keys)
            hello = sent(client_protocol(made, host=HOST, leaf=self.leaf(place)))
            assert expected in hello
        made = security(place, "client", *keys[1:])
        with pytest.raises(ConfigurationError, match=r"\('k2' for dns:other\.example, 'k3' .* for dns:client"):
            client_protocol(made, host=HOST, leaf=self.leaf(place))

    def test_names_that_are_too_long(self, place: Throwaway) -> None:
        made = security(place, "client", service="x" * 128)
        assert client_protocol(made, host="a" * 126, leaf=self.leaf(place))
        with pytest.raises(ConfigurationError, match="256 characters"):
            client_protocol(made, host="a" * 127, leaf=self.leaf(place))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "accepted"),
        [
            ("2001:db8::7", True),
            ("b.example", True),
            ("2001:DB8::7", False),
            ("2001:db8:0:0::7", False),
            ("2001:db8::0.0.0.7", False),
            ("B.example", False),
            ("b.example.", False),
        ],
    )
    def test_one_form_of_the_certificates_too(self, place: Throwaway, name: str, accepted: bool) -> None:
        """An address in another form is the same address to a certificate, but no ``server_name``."""
        made = place.security("by address", "2001:db8::7", "b.example", peers=ANYBODY)
        assert accepts(made, name) is accepted

    @pytest.mark.parametrize(
        ("name", "accepted"),
        [
            ("a.wild.example", True),
            ("b.wild.example", True),
            ("wild.example", False),
            ("a.b.wild.example", False),
            ("*.wild.example", False),
            ("A.wild.example", False),
            ("a.wild.example.", False),
            ("a.other.example", False),
            ("host.7", False),
        ],
    )
    def test_of_a_wildcard(self, tmp_path: Path, name: str, accepted: bool) -> None:
        """As TLS matches it; what is in the certificate, and yet no host name, names no server."""
        ca = make_ca()
        found = Files(tmp_path).credentials(make("*.wild.example", "host.7", issuer=ca), ca)
        made = Security(credentials=found, keys=Keyring([Key("k1", SECRETS["k1"])]), peers=ANYBODY)
        assert accepts(made, name) is accepted


class TestFeatures:
    def test_of_a_server(self, place: Throwaway) -> None:
        """Parts need handlers that take them; metadata and cancelling do not."""
        made = security(place, "server", limits=Limits(part_window=70_000))
        assert terms.server_features(made, at_once=7, in_parts=True) == Features(True, True, 70_000, 7)
        assert terms.server_features(made, at_once=7, in_parts=False) == Features(True, True, 0, 0)


class TestWithoutFiles:
    """Handshakes are made with snapshots: on asyncio they run on the event loop, which must not wait for a disk."""

    @pytest.fixture
    def ends(self, place: Throwaway) -> tuple[Security, Security]:
        """A server and a client whose certificates and keys come from files."""
        return place.security("a server", HOST, peers=["dns:client.example"]), place.security(
            "a client", "client.example"
        )

    @staticmethod
    def shake_hands(ends: tuple[Security, Security]) -> None:
        server, client = ends
        leaf = server.credentials.leaf
        assert leaf is not None
        ours, theirs = client_protocol(client, host=HOST, leaf=leaf), server_protocol(server, client)
        feed(theirs, sent(ours))
        (event,) = feed(ours, sent(theirs))
        assert isinstance(event, Established)

    def test_no_file_is_opened(self, ends: tuple[Security, Security], monkeypatch: pytest.MonkeyPatch) -> None:
        def opened(*arguments: Any, **_: Any) -> Any:
            raise AssertionError(f"a file was looked at: {arguments}")

        assert all(security.refresh_due() for security in ends)  # so that whatever may look at files would do so now
        with monkeypatch.context() as patched:
            for module, names in (
                (builtins, ["open"]), (io, ["open"]), (os, ["open", "stat", "lstat", "readlink", "listdir", "scandir"])
            ):  # fmt: skip
                for name in names:
                    patched.setattr(module, name, opened)
            self.shake_hands(ends)
            with pytest.raises(AssertionError, match="was looked at"):
                ends[0].refresh()

    def test_one_snapshot_from_beginning_to_end(self, place: Throwaway, tmp_path: Path) -> None:
        """Keys that are replaced during a handshake are those of the next one."""
        keyring = tmp_path / "keyring"
        shutil.copy(place.keyring, keyring)
        server = place.security("a server", HOST, peers=["dns:client.example"], keyring=keyring)
        client = place.security("a client", "client.example")

        def protocols() -> tuple[ClientProtocol, ServerProtocol]:
            assert server.credentials.leaf is not None
            ours = client_protocol(client, host=HOST, leaf=server.credentials.leaf)
            return ours, server_protocol(server, client)

        ours, theirs = protocols()
        shutil.copy(place.new_keyring("another", key_id="another"), keyring)
        assert server.keys.reload()
        feed(theirs, sent(ours))
        assert theirs.rejected is None
        ours, theirs = protocols()
        with pytest.raises(UnknownKey):
            feed(theirs, sent(ours))
        assert theirs.rejected == RejectCode.NOT_AUTHORISED


class TestClockSkew:
    """A server accepts a key a little early, and a client signs with none early (docs/protocol.md, section 8)."""

    @pytest.mark.parametrize(("early", "known"), [(0, True), (29, True), (30, True), (31, False), (3600, False)])
    def test_servers(self, place: Throwaway, clock: Clock, early: float, known: bool) -> None:
        key = Key("k1", SECRETS["k1"], not_before=clock.moment + timedelta(seconds=early))
        made = security(place, "server", key, peers=ANYBODY)
        parameters = terms.server_parameters(made, made.credentials.current, client=None, leaf=None, busy=lambda: None)
        assert parameters.find_key("k1") == (key if known else None)
        assert parameters.find_key("k2") is None

    @pytest.mark.parametrize(("early", "used"), [(-1, "k2"), (0, "k2"), (1, "k1"), (29, "k1")])
    def test_clients(self, place: Throwaway, clock: Clock, early: float, used: str) -> None:
        newer = Key("k2", SECRETS["k2"], not_before=clock.moment + timedelta(seconds=early))
        assert terms.signing_key(security(place, "client", Key("k1", SECRETS["k1"]), newer), None).id == used

    @pytest.mark.parametrize(("late", "known"), [(0, True), (0.001, False)])
    def test_neither_is_late(self, place: Throwaway, clock: Clock, late: float, known: bool) -> None:
        key = Key("k1", SECRETS["k1"], not_after=clock.moment - timedelta(seconds=late))
        made = security(place, "server", key, peers=ANYBODY)
        parameters = terms.server_parameters(made, made.credentials.current, client=None, leaf=None, busy=lambda: None)
        assert (parameters.find_key("k1") is not None) is known
        if known:
            assert terms.signing_key(made, None) is key
        else:
            with pytest.raises(ConfigurationError, match="is valid now for a client without a certificate; "):
                terms.signing_key(made, None)


class TestUnixSocket:
    OWN, PEER = PeerIdentity.of_process(1000, 1000, 1), PeerIdentity.of_process(2000, 2000, 2)

    def answer(self, server: Security, client: Security) -> int | None:
        """The code of the server's REJECT, None for WELCOME."""
        ours = ClientProtocol(**terms.unix_client_parameters(client, self.OWN, self.PEER))
        parameters = terms.server_parameters(server, None, client=self.OWN, leaf=None, busy=lambda: None)
        theirs = ServerProtocol(parameters)
        with suppress(RemoteProtocolError):  # what rejected is about
            feed(theirs, sent(ours))
        if theirs.rejected is None:
            (event,) = feed(ours, sent(theirs))
            assert isinstance(event, Established)
        return theirs.rejected

    @pytest.mark.parametrize(
        ("peers", "service", "answer"),
        [
            (["uid:1000"], "orders", None),
            (["gid:1000"], "orders", None),
            (["uid:1000"], "Orders", 3),
            (["uid:1000"], "", 3),
            (["uid:2000"], "orders", 3),
            (["dns:client.example", "anonymous"], "orders", 3),
            (ANYBODY, "orders", 3),
        ],
    )
    def test_processes_and_services(self, place: Throwaway, peers: Any, service: str, answer: int | None) -> None:
        """The binding is zero at both ends, though both have certificates."""
        server = security(place, "server", peers=peers, service=service)
        client = security(place, "client", peers=["uid:2000"], service="orders")
        assert self.answer(server, client) == answer

    def test_keys_of_a_process(self, place: Throwaway) -> None:
        client = security(place, "client", peers=["uid:2000"], service="orders")
        for identity, answer in (("uid:1000", None), ("uid:2000", 3), ("dns:client.example", 3)):
            key = Key("k1", SECRETS["k1"], identity=identity)
            assert self.answer(security(place, "server", key, peers=["uid:1000"], service="orders"), client) == answer

    @pytest.mark.parametrize("host", ["localhost", HOST, "127.0.0.1"])
    def test_no_host_name(self, place: Throwaway, host: str) -> None:
        made = security(place, "server", peers=["uid:1000"], service="orders", names=[host])
        parameters = terms.server_parameters(made, None, client=self.OWN, leaf=None, busy=lambda: None)
        assert parameters.accepts_name("/orders")
        for name in (f"{host}/orders", host, "orders", "/orders/", "/", ""):
            assert not parameters.accepts_name(name)

    def test_a_server_that_is_not_listed(self, place: Throwaway) -> None:
        client = security(place, "client", peers=["uid:1", "gid:1"], service="orders")
        with pytest.raises(PeerNotAllowed, match=r"at the socket showed uid:2000 gid:2000 \(process 2\)"):
            terms.unix_client_parameters(client, self.OWN, self.PEER)


class TestChecks:
    @pytest.mark.parametrize("value", [None, "security.toml", Limits(), Security])
    @pytest.mark.parametrize("side", ["server", "client"])
    def test_no_security(self, value: Any, side: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^a {side} needs a Security, as in security=Security"):
            terms.check_security(value, side)

    def test_a_server_without_a_security(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^a server needs a Security, as in"):
            terms.check_server(None)

    def test_a_client_without_a_security(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^a client needs a Security, as in"):
            terms.check_client(None)

    @pytest.mark.parametrize("side", ["server", "client"])
    def test_a_certificate_of_the_other_end(self, place: Throwaway, side: str) -> None:
        check = {"server": terms.check_server, "client": terms.check_client}
        for profile in ("server", "client"):
            place.leaf("own", HOST, profile=profile)
            made = security(place, "own", peers=ANYBODY)
            says = f"the certificate is not for TLS {side}s"
            with nullcontext() if profile == side else pytest.raises(ConfigurationError, match=says):
                check[side](made)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"service": "orders", "peers": ["uid:0"]}, None),
            ({"service": "orders", "peers": ["dns:a.example", "gid:0"]}, None),
            ({"peers": ["uid:0"]}, "give the service a name"),
            ({"service": "orders"}, "has no certificates"),
            ({"service": "orders", "peers": ["dns:a.example"]}, "has no certificates"),
            ({"service": "orders", "peers": ANYBODY}, "has no certificates"),
        ],
    )
    def test_unix_socket(self, place: Throwaway, options: dict[str, Any], says: str | None) -> None:
        made = security(place, None, **options)
        with nullcontext() if says is None else pytest.raises(ConfigurationError, match=says):
            terms.check_unix_socket(made)
        with nullcontext() if says is None else pytest.raises(ConfigurationError, match=says):
            terms.check_server(made, unix=True)
        with nullcontext() if says is None else pytest.raises(ConfigurationError, match=says):
            terms.check_client(made, unix=True)

    def test_a_unix_socket_of_a_configuration_file(self, place: Throwaway) -> None:
        """The remedy is in its language, with the user of this process."""
        made = security(place, None, service="orders")
        with pytest.raises(ConfigurationError, match=rf"acceptable processes: peers=\['uid:{os.geteuid()}', …\]$"):
            terms.check_unix_socket(made)
        file = place.directory / "security.toml"
        file.write_text('ca = "ca.pem"\nkeyring = "keyring.toml"\nservice = "orders"\n')
        with pytest.raises(ConfigurationError, match=rf'acceptable processes: peers = \["uid:{os.geteuid()}", …\]$'):
            terms.check_unix_socket(Security.from_toml(file))

    @pytest.mark.parametrize(
        ("host", "accepted"),
        [
            (HOST, True),
            (HOST.upper() + ".", True),
            ("192.0.2.7", True),
            ("ALIAS.example", True),
            ("0:0:0:0:0:0:0:1", True),
            ("other.example", False),
            ("192.0.2.8", False),
        ],
    )
    def test_hosts(self, place: Throwaway, host: str, accepted: bool) -> None:
        made = security(place, "server", names=["alias.example", "::1"])
        assert terms.accepts_host(made, host) is accepted
        assert not terms.accepts_host(security(place, None), host)

    @pytest.mark.parametrize("host", ["", "a b", "*", "a:443", "server.example/orders"])
    def test_no_host(self, place: Throwaway, host: str) -> None:
        with pytest.raises(ConfigurationError):
            terms.accepts_host(security(place, "server"), host)


class TestBusy:
    @pytest.mark.parametrize(
        ("client", "answer"),
        [({}, 4), ({"keys": [Key("k1", SECRETS["k2"])]}, 3), ({"service": "x"}, 3), ({"codec": RawCodec()}, 2)],
        ids=["authorised", "another key", "another service", "another codec"],
    )
    def test_is_told_to_authorised_clients_alone(self, place: Throwaway, client: dict[str, Any], answer: int) -> None:
        asked: list[int] = []
        options = dict(client)
        made = security(place, "client", *options.pop("keys", ()), **options)
        server = security(place, "server", peers=ANYBODY)
        assert server.credentials.leaf is not None
        theirs = server_protocol(
            server,
            made,
            busy=lambda: asked.append(4) or 4,
        )
        with suppress(RemoteProtocolError):
            feed(theirs, sent(client_protocol(made, host=HOST, leaf=server.credentials.leaf)))
        assert theirs.rejected == answer
        assert len(asked) == (answer == 4)

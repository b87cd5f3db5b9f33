"""Certificates and keys are replaced under a server and a client that go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from conformance.conftest import Case
from sealwire import ConnectionClosed, HandshakeFailed, HandshakeRejected, TransportError
from sealwire.pki.authority import create_ca
from support.certificates import Made, make, make_ca, make_crl
from support.service import eventually
from support.sides import revocation_list

HOUR = timedelta(hours=1)
SELDOM = {"reload_interval": 3600}


@pytest.mark.certificates
def test_leaves_and_authorities(case: Case) -> None:
    """Both ends get certificates of a new CA, in the order of the guide, and no request fails."""
    new = create_ca("second")
    ends = case.ends
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0
        for side in (ends.server, ends.client):
            side.trust(ends.ca, new)
        assert client.request(1) == 1
        fingerprint = ends.server.leaf(new)
        ends.client.leaf(new)

        def sees_the_new_one() -> bool:
            fresh = case.client(running)
            try:
                assert fresh.request(2) == 2
                return bool(fresh.peer().fingerprint == fingerprint)
            except HandshakeFailed:  # the server has not read the new anchor yet
                return False
            finally:
                fresh.close()

        client.close()
        eventually(sees_the_new_one, timeout=10)
        assert client.request(3) == 3


@pytest.mark.pairs(lambda server, client: server.in_this_process and not client.several)  # whose log is the test's
def test_files_are_checked_while_no_client_is_connected(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sealwire.rotation")
    with case.start():
        case.ends.server.keys("k1", "k2")
        eventually(lambda: "keyring: generation 2 in service" in caplog.text)


@pytest.mark.certificates
def test_revoked(case: Case) -> None:
    """Of the lists in the file the one with the highest number decides, for admission and for connected clients."""
    ends = case.ends
    ends.server.revoke(ends.ca)
    with case.start(crl=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        identity = ends.security().credentials.identity
        assert identity is not None
        issued = ends.ca.issue("client.example", profile="peer")  # revoked by mistake, and no longer
        earlier = revocation_list(ends.ca, issued.certificate.serial_number, number=1, start=-HOUR)
        newest = revocation_list(ends.ca, identity.serial, number=2, start=-2 * HOUR)
        later = revocation_list(ends.ca, number=1, start=-timedelta(minutes=1))
        ends.server.write(crl=earlier + newest + later)

        def is_refused() -> bool:
            try:
                client.request(2)
            except (HandshakeFailed, ConnectionClosed) as error:
                return isinstance(error, HandshakeFailed)
            return False

        eventually(is_refused, timeout=10)
        ends.client.write(key=issued.key_pem, cert=issued.cert_pem)
        assert eventually(lambda: case.client(running).request(3) == 3)


@pytest.mark.certificates
@pytest.mark.parametrize("judge", ["server", "client"])
def test_a_ca_in_the_middle_is_revoked(case: Case, judge: str) -> None:
    """The root's list takes what a CA below it has issued with it; no list of a CA above the issuing one is needed."""
    ends = case.ends
    root = make_ca("root")
    between, another = make_ca("between", issuer=root), make_ca("another", issuer=root)
    here, there = (ends.server, ends.client) if judge == "server" else (ends.client, ends.server)

    def move(issuer: Made) -> None:
        own = make(*there.names[:1], issuer=issuer, serial=7)
        there.write(key=own.key_pem, cert=own.pem + issuer.pem)

    for side in (here, there):
        side.write(ca=ends.ca.cert_pem + root.pem)
    move(between)
    others = make_crl(between) + make_crl(another) + revocation_list(ends.ca)
    here.write(crl=others)
    with case.start(crl=judge == "server") as running:
        client = case.client(running, crl=judge == "client")
        assert client.request(1) == 1
        for number, revoked in enumerate(([], [between])):
            here.write(crl=others + make_crl(root, *revoked, number=number))
            if not revoked:
                assert client.request(2) == 2

        def is_refused() -> bool:
            try:
                client.request(3)
            except ConnectionClosed:
                return False
            except HandshakeRejected:
                return judge == "server"
            except HandshakeFailed as error:
                return "the certificate of a CA above it is revoked" in str(error)
            return False

        eventually(is_refused, timeout=10)
        client.close()
        move(another)
        client = case.client(running, crl=judge == "client")
        eventually(lambda: not is_refused(), timeout=10)


def test_keys(case: Case) -> None:
    """The guide's order: the new key to the server, then to the client, then the old one goes; no request fails."""
    ends = case.ends
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0
        ends.server.keys("k1", "k2")
        late = case.other_side("late", "client.example")
        assert client.request(1) == 1
        ends.client.keys("k1", "k2")
        # A connection made with the old key is left between two requests, before that key goes.
        eventually(lambda: client.request(["who"])[1] == "k2", timeout=10)
        ends.server.keys("k2")
        assert client.request(2) == 2
        client.close()
        old = case.client(running, side=late)

        def old_one_is_refused() -> bool:
            try:
                old.request(1)
            except TransportError as error:
                return isinstance(error, HandshakeRejected)
            finally:
                old.close()
            return False

        eventually(old_one_is_refused, timeout=10)
        assert client.request(3) == 3


@pytest.mark.pairs(lambda server, client: server.name.startswith("Threading"))  # it is the clients' rule
def test_a_key_that_the_file_lacks_is_not_insisted_on(case: Case) -> None:
    """The server has taken the newer key back, and the client, which has not asked for anything since, as well."""
    ends = case.ends
    newer = {"k2": (-HOUR, 24 * HOUR)}
    ends.client.keys("k1", "k2", **newer)
    with case.start() as running:  # without k2
        client = case.client(running)
        ends.client.keys("k1")
        assert client.request(["who"])[1] == "k1"


@pytest.mark.parametrize("connected", [True, False])
def test_a_key_in_other_hands(case: Case, connected: bool) -> None:
    """Both ends replace it at once. The client, with no check due for long, looks when it is cut off or refused."""
    ends = case.ends
    with case.start() as running:
        client = case.client(running, limits=SELDOM)
        if connected:
            assert client.request(1) == 1
        ends.client.keys("k2")
        ends.server.keys("k2")

        old = case.client(running, side=case.other_side("old", "client.example"))

        def is_out_of_use() -> bool:
            try:
                old.request(2)
            except (HandshakeRejected, ConnectionClosed) as error:
                return isinstance(error, HandshakeRejected)
            return False

        eventually(is_out_of_use, timeout=10)
        # A standing connection ends at its own next check; what its handler has then is not answered.
        eventually(lambda: client.request(["who"], idempotent=True)[1] == "k2")


@pytest.mark.certificates
def test_a_certificate_in_other_hands(case: Case) -> None:
    """The client, which has no check due for long, looks when its certificate is refused."""
    ends = case.ends
    identity = ends.security().credentials.identity
    assert identity is not None
    ends.server.revoke(ends.ca, identity.serial)
    with case.start(crl=True) as running:
        client = case.client(running, limits=SELDOM)
        ends.client.leaf(ends.ca)
        assert client.request(1) == 1


def test_the_server_looks_for_a_key_that_it_does_not_know(case: Case) -> None:
    """Also if no check is due for long."""
    ends = case.ends
    with case.start(limits=SELDOM) as running:
        ends.server.keys("k1", "k2")
        ends.client.keys("k2")
        assert case.client(running).request(["who"])[1] == "k2"


def test_several_clients_have_a_key_that_the_server_does_not_know(case: Case) -> None:
    """They come at once, while the server's file has just been written: all wait for the one check that it makes."""
    ends = case.ends

    def key_of(client: Any) -> str:
        try:
            return str(client.request(["who"])[1])
        finally:
            client.close()  # some servers have one connection at a time

    with case.start(limits=SELDOM) as running, ThreadPoolExecutor() as pool:
        ends.client.keys("k2")
        clients = [case.client(running) for _ in range(4)]
        ends.server.keys("k1", "k2")
        ends.server.path("keyring").touch()
        assert list(pool.map(key_of, clients)) == ["k2"] * 4


@pytest.mark.certificates
def test_torn_files(case: Case) -> None:
    """Files that do not match are rejected, and the previous ones stay in service."""
    ends = case.ends
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0
        issued = ends.ca.issue("localhost", "127.0.0.1", profile="peer")
        own = ends.server.path("cert").read_bytes()
        ends.server.write(cert=issued.cert_pem)  # and not its key
        for _ in range(5):
            client.close()
            assert client.request(1) == 1
        ends.server.write(cert=own)
        ends.server.trust(create_ca("another"))  # which nobody has a certificate of
        for _ in range(5):
            client.close()
            assert client.request(1) == 1
        ends.server.trust(ends.ca)
        client.close()
        stranger = case.other_side("stranger", "client.example")
        stranger.leaf(create_ca("stranger's"))
        with pytest.raises(HandshakeFailed):
            case.client(running, side=stranger).request(2)

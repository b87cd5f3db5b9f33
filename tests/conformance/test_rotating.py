"""Certificates and keys are replaced under a server and a client that go on."""

from __future__ import annotations

import pytest

from conformance.conftest import Case
from sealwire import ConnectionClosed, HandshakeFailed, HandshakeRejected, TransportError
from sealwire.tls.issue import create_ca
from support.service import eventually


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
            except HandshakeFailed:  # the server has not seen yet whom it may trust
                return False
            finally:
                fresh.close()

        client.close()
        eventually(sees_the_new_one, timeout=10)
        assert client.request(3) == 3


@pytest.mark.certificates
def test_revoked(case: Case) -> None:
    ends = case.ends
    ends.server.revoke(ends.ca)
    with case.start(crl=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        identity = ends.security().credentials.identity
        assert identity is not None
        ends.server.revoke(ends.ca, identity.serial)

        def is_refused() -> bool:
            try:
                client.request(2)
            except (HandshakeFailed, ConnectionClosed) as error:
                return isinstance(error, HandshakeFailed)
            return False

        eventually(is_refused, timeout=10)
        ends.client.leaf(ends.ca)  # of the same CA, and not revoked
        assert eventually(lambda: case.client(running).request(3) == 3)


def test_keys(case: Case) -> None:
    """The guide's order: the new key to the server, then to the client, then the old one goes; no request fails."""
    ends = case.ends
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0
        ends.server.keys("k1", "k2")
        late = case.other_side("late", "client.example")
        assert client.request(1) == 1

        def takes_the_new_one() -> bool:
            ends.client.keys("k2")
            fresh = case.client(running)
            try:
                return bool(fresh.request(["who"])[1] == "k2")
            except HandshakeRejected:
                return False
            finally:
                fresh.close()

        client.close()
        eventually(takes_the_new_one, timeout=10)
        ends.server.keys("k2")
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
        assert client.request(2) == 2


@pytest.mark.certificates
def test_torn_files(case: Case) -> None:
    """What does not go together is not taken, and what was in service goes on."""
    ends = case.ends
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0
        issued = ends.ca.issue("localhost", "127.0.0.1", profile="peer")
        ends.server.write(cert=issued.cert_pem)  # and not its key
        for _ in range(5):
            client.close()
            assert client.request(1) == 1
        client.close()
        stranger = case.other_side("stranger", "client.example")
        stranger.leaf(create_ca("stranger's"))
        with pytest.raises(HandshakeFailed):
            case.client(running, side=stranger).request(2)

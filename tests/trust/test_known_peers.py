from __future__ import annotations

import pytest

from sealwire.errors import PeerNotAllowed
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.known_peers import LARGEST, MOST, PER_PEER, KnownPeers
from support.certificates import make


def known(peers: KnownPeers, leaf: bytes) -> bool:
    """Tell if a certificate is remembered: then it is read as the same object each time."""
    return peers.identify(leaf) is peers.identify(leaf)


def remember(peers: KnownPeers, leaf: bytes) -> None:
    peers.remember(leaf, peers.identify(leaf))


def test_a_remembered_certificate_says_the_same() -> None:
    peers, leaf = KnownPeers(), make("client.example").der
    assert not known(peers, leaf)
    remember(peers, leaf)
    assert known(peers, leaf)
    assert peers.identify(leaf) == PeerIdentity.from_der(leaf)


def test_another_certificate_of_the_same_names_is_another_identity() -> None:
    peers, leaf, other = KnownPeers(), make("client.example", serial=5).der, make("client.example", serial=6).der
    remember(peers, leaf)
    assert peers.identify(other).serial == 6
    assert not known(peers, other)


def test_each_bit_of_the_certificate_counts() -> None:
    peers, leaf = KnownPeers(), make("client.example").der
    remember(peers, leaf)
    with pytest.raises(PeerNotAllowed):
        peers.identify(leaf[:-1])
    assert peers.identify(leaf[:-1] + bytes([leaf[-1] ^ 1])).fingerprint != peers.identify(leaf).fingerprint


def test_a_peer_pushes_out_its_own_certificates_alone() -> None:
    peers = KnownPeers()
    other = make("other.example").der
    remember(peers, other)
    certificates = [make("client.example").der for _ in range(PER_PEER + 3)]
    for each in certificates:
        remember(peers, each)
    assert [known(peers, each) for each in certificates] == [False] * 3 + [True] * PER_PEER
    assert known(peers, other)
    assert len(peers) == PER_PEER + 1


def test_there_is_a_bound_for_all_peers_together() -> None:
    peers, leaf = KnownPeers(), make("client.example").der
    for number in range(MOST + 10):  # no certificates, because making them takes a while
        peers.remember(leaf, PeerIdentity(dns=(f"{number}.example",), fingerprint=str(number)))
    assert len(peers) == MOST
    remember(peers, leaf)
    assert len(peers) == MOST
    assert known(peers, leaf)


def test_a_peer_that_was_first_and_renews_when_there_is_no_room() -> None:
    peers, leaf = KnownPeers(), make("client.example").der

    def of(account: str, number: int) -> PeerIdentity:
        return PeerIdentity(dns=(account,), fingerprint=f"{account} {number}")

    for number in range(PER_PEER):
        peers.remember(leaf, of("first", number))
    for number in range(MOST - PER_PEER):
        peers.remember(leaf, of(f"{number}.example", 0))
    peers.remember(leaf, of("first", PER_PEER))
    assert len(peers) == MOST


def test_a_large_certificate_is_not_remembered() -> None:
    peers, leaf = KnownPeers(), make(*(f"{number:060}.example" for number in range(LARGEST // 60))).der
    assert len(leaf) > LARGEST
    remember(peers, leaf)
    assert len(peers) == 0
    for size, count in ((LARGEST + 1, 0), (LARGEST, 1)):
        peers.remember(bytes(size), PeerIdentity(dns=("client.example",), fingerprint="1"))
        assert len(peers) == count

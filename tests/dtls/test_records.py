"""The parts of a datagram that can be read without keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.dtls.records import announced, client_offer, client_random, is_encrypted, is_forged
from support.hostile_dtls import APPLICATION, HANDSHAKE, message_part, record


class TestForged:
    """Older releases of OpenSSL end an association over an encrypted record that is shorter than its tag."""

    @pytest.mark.parametrize(("size", "forged"), [(0, True), (1, True), (23, True), (24, False), (25, False)])
    def test_too_short(self, size: int, forged: bool) -> None:
        short = record(APPLICATION, 1, 5, bytes(size))
        assert is_forged(short, 24) is forged
        assert is_forged(record(APPLICATION, 1, 4, bytes(40)) + short, 24) is forged
        assert is_forged(record(HANDSHAKE, 0, 4, bytes(4)) + short + bytes(30), 24) is forged

    def test_without_encryption(self) -> None:
        assert not is_forged(record(HANDSHAKE, 0, 1, b"x"), 24)
        assert not is_forged(b"", 24)


class TestAnnounced:
    def test_parts_of_messages(self) -> None:
        parts = message_part(2, 100_000, 0, bytes(50)) + message_part(3, 70, 0, bytes(70))
        datagram = record(HANDSHAKE, 0, 1, parts) + record(APPLICATION, 0, 2, parts) + record(HANDSHAKE, 1, 3, parts)
        assert list(announced(datagram)) == [(2, 100_000), (3, 70)]


@given(st.binary(max_size=200))
def test_anything(datagram: bytes) -> None:
    """Nothing is raised."""
    for function in (is_encrypted, client_random, client_offer):
        function(datagram)
    list(announced(datagram))
    is_forged(datagram, 24)

from __future__ import annotations

import pytest
from cryptography import x509

from sealwire.pki.extensions import alternative_names, extended_key_usage, find_extension
from support.certificates import CLIENT, SERVER, make, make_ca, raw_names, version_1


def test_found() -> None:
    leaf = make("a.example", uses=[CLIENT, SERVER]).certificate
    assert find_extension(leaf, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert alternative_names(leaf) == [x509.DNSName("a.example")]
    assert extended_key_usage(leaf) == [CLIENT, SERVER]


def test_missing() -> None:
    bare = version_1(make_ca()).certificate
    assert find_extension(bare, x509.BasicConstraints) is None
    assert alternative_names(bare) == extended_key_usage(bare) == []


def test_malformed_is_not_missing() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        alternative_names(make(raw_san=raw_names((7, b"12345"))).certificate)

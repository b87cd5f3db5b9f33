"""What every peer must refuse in an endpoint's own certificate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sealwire.errors import ConfigurationError
from sealwire.trust.certificates import Certificates
from sealwire.trust.credentials import Credentials
from sealwire.trust.own_certificate import certificate_problems, check_certificate, name_problems
from support.certificates import CLIENT, HOST, SERVER, Files, Made, make, make_ca, make_crl

ROLES = pytest.mark.parametrize(("role", "other"), [("server", "client"), ("client", "server")])
USES = {"server": SERVER, "client": CLIENT}


def loaded(own: Made | None, ca: Made, *above: Made, crl: bytes | None = None) -> Certificates:
    contents = {"ca": ca.pem}
    if own is not None:
        contents |= {"cert": b"".join(each.pem for each in (own, *above)), "key": own.key_pem}
    if crl is not None:
        contents["crl"] = crl
    return Certificates.parse(contents, {part: Path(f"{part}.pem") for part in contents}, None)


def refusal(current: Certificates, role: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_certificate(current, role)
    return str(caught.value)


@ROLES
def test_one_that_peers_accept(ca: Made, role: str, other: str) -> None:
    for own in (make("a.example", issuer=ca, uses=[USES[role]]), make("a.example", issuer=ca), None):
        check_certificate(loaded(own, ca), role)


@ROLES
def test_for_another_purpose(ca: Made, role: str, other: str) -> None:
    own = make("a.example", issuer=ca, uses=[USES[other]])
    assert refusal(loaded(own, ca), role) == (
        f"cert.pem: the certificate is not for TLS {role}s, so {other}s would refuse it; name a {role}'s as cert and "
        f"key, or issue one with the profile {role}, or peer for both: `sealwire certs issue {role} NAME --as STEM` "
        "where the CA is"
    )


def test_without_names(ca: Made) -> None:
    """Clients that list its fingerprint accept it."""
    current = loaded(make(issuer=ca, common_name="localhost"), ca)
    assert [problem for problem, _ in name_problems(current)]
    check_certificate(current, "server")
    check_certificate(current, "client")


@pytest.mark.parametrize("name", [HOST, "192.0.2.7", "spiffe://a.example/orders"])
def test_with_a_name_of_any_kind(ca: Made, name: str) -> None:
    assert not [*name_problems(loaded(make(name, issuer=ca), ca))]


def test_without_a_certificate(ca: Made) -> None:
    current = loaded(None, ca)
    assert not [*name_problems(current), *certificate_problems(current, "server")]


def test_below_an_intermediate_that_is_valid(ca: Made) -> None:
    between = make_ca("between", issuer=ca)
    check_certificate(loaded(make("a.example", issuer=between), ca, between), "server")


def test_below_a_root_that_has_expired(ca: Made) -> None:
    """It is not shown: peers have the CA's present certificate."""
    before = make_ca("CA", key=ca.key, end=timedelta(0))
    check_certificate(loaded(make("a.example", issuer=ca), ca, before), "server")


@ROLES
def test_below_an_intermediate_that_has_expired(ca: Made, role: str, other: str) -> None:
    between = make_ca("between", issuer=ca, end=timedelta(0))
    current = loaded(make("a.example", issuer=between), ca, between)
    assert "the intermediate certificate CN=between expired at" in refusal(current, role)
    assert [fix for _, fix in certificate_problems(current, role)] == ["get the CA's current chain"]


@ROLES
def test_revoked(ca: Made, role: str, other: str) -> None:
    own = make("a.example", issuer=ca)
    assert f"is on a revocation list in crl.pem, so {other}s would refuse it" in refusal(
        loaded(own, ca, crl=make_crl(ca, own)), role
    )


def test_one_in_service_stays_accepted(ca: Made, leaf: Made, files: Files, paths: dict[str, Any]) -> None:
    """A worker that takes the place of another one serves with what the server has in service."""
    lists = files.write(make_crl(ca))
    credentials = Credentials.from_files(**paths, crl=lists)
    credentials.check_role("server")
    Path(lists).write_bytes(make_crl(ca, leaf))
    assert credentials.reload()
    assert credentials.status().revoked
    credentials.check_role("server")
    with pytest.raises(ConfigurationError, match="so servers would refuse it"):
        credentials.check_role("client")

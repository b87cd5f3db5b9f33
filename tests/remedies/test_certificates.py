"""Remedies that concern certificates, their CA and its lists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from remedies.place import Place, covers
from sealwire.pki.authority import Issuer
from support.certificates import DAY, SERVER, Made, make, make_ca, make_crl

OLD = {"start": -88 * DAY, "end": 2 * DAY}
"""A certificate that warnings have begun for."""


def authority(directory: str = "certs") -> Made:
    """The CA of a directory."""
    ca = Issuer.from_pem(Path(directory, "ca.pem").read_bytes(), Path(directory, "ca.key").read_bytes())
    return Made(ca.certificate, ca.private_key)


def put(path: str, content: bytes, mode: int = 0o600) -> None:
    Path(path).write_bytes(content)
    Path(path).chmod(mode)


def put_leaf(leaf: Made, chain: bytes = b"", path: str = "certs/server") -> None:
    put(f"{path}.pem", leaf.pem + chain)
    put(f"{path}.key", leaf.key_pem)


def put_ca(ca: Made) -> None:
    put("certs/ca.pem", ca.pem)
    put("certs/ca.key", ca.key_pem)


@covers("pki/renewal.py", "sealwire certs renew {} --dir {}")
def test_a_certificate_expires_beside_its_ca(place: Place) -> None:
    place.deploy()
    put_leaf(make("localhost", issuer=authority(), uses=[SERVER], **OLD))
    assert "the certificate expires" in place.doctor()
    place.follow(place.doctor(), "sealwire certs renew {} --dir {}")
    assert "the certificate expires" not in place.doctor()


@covers("pki/renewal.py", "sealwire certs request {} --as {} --dir {}")
@covers("cli/certs/request.py", "sealwire certs sign {}", "sealwire certs install {} *")
def test_a_certificate_expires_away_from_its_ca(place: Place) -> None:
    place.deploy()
    put_leaf(make("localhost", issuer=authority(), uses=[SERVER], **OLD))
    shutil.copytree("certs", "authority/certs")
    Path("certs/ca.key").unlink()
    told = place.follow(place.doctor(), "sealwire certs request {} --as {} --dir {}")
    shutil.copy("certs/server.new.csr", "authority")
    place.follow(told, "sealwire certs sign {}", at="authority")
    shutil.copy("authority/certs/server.new.pem", "certs")
    place.follow(told, "sealwire certs install {} *")
    assert "the certificate expires" not in place.doctor()


@covers("cli/certs/request.py", "sealwire certs request PROFILE * --as {} *")
@pytest.mark.parametrize("there", [True, False])
def test_nothing_was_requested(place: Place, there: bool) -> None:
    place.deploy()
    if not there:
        Path("certs/server.pem").unlink()
        Path("certs/server.key").unlink()
    told = place.says("certs", "install", "server", status=1)
    template = "sealwire certs request PROFILE * --as {} *"
    assert "the request for a certificate" in place.follow(told, template, PROFILE="server", NAME="localhost")


@covers("cli/certs/request.py", "sealwire certs install {} *")
def test_a_request_was_made_before(place: Place) -> None:
    place.deploy()
    place.says("certs", "request", "server")
    told = place.says("certs", "request", "server", status=1)
    place.says("certs", "sign", "certs/server.new.csr")
    assert "the new certificate" in place.follow(told, "sealwire certs install {} *")


@covers(
    "cli/certs/renew.py",
    "sealwire certs request PROFILE --as STEM *",
    "sealwire certs sign STEM.new.csr",
    "sealwire certs install STEM *",
)
def test_renewal_without_the_key_of_the_ca(place: Place) -> None:
    place.deploy()
    shutil.copytree("certs", "at the host")
    Path("at the host/ca.key").unlink()
    old = Path("at the host/server.pem").read_bytes()
    told = place.says("certs", "renew", "server", "--dir", "at the host", status=1)
    place.follow(told, "sealwire certs request PROFILE --as STEM *", PROFILE="server", STEM="server")
    shutil.copy("at the host/server.new.csr", ".")
    place.follow(told, "sealwire certs sign STEM.new.csr", STEM="server")
    shutil.copy("certs/server.new.pem", "at the host")
    place.follow(told, "sealwire certs install STEM *", STEM="server")
    assert Path("at the host/server.pem").read_bytes() != old


@covers("cli/certs/common.py", "sealwire certs request PROFILE NAME --as STEM *", "sealwire certs sign STEM.csr")
def test_issuing_without_the_key_of_the_ca(place: Place) -> None:
    place.deploy()
    Path("host").mkdir()
    shutil.copy("certs/ca.pem", "host")
    told = place.says("certs", "issue", "client", "new.example", "--dir", "host", status=1)
    template = "sealwire certs request PROFILE NAME --as STEM *"
    place.follow(told, template, PROFILE="client", NAME="new.example", STEM="new")
    shutil.copy("host/new.csr", ".")
    place.follow(told, "sealwire certs sign STEM.csr", STEM="new")
    shutil.copy("certs/new.pem", "host")
    assert "new.example" in place.says("certs", "list", "--dir", "host")


@covers("cli/certs/common.py", "sealwire certs init *")
@covers("cli/certs/issue.py", "sealwire certs issue server localhost 127.0.0.1 *")
def test_issuing_without_a_ca(place: Place) -> None:
    told = place.says("certs", "issue", "client", "client.example", "--dir", "my certs", status=1)
    told = place.follow(told, "sealwire certs init *")
    place.follow(told, "sealwire certs issue server localhost 127.0.0.1 *")
    place.says("certs", "issue", "client", "client.example", "--dir", "my certs")


@covers("cli/certs/list.py", "sealwire certs init *")
def test_a_list_of_nothing(place: Place) -> None:
    place.follow(place.says("certs", "list", "--dir", "my certs", status=1), "sealwire certs init *")
    assert "ok" in place.says("certs", "list", "--dir", "my certs")


@covers("cli/certs/issue.py", "sealwire certs issue PROFILE NAME --as STEM *", "sealwire certs init --dir DIRECTORY")
def test_a_second_ca_does_not_end_the_first(place: Place) -> None:
    place.deploy()
    ca = Path("certs/ca.pem").read_bytes()
    told = place.says("certs", "init", "--server", "localhost", status=1)
    assert "--force would end the one that is there" in told
    template = "sealwire certs issue PROFILE NAME --as STEM *"
    place.follow(told, template, PROFILE="server", NAME="localhost", STEM="second")
    place.follow(told, "sealwire certs init --dir DIRECTORY", DIRECTORY="another one")
    assert Path("certs/ca.pem").read_bytes() == ca
    assert Path("another one/ca.pem").read_bytes() != ca


@covers("cli/remedies.py", "sealwire certs init --dir new-ca", "sealwire certs bundle {} new-ca/ca.pem --out {}")
def test_a_ca_expires_soon(place: Place) -> None:
    place.deploy()
    put_ca(make_ca(**OLD))
    put_leaf(make("localhost", issuer=authority(), uses=[SERVER], **OLD))
    told = place.doctor()
    assert "the trust anchor CN=CA expires" in told
    place.follow(told, "sealwire certs init --dir new-ca", "sealwire certs bundle {} new-ca/ca.pem --out {}")
    place.says("certs", "renew", "certs/server.pem", "--dir", "new-ca")
    put("old-ca.pem", authority().pem)
    place.says("certs", "bundle", "certs/ca.pem", "--remove", "old-ca.pem", "--out", "certs/ca.pem")
    assert "expires at" not in place.doctor()


@covers("cli/remedies.py", "sealwire certs bundle {} --remove {} --out {}")
def test_a_ca_of_several_has_expired(place: Place) -> None:
    place.deploy()
    put("certs/ca.pem", Path("certs/ca.pem").read_bytes() + make_ca("old", start=-9 * DAY, end=-DAY).pem)
    told = place.doctor()
    assert "the trust anchor CN=old has expired" in told
    place.follow(told, "sealwire certs bundle {} --remove {} --out {}")
    assert "has expired" not in place.doctor()


@covers("cli/remedies.py", "sealwire certs init --dir new-ca", "sealwire certs bundle {} new-ca/ca.pem --out {}")
@pytest.mark.parametrize("which", [("--once",), ("certs/ca.pem",)])
def test_what_cannot_be_renewed(place: Place, which: tuple[str, ...]) -> None:
    place.deploy()
    put_ca(make_ca(**OLD))
    put_leaf(make("localhost", issuer=authority(), uses=[SERVER], start=-9 * DAY, end=2 * DAY))
    told = place.says("certs", "renew", *which, status=1).splitlines()[-1]
    place.follow(told, "sealwire certs init --dir new-ca", "sealwire certs bundle {} new-ca/ca.pem --out {}")
    place.says("certs", "renew", "--once", "--dir", "new-ca", "certs/server.pem")
    assert "the certificate expires" not in place.doctor()


@covers("pki/renewal.py", "sealwire certs crl --dir {}")
def test_a_revocation_list_expires_beside_its_ca(place: Place) -> None:
    place.deploy(crl='"certs/crl.pem"')
    put("certs/crl.pem", make_crl(authority(), start=-9 * DAY, end=DAY))
    told = place.doctor()
    assert "the revocation list of" in told
    place.follow(told, "sealwire certs crl --dir {}")
    assert "the revocation list of" not in place.doctor()


@covers("pki/renewal.py", "sealwire certs crl")
def test_a_revocation_list_expires_away_from_its_ca(place: Place) -> None:
    place.deploy(crl='"lists.pem"')
    put("lists.pem", make_crl(authority(), start=-9 * DAY, end=DAY))
    place.follow(place.doctor(), "sealwire certs crl")
    shutil.copy("certs/crl.pem", "lists.pem")
    assert "the revocation list of" not in place.doctor()


@covers("cli/checks.py", "sealwire certs crl")
def test_there_is_no_revocation_list(place: Place) -> None:
    place.deploy()
    told = place.doctor()
    assert "no revocation list" in told
    place.follow(told, "sealwire certs crl")
    place.configure(crl='"certs/crl.pem"')
    assert "no revocation list" not in place.doctor()


@covers("trust/contexts.py", "sealwire certs crl")
def test_peers_are_refused_by_a_list_that_is_out_of_date(place: Place) -> None:
    from sealwire.trust.contexts import verification_problem
    from sealwire.trust.credentials import Credentials

    place.deploy(crl='"certs/crl.pem"')
    put("certs/crl.pem", make_crl(authority(), start=-9 * DAY, end=DAY))
    in_service = Credentials.from_files(ca="certs/ca.pem", crl="certs/crl.pem").current
    place.follow(verification_problem(12, "CRL has expired", in_service), "sealwire certs crl")
    assert "revocation list" not in place.doctor()


@covers("pki/renewal.py", "sealwire certs issue {} NAME --as STEM *")
def test_a_certificate_for_another_use_beside_its_ca(place: Place) -> None:
    """The one that is there may be right for what it is used for elsewhere."""
    place.deploy()
    before = Path("certs/client.pem").read_bytes()
    text = Path("server.toml").read_text()
    Path("server.toml").write_text(text.replace("server.", "client."))
    told = place.doctor()
    assert "not for TLS servers" in told
    place.follow(told, "sealwire certs issue {} NAME --as STEM *", NAME="localhost", STEM="another")
    assert Path("certs/client.pem").read_bytes() == before
    Path("server.toml").write_text(text.replace("server.", "another."))
    assert "not for TLS servers" not in place.doctor()


@covers("pki/renewal.py", "sealwire certs issue {} NAME --as STEM")
def test_a_certificate_for_another_use_away_from_its_ca(place: Place) -> None:
    place.deploy()
    shutil.copytree("certs", "host")
    Path("host/ca.key").unlink()
    Path("server.toml").write_text(
        Path("server.toml").read_text().replace("certs/", "host/").replace("server.", "client.")
    )
    told = place.doctor()
    place.follow(told, "sealwire certs issue {} NAME --as STEM", NAME="localhost", STEM="another")
    for suffix in (".pem", ".key"):
        shutil.copy(f"certs/another{suffix}", f"host/client{suffix}")
    assert "not for TLS servers" not in place.doctor()


@covers("dtls/contexts.py", "sealwire certs issue server NAME --as STEM")
def test_a_key_that_dtls_cannot_use(place: Place) -> None:
    from sealwire.dtls import UDPServer
    from sealwire.errors import ConfigurationError
    from sealwire.security import Security

    place.deploy("--key-type", "ed25519")
    with pytest.raises(ConfigurationError) as caught:
        UDPServer(("127.0.0.1", 0), print, Security.from_toml("server.toml"))
    place.follow(str(caught.value), "sealwire certs issue server NAME --as STEM", NAME="localhost", STEM="udp")
    Path("server.toml").write_text(Path("server.toml").read_text().replace("certs/server.", "certs/udp."))
    UDPServer(("127.0.0.1", 0), print, Security.from_toml("server.toml")).server_close()


@covers("cli/certs/revoke.py", "sealwire certs list --wide *")
def test_a_name_to_revoke_that_is_none(place: Place) -> None:
    place.deploy()
    told = place.says("certs", "revoke", "nobody.example", status=1)
    listed = place.follow(told, "sealwire certs list --wide *")
    line = next(line for line in listed.splitlines() if "dns:client.example" in line)
    serial = re.search(r"\b[0-9a-f]{30,40}\b", line)
    assert serial
    assert "revoked" in place.says("certs", "revoke", serial[0])


@covers("pki/csr.py", "sealwire certs request PROFILE NAME", "sealwire certs issue PROFILE NAME --as STEM")
def test_names_that_are_missing(place: Place) -> None:
    place.says("certs", "init")
    place.run("openssl req -new -newkey rsa:2048 -nodes -keyout a.key -subj /CN=a -out a.csr")
    told = place.says("certs", "sign", "a.csr", "--profile", "server", status=1)
    place.follow(told, "sealwire certs request PROFILE NAME", PROFILE="server", NAME="a.example")
    place.says("certs", "sign", "certs/server.csr")
    put_leaf(make(issuer=authority(), uses=[SERVER]))
    told = place.says("certs", "renew", "server", status=1)
    template = "sealwire certs issue PROFILE NAME --as STEM"
    place.follow(told, template, PROFILE="server", NAME="a.example", STEM="named")
    place.says("certs", "renew", "named")


def test_a_new_authority_is_not_advised_for_a_lost_file(place: Place) -> None:
    place.deploy()
    Path("certs/ca.pem").unlink()
    assert "certs init" not in place.says("certs", "issue", "client", "x.example", status=1)

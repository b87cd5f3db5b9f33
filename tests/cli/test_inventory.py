from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwire.cli.inventory import Row, inventory, rows_of
from sealwire.pki.authority import Issued, Issuer, create_ca
from sealwire.pki.crl import reissue


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca("Test CA")


@pytest.fixture
def directory(tmp_path: Path, ca: Issuer) -> Path:
    put(tmp_path, "ca", ca)
    return tmp_path


def put(directory: Path, stem: str, issued: Issued, *, key_mode: int = 0o600) -> None:
    (directory / f"{stem}.pem").write_bytes(issued.cert_pem)
    (directory / f"{stem}.key").write_bytes(issued.key_pem)
    (directory / f"{stem}.key").chmod(key_mode)


def row(directory: Path, file: str) -> Row:
    (found,) = [row for row in inventory(directory) if row.file == file]
    return found


def test_the_ca_first_then_by_name(directory: Path, ca: Issuer) -> None:
    put(directory, "b", ca.issue("b.example"))
    put(directory, "a", ca.issue("a.example", "ops@a.example", "https://a.example/", profile="client"))
    put(directory, "c", ca.issue("spiffe://prod/c", profile="peer"))
    found = [(row.file, row.kind, row.names, row.key, row.state) for row in inventory(directory)]
    assert found == [
        ("ca.pem", "CA", ("CN=Test CA",), "ok", "ok"),
        ("a.pem", "client", ("dns:a.example", "email:ops@a.example", "uri:https://a.example/"), "ok", "ok"),
        ("b.pem", "server", ("dns:b.example",), "ok", "ok"),
        ("c.pem", "peer", ("spiffe://prod/c",), "ok", "ok"),
    ]


def test_every_certificate_of_a_bundle(directory: Path, ca: Issuer) -> None:
    other = create_ca("Other CA")
    (directory / "ca.pem").write_bytes(ca.cert_pem + other.cert_pem)
    put(directory, "a", other.issue("a.example"))
    found = [(row.file, row.names, row.key) for row in inventory(directory)]
    assert found[:2] == [("ca.pem", ("CN=Test CA",), "ok"), ("ca.pem", ("CN=Other CA",), "")]
    assert row(directory, "a.pem").state == "ok"


def test_out_of_date(directory: Path, ca: Issuer) -> None:
    now = datetime.now(UTC)
    put(directory, "old", ca.issue("a.example", days=1, not_before=now - timedelta(days=3)))
    put(directory, "new", ca.issue("a.example", not_before=now + timedelta(days=3)))
    assert (row(directory, "old.pem").state, row(directory, "old.pem").days_left) == ("expired", -3)
    assert row(directory, "new.pem").state == "not yet valid"


@pytest.mark.parametrize("anchor", ["another's", "none", "broken"])
def test_not_from_this_ca(directory: Path, ca: Issuer, anchor: str) -> None:
    put(directory, "a", ca.issue("a.example"))
    assert row(directory, "a.pem").state == "ok"
    (directory / "ca.pem").unlink()
    if anchor == "another's":
        (directory / "ca.pem").write_bytes(create_ca("Test CA").cert_pem)
    elif anchor == "broken":
        (directory / "ca.pem").write_bytes(b"garbage")
    assert row(directory, "a.pem").state == "not from a CA that is here"


def test_keys(directory: Path, ca: Issuer) -> None:
    leaf = ca.issue("a.example")
    put(directory, "open", leaf, key_mode=0o640)
    put(directory, "swapped", leaf)
    (directory / "swapped.key").write_bytes(ca.issue("a.example", key_type="ed25519").key_pem)
    put(directory, "gone", leaf)
    (directory / "gone.key").unlink()
    put(directory, "broken", leaf)
    (directory / "broken.key").write_bytes(b"garbage")
    put(directory, "locked", leaf)
    (directory / "locked.key").write_bytes(
        leaf.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    put(directory, "pipe", leaf)
    (directory / "pipe.key").unlink()
    os.mkfifo(directory / "pipe.key", 0o600)
    assert {row.file: row.key for row in inventory(directory)} == {
        "ca.pem": "ok",
        "open.pem": "mode 0640 lets other users open it",
        "swapped.pem": "of another certificate",
        "gone.pem": "missing",
        "broken.pem": "no private key in PEM form could be read",
        "locked.pem": "encrypted",
        "pipe.pem": "no private key in PEM form could be read",
    }


def test_what_is_not_a_certificate(directory: Path) -> None:
    (directory / "garbage.pem").write_bytes(b"garbage")
    (directory / "empty.crt").write_bytes(b"")
    (directory / "bent.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (directory / "directory.pem").mkdir()
    (directory / "dangling.pem").symlink_to("nowhere")
    os.mkfifo(directory / "pipe.pem")
    (directory / ".hidden.pem").write_bytes(b"")
    (directory / "notes.txt").write_bytes(b"")
    no_pem = "no certificate in PEM form could be read"
    assert {row.file: row.state for row in inventory(directory)} == {
        "ca.pem": "ok",
        "garbage.pem": no_pem,
        "empty.crt": no_pem,
        "bent.pem": no_pem,
        "directory.pem": "cannot be read (Is a directory)",
        "dangling.pem": "cannot be read (No such file or directory)",
        "pipe.pem": no_pem,
    }


def test_revocation_lists(directory: Path, ca: Issuer) -> None:
    ours = reissue(ca, None, serials=[7], days=3)
    others = reissue(create_ca("Other CA"), None)
    (directory / "crl.pem").write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in (ours, others)))
    found = [row for row in inventory(directory) if row.file == "crl.pem"]
    assert [(row.kind, row.names, row.serial, row.days_left, row.key, row.state) for row in found] == [
        ("revocation list", ("CN=Test CA",), "1", 2, "", "ok"),
        ("revocation list", ("CN=Other CA",), "1", 6, "", "not from a CA that is here"),
    ]
    assert [row.lifetime.name for row in rows_of(directory / "crl.pem")] == [
        "revocation list CN=Test CA",
        "revocation list CN=Other CA",
    ]


def test_certificates_of_others(directory: Path, ca: Issuer) -> None:
    """Without extensions, with other uses, and with names of other kinds."""
    key = ca.private_key
    start = datetime(2026, 1, 1, tzinfo=UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")])
    bare = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + timedelta(days=9000))
    signing = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    other = x509.SubjectAlternativeName([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))])
    for stem, builder in (
        ("bare", bare),
        ("signing", bare.add_extension(signing, critical=False).add_extension(other, critical=False)),
    ):
        put(directory, stem, Issued(builder.sign(key, hashes.SHA256()), key))
    assert (row(directory, "bare.pem").kind, row(directory, "bare.pem").names) == ("other", ("CN=plain",))
    assert row(directory, "signing.pem").kind == "other"
    assert row(directory, "signing.pem").names[0].startswith("other:")

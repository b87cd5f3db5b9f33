"""Requests, renewal, revocation and bundles, with certificates of ours and of others."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.cli.inventory import names_of
from sealwire.tls.credentials import Credentials

Run = Callable[..., Result]


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def uses(path: str) -> list[x509.ObjectIdentifier]:
    return list(certificate(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def openssl(*arguments: str, content: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=content, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def ca(run: Run) -> Run:
    run("certs", "init", "--server", "localhost", "--client", "client.example")
    return run


class TestRequests:
    def test_the_key_stays(self, ca: Run) -> None:
        output = ca("certs", "request", "client", "billing.example", "--as", "billing", "--dir", "there").stdout
        assert sorted(os.listdir("there")) == [".gitignore", "billing.csr", "billing.key"]
        assert (mode("there/billing.key"), mode("there/billing.csr")) == (0o600, 0o644)
        assert "which stays here" in output
        ca("certs", "sign", "there/billing.csr", "--name", "billing.example")
        assert not Path("certs/billing.key").exists()
        os.rename("certs/billing.pem", "there/billing.pem")
        loaded = Credentials.from_files(cert="there/billing.pem", key="there/billing.key", ca="certs/ca.pem")
        assert loaded.identity is not None
        assert loaded.identity.dns == ("billing.example",)
        assert uses("there/billing.pem") == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert "verify" not in ca("certs", "show", "there/billing.csr").stdout
        openssl("verify", "-CAfile", "certs/ca.pem", "-purpose", "sslclient", "there/billing.pem")

    @pytest.mark.parametrize("names", [("other.example",), ("a.example", "b.example")])
    def test_only_the_names_that_are_expected(self, ca: Run, names: tuple[str, ...]) -> None:
        ca("certs", "request", "server", *names, "--as", "new")
        result = ca("certs", "sign", "certs/new.csr", "--name", "a.example", status=1)
        assert "as well, which was not expected" in result.stderr
        assert not Path("certs/new.pem").exists()
        ca("certs", "sign", "certs/new.csr", *(each for name in names for each in ("--name", name)))

    def test_of_openssl(self, ca: Run) -> None:
        """Nothing but names and key is taken on its word."""
        Path("req.cnf").write_text(
            "[req]\ndistinguished_name=dn\nreq_extensions=ext\nprompt=no\n[dn]\nCN=whoever\n"
            "[ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nsubjectAltName=DNS:evil.example,IP:192.0.2.1\n"
        )
        openssl(
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "evil.key",
            "-out",
            "evil.csr",
            "-config",
            "req.cnf",
        )
        assert "give --profile" in ca("certs", "sign", "evil.csr", status=1).stderr
        ca("certs", "sign", "evil.csr", "--profile", "server")
        made = certificate("certs/evil.pem")
        assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert names_of(made) == ("dns:evil.example", "ip:192.0.2.1")
        assert made.subject.rfc4514_string() == "CN=evil.example"
        assert uses("certs/evil.pem") == [ExtendedKeyUsageOID.SERVER_AUTH]

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (("-newkey", "rsa:1024", "-addext", "subjectAltName=DNS:a.example"), "too weak"),
            (("-newkey", "rsa:2048"), "no subject alternative names"),
            (("-newkey", "rsa:2048", "-addext", "subjectAltName=DNS:a b"), "DNS name"),
            (("-newkey", "rsa:2048", "-addext", "subjectAltName=dirName:dn"), "names"),
        ],
    )
    def test_refused(self, ca: Run, arguments: tuple[str, ...], why: str) -> None:
        Path("req.cnf").write_text("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=whoever\n")
        openssl("req", "-new", "-nodes", "-keyout", "x.key", "-out", "x.csr", "-config", "req.cnf", *arguments)
        assert why in ca("certs", "sign", "x.csr", "--profile", "client", status=1).stderr

    def test_a_signature_of_another_key(self, ca: Run) -> None:
        ca("certs", "request", "client", "a.example", "--as", "a")
        asked = x509.load_pem_x509_csr(Path("certs/a.csr").read_bytes())
        from cryptography.hazmat.primitives.serialization import Encoding

        der = bytearray(asked.public_bytes(Encoding.DER))
        der[-1] ^= 1
        import base64

        text = base64.encodebytes(bytes(der)).decode()
        Path("bad.csr").write_text(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n")
        assert "may not hold it" in ca("certs", "sign", "bad.csr", status=1).stderr

    def test_nothing_is_overwritten(self, ca: Run) -> None:
        assert "already there" in ca("certs", "request", "client", "a.example", status=1).stderr
        ca("certs", "request", "client", "a.example", "--as", "server", "--dir", "x")
        assert "already there" in ca("certs", "sign", "x/server.csr", status=1).stderr
        assert "no certificate signing request" in ca("certs", "sign", "certs/ca.pem", "--as", "b", status=1).stderr


class TestRenew:
    def test_names_uses_and_modes_stay(self, ca: Run) -> None:
        before, key = certificate("certs/server.pem"), Path("certs/server.key").read_bytes()
        os.chmod("certs/server.pem", 0o640)
        os.chmod("certs/server.key", 0o400)
        output = ca("certs", "renew", "server", "--days", "30").stdout
        after = certificate("certs/server.pem")
        assert names_of(after) == names_of(before)
        assert after.subject == before.subject
        assert uses("certs/server.pem") == [ExtendedKeyUsageOID.SERVER_AUTH]
        assert after.public_key() != before.public_key()
        assert (mode("certs/server.pem"), mode("certs/server.key")) == (0o640, 0o400)
        Credentials.from_files(cert="certs/server.pem", key="certs/server.key", ca="certs/ca.pem")
        kept = sorted(name for name in os.listdir("certs") if name.startswith("server.key.2"))
        assert [Path("certs", name).read_bytes() for name in kept] == [key]
        assert mode(f"certs/{kept[0]}") == 0o400
        assert f"kept certs/{kept[0]}" in output

    def test_keep_key(self, ca: Run) -> None:
        key = Path("certs/client.key").read_bytes()
        before = certificate("certs/client.pem")
        ca("certs", "renew", "certs/client.pem", "--keep-key")
        assert Path("certs/client.key").read_bytes() == key
        assert certificate("certs/client.pem").serial_number != before.serial_number
        os.rename("certs/server.key", "certs/client.key")
        assert "another certificate" in ca("certs", "renew", "client", "--keep-key", status=1).stderr

    def test_all_that_expire(self, ca: Run) -> None:
        ca("certs", "issue", "client", "soon.example", "--as", "soon", "--days", "3")
        before = certificate("certs/client.pem")
        output = ca("certs", "renew", "--all", "--within", "7").stdout
        assert "soon.pem" in output
        assert certificate("certs/client.pem") == before
        assert certificate("certs/soon.pem").not_valid_after_utc > datetime.now(UTC) + timedelta(days=80)
        assert "nothing to renew" in ca("certs", "renew", "--all", "--within", "7").stdout

    def test_usage(self, ca: Run) -> None:
        ca("certs", "renew", status=2)
        ca("certs", "renew", "server", "--all", status=2)
        assert "the certificate of a CA" in ca("certs", "renew", "certs/ca.pem", status=1).stderr
        assert "cannot be read" in ca("certs", "renew", "nobody", status=1).stderr
        os.rename("certs/server.pem", "elsewhere.pem")
        os.symlink("../elsewhere.pem", "certs/server.pem")
        assert "symbolic link" in ca("certs", "renew", "server", status=1).stderr
        os.unlink("certs/ca.key")
        assert "the CA's key is not here" in ca("certs", "renew", "client", status=1).stderr

    def test_another_ca_is_told(self, ca: Run) -> None:
        ca("certs", "init", "--dir", "new", "--name", "new CA")
        assert "The old one was from CN=Sealwire CA" in ca("certs", "renew", "certs/client.pem", "--dir", "new").stdout

    def test_of_openssl_with_an_rsa_ca(self, run: Run) -> None:
        """As easy-rsa and mkcert make them: RSA, no key identifiers, several uses, a critical name."""
        os.mkdir("certs", 0o700)
        Path("x.cnf").write_text(
            "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nO=mkcert development CA\nCN=old CA\n"
            "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
            "[leaf]\nextendedKeyUsage=serverAuth,emailProtection\nsubjectAltName=critical,DNS:old.example,IP:192.0.2.9\n"
            "keyUsage=digitalSignature,keyEncipherment\n"
        )
        openssl("req", "-x509", "-newkey", "rsa:3072", "-nodes", "-keyout", "certs/ca.key", "-out", "certs/ca.pem",
                "-config", "x.cnf", "-extensions", "ca", "-days", "30")  # fmt: skip
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "certs/old.key", "-out", "old.csr",
                "-config", "x.cnf")  # fmt: skip
        openssl("x509", "-req", "-in", "old.csr", "-CA", "certs/ca.pem", "-CAkey", "certs/ca.key",
                "-out", "certs/old.pem", "-days", "5", "-extfile", "x.cnf", "-extensions", "leaf",
                "-set_serial", "17")  # fmt: skip
        for key in ("certs/ca.key", "certs/old.key"):
            os.chmod(key, 0o600)
        before = certificate("certs/old.pem")
        run("certs", "renew", "old", "--days", "20")
        after = certificate("certs/old.pem")
        assert names_of(after) == names_of(before) == ("dns:old.example", "ip:192.0.2.9")
        assert uses("certs/old.pem") == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
        key = load_pem_private_key(Path("certs/old.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.key_size == 2048
        openssl("verify", "-x509_strict", "-CAfile", "certs/ca.pem", "certs/old.pem")
        Credentials.from_files(cert="certs/old.pem", key="certs/old.key", ca="certs/ca.pem")
        run("certs", "revoke", "old")
        run("certs", "revoke", "11")
        assert "revoked" in run("certs", "show", "certs/crl.pem").stdout
        crl = x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes())
        assert {each.serial_number for each in crl} == {after.serial_number, 17}


class TestRevocation:
    def revoked(self) -> dict[int, datetime]:
        crl = x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes())
        return {each.serial_number: each.revocation_date_utc for each in crl}

    def number(self) -> int:
        crl = x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes())
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def test_revoked(self, ca: Run) -> None:
        output = ca("certs", "revoke", "client", "--reason", "keyCompromise").stdout
        serial = certificate("certs/client.pem").serial_number
        assert list(self.revoked()) == [serial]
        assert "list number 1, 1 revoked" in output
        assert mode("certs/crl.pem") == 0o644
        Path("both.pem").write_bytes(Path("certs/ca.pem").read_bytes() + Path("certs/crl.pem").read_bytes())
        openssl("verify", "-crl_check", "-CAfile", "both.pem", "certs/server.pem")
        done = subprocess.run(
            ["openssl", "verify", "-crl_check", "-CAfile", "both.pem", "certs/client.pem"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "certificate revoked" in done.stdout + done.stderr
        assert "Key Compromise" in openssl("crl", "-in", "certs/crl.pem", "-noout", "-text")

    def test_again_and_by_number(self, ca: Run) -> None:
        ca("certs", "revoke", "client")
        first = self.revoked()
        ca("certs", "revoke", "client", "certs/server.pem", "0a1b")
        assert self.number() == 2
        serials = {certificate(f"certs/{name}.pem").serial_number for name in ("client", "server")}
        assert self.revoked().keys() == serials | {0x0A1B}
        assert first.items() <= self.revoked().items()
        ca("certs", "crl", "--days", "3")
        assert (self.number(), len(self.revoked())) == (3, 3)
        assert "2 more" not in ca("certs", "show", "certs/crl.pem").stdout

    def test_of_another_ca(self, ca: Run) -> None:
        ca("certs", "init", "--dir", "other", "--client", "client.example")
        assert "its own CA has to" in ca("certs", "revoke", "other/client.pem", status=1).stderr
        assert "the CA itself" in ca("certs", "revoke", "certs/ca.pem", status=1).stderr
        assert not Path("certs/crl.pem").exists()

    def test_a_forged_list_is_not_built_upon(self, ca: Run) -> None:
        ca("certs", "crl")
        name = certificate("certs/ca.pem").subject.rfc4514_string().removeprefix("CN=")
        ca("certs", "init", "--dir", "other", "--name", name)
        ca("certs", "crl", "--dir", "other")
        os.rename("other/crl.pem", "certs/crl.pem")
        assert "not signed with this CA's key" in ca("certs", "revoke", "client", status=1).stderr
        Path("certs/crl.pem").write_text("-----END X509 CRL-----\n")
        assert "no revocation list" in ca("certs", "crl", status=1).stderr

    def test_of_two_cas(self, ca: Run) -> None:
        """Each CA writes its own, and leaves the other's alone."""
        ca("certs", "init", "--dir", "new", "--client", "client.example")
        ca("certs", "revoke", "client")
        ca("certs", "revoke", "client", "--dir", "new")
        ca("certs", "bundle", "--crl", "certs/crl.pem", "new/crl.pem", "--out", "certs/crl.pem")
        ca("certs", "crl")
        ca("certs", "bundle", "certs/ca.pem", "new/ca.pem", "--out", "both.pem")
        loaded = Credentials.from_files(ca="both.pem", crl="certs/crl.pem").current
        assert len(loaded.lists) == 2
        assert sum(map(len, loaded.revoked.values())) == 2


class TestBundle:
    def test_old_and_new(self, ca: Run) -> None:
        ca("certs", "init", "--dir", "new")
        output = ca("certs", "bundle", "certs/ca.pem", "new/ca.pem", "certs/ca.pem", "--out", "certs/ca.pem").stdout
        assert "2 trust anchors" in output
        assert "then renew their certificates" in output
        ca("certs", "issue", "client", "a.example", "--as", "a")
        old = next(name for name in os.listdir("certs") if name.startswith("ca.pem.2"))
        ca("certs", "bundle", "certs/ca.pem", "--remove", f"certs/{old}", "--out", "certs/ca.pem")
        assert certificate("certs/ca.pem") == certificate("new/ca.pem")

    def test_refused(self, ca: Run) -> None:
        assert "is no CA's certificate" in ca("certs", "bundle", "certs/server.pem", "--out", "x.pem", status=1).stderr
        digest = json.loads(ca("certs", "show", "--json", "certs/ca.pem").stdout)[0]["sha256"]
        result = ca("certs", "bundle", "certs/ca.pem", "--remove", f"sha256:{digest}", "--out", "x.pem", status=1)
        assert "would let nobody in" in result.stderr
        assert "no certificate" in ca("certs", "bundle", "certs/ca.key", "--out", "x.pem", status=1).stderr
        assert "no revocation list" in ca("certs", "bundle", "--crl", "certs/ca.pem", "--out", "x.pem", status=1).stderr
        ca("certs", "bundle", "--out", "x.pem", status=2)
        assert not Path("x.pem").exists()


class TestShow:
    def test_everything(self, ca: Run) -> None:
        ca("certs", "revoke", "client")
        assert "dns:localhost" in ca("certs", "show", "certs/server.pem").stdout
        key = ca("certs", "show", "certs/server.key").stdout
        assert "that of certs/server.pem" in key
        assert "secp256r1" in key
        os.rename("certs/client.key", "certs/server.key")
        assert "NOT that of" in ca("certs", "show", "certs/server.key").stdout
        shown = json.loads(ca("certs", "show", "--json", "certs/crl.pem").stdout)
        assert shown[0]["number"] == 1
        for path in ("certs/server.key", "certs/ca.key"):
            assert "PRIVATE" not in ca("certs", "show", path).stdout

    def test_nothing(self, ca: Run) -> None:
        Path("x.pem").write_text("nothing")
        assert "nothing in PEM form" in ca("certs", "show", "x.pem", status=1).stderr
        Path("x.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        assert "broken" in ca("certs", "show", "x.pem", status=1).stderr

    def test_an_encrypted_key(self, ca: Run) -> None:
        openssl("pkey", "-in", "certs/server.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
        assert "encrypted" in ca("certs", "show", "locked.key").stdout
        key = ec.generate_private_key(ec.SECP384R1())
        assert key.key_size == 384


class TestExpiring:
    def test_exit_status(self, ca: Run) -> None:
        assert "nothing expires within 14 days" in ca("certs", "expiring").stdout
        ca("certs", "issue", "client", "a.example", "--as", "a", "--days", "5")
        output = ca("certs", "expiring", status=1).stdout
        assert "a.pem" in output
        assert "server.pem" not in output
        ca("certs", "expiring", "--within", "2")
        ca("certs", "crl", "--days", "1")
        assert "revocation list" in ca("certs", "expiring", "--within", "2", status=1).stdout
        found = json.loads(ca("certs", "expiring", "--within", "90", "--json", status=1).stdout)
        assert {each["file"] for each in found} >= {"a.pem", "server.pem", "certs/crl.pem"}
        Path("certs/b.pem").write_text("garbage")
        assert "broken" in ca("certs", "expiring", status=2).stdout

    def test_files(self, ca: Run) -> None:
        ca("certs", "expiring", "certs/server.pem", "certs/ca.pem")
        ca("certs", "expiring", "certs/server.pem", "--within", "100", status=1)
        ca("certs", "expiring", "--dir", "nowhere", status=1)

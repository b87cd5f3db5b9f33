"""`sealwire certs renew`, of certificates of other tools, too."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.cli.inventory import names_of
from sealwire.trust.credentials import Credentials
from support.commands import Run, certificate, mode, openssl, uses


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
        ca("certs", "issue", "client", "soon.example", "--as", "soon", "--days", "7")
        before = certificate("certs/client.pem")
        output = ca("certs", "renew", "--all", "--within", "8", "--days", "90").stdout
        assert "soon.pem" in output
        assert certificate("certs/client.pem") == before
        assert certificate("certs/soon.pem").not_valid_after_utc > datetime.now(UTC) + timedelta(days=80)
        assert "nothing to renew" in ca("certs", "renew", "--all", "--within", "7").stdout

    def test_usage(self, ca: Run) -> None:
        ca("certs", "renew", status=64)
        ca("certs", "renew", "server", "--all", status=64)
        assert "the certificate of a CA" in ca("certs", "renew", "certs/ca.pem", status=1).stderr
        assert "cannot be read" in ca("certs", "renew", "nobody", status=1).stderr
        os.rename("certs/server.pem", "elsewhere.pem")
        os.symlink("../elsewhere.pem", "certs/server.pem")
        assert "symbolic link" in ca("certs", "renew", "server", status=1).stderr
        os.unlink("certs/ca.key")
        assert "the CA's key is not here" in ca("certs", "renew", "client", status=1).stderr

    def test_another_ca_is_reported(self, ca: Run) -> None:
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
        run("certs", "revoke", "11", "--unlisted")
        assert "revoked" in run("certs", "show", "certs/crl.pem").stdout
        crl = x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes())
        assert {each.serial_number for each in crl} == {after.serial_number, 17}

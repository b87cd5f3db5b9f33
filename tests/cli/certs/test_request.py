"""`sealwire certs request` and `sign`, with requests of other tools, too."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.cli.inventory import names_of
from sealwire.trust.credentials import Credentials
from support.commands import Run, certificate, mode, openssl, uses


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
        assert "the request also asks for " in result.stderr
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

        text = base64.encodebytes(bytes(der)).decode()
        Path("bad.csr").write_text(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n")
        assert "may not hold it" in ca("certs", "sign", "bad.csr", status=1).stderr

    def test_nothing_is_overwritten(self, ca: Run) -> None:
        ca("certs", "request", "client", "a.example", "--as", "wish")
        assert "already there" in ca("certs", "request", "client", "a.example", "--as", "wish", status=1).stderr
        ca("certs", "request", "client", "a.example", "--as", "server", "--dir", "x")
        assert "already there" in ca("certs", "sign", "x/server.csr", status=1).stderr
        assert "no certificate signing request" in ca("certs", "sign", "certs/ca.pem", "--as", "b", status=1).stderr

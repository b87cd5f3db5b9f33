"""`sealwire certs revoke` and `crl`."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from sealwire.trust.credentials import Credentials
from support.commands import Run, certificate, mode, openssl


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
        ca("certs", "revoke", "client", "certs/server.pem", "0a1b", "--unlisted")
        assert self.number() == 2
        serials = {certificate(f"certs/{name}.pem").serial_number for name in ("client", "server")}
        assert self.revoked().keys() == serials | {0x0A1B}
        assert first.items() <= self.revoked().items()
        ca("certs", "crl", "--days", "3")
        assert (self.number(), len(self.revoked())) == (3, 3)
        assert "2 more" not in ca("certs", "show", "certs/crl.pem").stdout

    @pytest.mark.parametrize("wrong", ["cafe", "0xcafe", "7", "nobody", "other.example", "dns:other.example", ""])
    def test_of_what_is_not_there(self, ca: Run, wrong: str) -> None:
        assert f"{wrong!r} is not a certificate's file, name or serial" in ca("certs", "revoke", wrong, status=1).stderr
        assert not Path("certs/crl.pem").exists()

    @pytest.mark.parametrize("name", ["client.example", "dns:client.example", "the serial number"])
    def test_by_what_the_list_shows(self, ca: Run, name: str) -> None:
        serial = certificate("certs/client.pem").serial_number
        ca("certs", "revoke", f"{serial:x}" if name == "the serial number" else name)
        assert list(self.revoked()) == [serial]

    def test_of_another_ca(self, ca: Run) -> None:
        ca("certs", "init", "--dir", "other", "--client", "client.example")
        assert "only the CA that issued it can revoke it" in ca("certs", "revoke", "other/client.pem", status=1).stderr
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
        assert all(loaded.revocations.include(certificate(f"{place}/client.pem")) for place in ("certs", "new"))
        assert not loaded.revocations.include(certificate("certs/server.pem"))

    def test_the_newest_of_two_is_continued(self, ca: Run) -> None:
        ca("certs", "crl")
        old = Path("certs/crl.pem").read_bytes()
        ca("certs", "revoke", "client")
        Path("certs/crl.pem").write_bytes(old + Path("certs/crl.pem").read_bytes())
        ca("certs", "crl")
        assert Path("certs/crl.pem").read_bytes().count(b"BEGIN") == 1
        assert (self.number(), len(self.revoked())) == (3, 1)

from __future__ import annotations

import pickle
import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sealwire.errors import ConfigurationError
from sealwire.trust.certificates import Certificates, is_root
from sealwire.trust.credentials import Credentials
from support.certificates import (
    CLIENT,
    DAY,
    SERVER,
    Files,
    Made,
    make,
    make_ca,
    make_crl,
    raw_names,
    refusal,
    version_1,
)

HOUR = timedelta(hours=1)


def pem(label: str) -> bytes:
    """The form, with nothing in it that means anything."""
    return f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()


class TestContent:
    def test_chain_comes_along_in_order(self, files: Files, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        leaf = make("client.example", issuer=between)
        credentials = files.credentials(leaf, ca, chain=[between])
        assert credentials.current.chain == leaf.pem + between.pem
        assert credentials.leaf == leaf.der

    def test_a_root_in_the_chain_is_not_shown(self, files: Files, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        leaf = make("client.example", issuer=between)
        credentials = files.credentials(leaf, ca, chain=[between, ca])
        assert credentials.current.chain == leaf.pem + between.pem
        own = make("client.example")
        assert files.credentials(own, own, chain=[ca]).current.chain == own.pem

    def test_several_anchors(self, files: Files, ca: Made) -> None:
        other = make_ca("other")
        assert files.credentials(None, ca, other, ca).current.anchors == ca.pem + other.pem + ca.pem

    def test_nothing_else_in_the_files_is_kept(self, files: Files, ca: Made, leaf: Made) -> None:
        comment = "# Größe \N{SNOWMAN}\r\n".encode()
        credentials = Credentials.from_files(
            cert=files.write(comment + leaf.key_pem + leaf.pem.replace(b"\n", b"\r\n") + comment),
            key=files.write(comment + leaf.pem + leaf.key_pem),
            ca=files.write(comment + leaf.key_pem + make_crl(ca) + ca.pem),
        )
        assert credentials.current.chain == leaf.pem
        assert credentials.current.anchors == ca.pem

    def test_a_certificate_among_revocation_lists_is_not_an_anchor(self, files: Files, ca: Made) -> None:
        # OpenSSL would make it one, and revocation lists come over ways that nobody protects.
        crl = make_crl(ca)
        credentials = files.credentials(None, ca, crl=make_ca("evil").pem + crl + make_ca("evil, too").pem)
        assert credentials.current.crl == crl

    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl"])
    @pytest.mark.parametrize(
        "content",
        [
            b"", b"\xff\xfe\0\0", b"hello", b"\0" * 100,
            b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            pem("CERTIFICATE"),
            pem("PRIVATE KEY"),
            pem("X509 CRL"),
            b"-----END X509 CRL-----\n",
        ],
    )  # fmt: skip
    def test_rubbish(self, paths: dict[str, Any], files: Files, option: str, content: bytes) -> None:
        path = files.write(content)
        message = refusal(**paths | {option: path})
        assert message.startswith(f"{path}: no ")
        assert "in PEM form" in message

    def test_der_is_not_pem(self, paths: dict[str, Any], files: Files, ca: Made) -> None:
        assert "PEM form" in refusal(**paths | {"ca": files.write(ca.der)})

    def test_one_bad_certificate_among_good_ones(self, paths: dict[str, Any], files: Files, ca: Made) -> None:
        broken = ca.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        assert "PEM form" in refusal(**paths | {"ca": files.write(broken)})


class TestKey:
    def test_another_key(self, paths: dict[str, Any], files: Files) -> None:
        paths["key"] = files.write(make().key_pem)
        assert refusal(**paths).startswith(f"{paths['key']}: this is not the private key of the first certificate in ")

    def test_the_leaf_must_come_first(self, paths: dict[str, Any], files: Files, ca: Made, leaf: Made) -> None:
        assert "must come first" in refusal(**paths | {"cert": files.write(ca.pem + leaf.pem)})

    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_encrypted(self, paths: dict[str, Any], files: Files, leaf: Made, form: PrivateFormat) -> None:
        pem = leaf.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x"))
        paths["key"] = files.write(pem)
        assert refusal(**paths) == (
            f"{paths['key']}: encrypted; decrypt it with `openssl pkey -in {paths['key']} -out {paths['key']}.pem`"
        )

    def test_of_a_kind_that_signs_nothing(self, paths: dict[str, Any], files: Files) -> None:
        key = x25519.X25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert "not the private key" in refusal(**paths | {"key": files.write(pem)})

    def test_rsa(self, files: Files, ca: Made) -> None:
        own = make("a.example", issuer=ca, key=rsa.generate_private_key(65537, 2048))
        assert files.credentials(own, ca).leaf == own.der

    def test_a_key_as_openssl_writes_it(self, files: Files, ca: Made) -> None:
        text = subprocess.run(
            ["openssl", "ecparam", "-name", "prime256v1", "-genkey"], capture_output=True, check=True
        ).stdout
        assert text.startswith(b"-----BEGIN EC PARAMETERS-----")
        assert "not the private key" in refusal(
            cert=files.write(make("a.example", issuer=ca).pem), key=files.write(text), ca=files.write(ca.pem)
        )


class TestCertificate:
    def test_expired(self, files: Files, ca: Made) -> None:
        own = make("a.example", issuer=ca, start=-2 * DAY, end=-HOUR)
        with pytest.raises(ConfigurationError, match=r"\.pem: expired at .* UTC, so every peer .*; renew it"):
            files.credentials(own, ca)

    def test_not_yet_valid(self, files: Files, ca: Made) -> None:
        own = make("a.example", issuer=ca, start=HOUR)
        with pytest.raises(ConfigurationError, match=r"\.pem: not valid before .*clock"):
            files.credentials(own, ca)

    def test_names_that_cannot_be_read(self, files: Files, ca: Made) -> None:
        own = make(raw_san=raw_names((7, b"12345")), issuer=ca)
        with pytest.raises(ConfigurationError, match=r"\.pem: the first certificate has .* cannot be read"):
            files.credentials(own, ca)

    def test_public_key_that_cannot_be_read(self, files: Files, ca: Made, leaf: Made) -> None:
        der = leaf.der.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0202"))
        pem = Made(x509.load_der_x509_certificate(der), leaf.key).pem
        with pytest.raises(ConfigurationError, match="cannot be read"):
            Credentials.from_files(cert=files.write(pem), key=files.write(leaf.key_pem), ca=files.write(ca.pem))

    def test_version_1_is_a_certificate_without_names(self, files: Files, ca: Made) -> None:
        identity = files.credentials(version_1(ca), ca).identity
        assert identity is not None
        assert identity.dns == ()


class TestRevocationLists:
    def test_kept(self, files: Files, ca: Made, leaf: Made) -> None:
        one, two = make_crl(ca, leaf), make_crl(make_ca("other"))
        assert files.credentials(None, ca, crl=one + b"between\n" + two).current.crl == one + two

    def test_expired_is_called_so(self, files: Files, ca: Made) -> None:
        crl = make_crl(ca, start=-2 * DAY, end=-HOUR)
        with pytest.raises(ConfigurationError, match=r"\.pem: the revocation list expired at .*every peer"):
            files.credentials(None, ca, crl=crl)

    def test_one_expired_of_two(self, files: Files, ca: Made) -> None:
        crl = make_crl(ca) + make_crl(make_ca("other"), start=-2 * DAY, end=-HOUR)
        with pytest.raises(ConfigurationError, match="expired"):
            files.credentials(None, ca, crl=crl)

    def test_not_yet_valid_is_called_so(self, files: Files, ca: Made) -> None:
        with pytest.raises(ConfigurationError, match=r"the revocation list is not valid before .*clock"):
            files.credentials(None, ca, crl=make_crl(ca, start=HOUR))

    def test_one_broken_of_two(self, files: Files, ca: Made) -> None:
        crl = make_crl(ca) + b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
        with pytest.raises(ConfigurationError, match="no revocation list"):
            files.credentials(None, ca, crl=crl)


class TestParse:
    """Contents without files, and with others in service."""

    @staticmethod
    def parse(previous: Certificates | None = None, **contents: bytes) -> Certificates:
        return Certificates.parse(contents, {part: f"{part}.pem" for part in contents}, previous)

    def test_an_expired_leaf_in_service_keeps_out_no_other_change(self, ca: Made) -> None:
        own = make("a.example", issuer=ca, start=-2 * DAY, end=HOUR)
        before = self.parse(cert=own.pem, key=own.key_pem, ca=ca.pem)
        old = make("a.example", issuer=ca, start=-2 * DAY, end=-HOUR)
        in_service = replace(before, certificates=(old.certificate,))
        after = self.parse(in_service, cert=old.pem, key=old.key_pem, ca=ca.pem + make_ca("new").pem)
        assert len(after.authorities) == 2
        with pytest.raises(ConfigurationError, match=r"^cert\.pem: expired at"):
            self.parse(before, cert=old.pem, key=old.key_pem, ca=ca.pem)

    def test_an_expired_list_in_service_keeps_out_no_other_change(self, ca: Made) -> None:
        crl = make_crl(ca, start=-2 * DAY, end=-HOUR)
        in_service = replace(self.parse(ca=ca.pem), lists=(x509.load_pem_x509_crl(crl),))
        assert self.parse(in_service, ca=ca.pem + make_ca("new").pem, crl=crl).crl == crl
        with pytest.raises(ConfigurationError, match=r"^crl\.pem: the revocation list expired"):
            self.parse(self.parse(ca=ca.pem), ca=ca.pem, crl=crl)

    def test_expired_anchors(self, ca: Made) -> None:
        old = make_ca("old", start=-2 * DAY, end=-HOUR)
        assert len(self.parse(ca=ca.pem + old.pem).authorities) == 2
        with pytest.raises(ConfigurationError, match=r"^ca\.pem: every trust anchor has expired"):
            self.parse(ca=old.pem + make_ca("between", issuer=old).pem)

    def test_expired_anchors_in_service_keep_out_no_other_change(self, ca: Made) -> None:
        old = make_ca("old", start=-2 * DAY, end=-HOUR)
        in_service = replace(self.parse(ca=ca.pem), authorities=(old.certificate,))
        crl = make_crl(old)
        assert self.parse(in_service, ca=old.pem, crl=crl).crl == crl
        with pytest.raises(ConfigurationError, match=r"^ca\.pem: every trust anchor has expired"):
            self.parse(in_service, ca=old.pem + old.pem)

    def test_anchors_of_tomorrow(self, ca: Made) -> None:
        new, old = make_ca("new", start=HOUR), make_ca("old", start=-2 * DAY, end=-HOUR)
        assert len(self.parse(ca=ca.pem + new.pem).authorities) == 2
        with pytest.raises(ConfigurationError, match=r"^ca\.pem: no trust anchor is valid before .* keep the present"):
            self.parse(ca=old.pem + new.pem)

    @pytest.mark.parametrize("kind", ["intermediate", "leaf"])
    def test_no_root_among_the_anchors(self, ca: Made, leaf: Made, kind: str) -> None:
        above = make_ca("between", issuer=ca) if kind == "intermediate" else leaf
        assert len(self.parse(ca=above.pem + ca.pem).authorities) == 2
        with pytest.raises(ConfigurationError, match=r"^ca\.pem: has no root CA.*certificate of the CA.*\(CN=CA, or"):
            self.parse(ca=above.pem)

    def test_the_own_leaf_on_a_list(self, ca: Made, leaf: Made) -> None:
        crl = make_crl(ca, leaf)
        assert self.parse(cert=leaf.pem, key=leaf.key_pem, ca=ca.pem, crl=crl).revokes_itself
        assert not self.parse(ca=ca.pem, crl=crl).revokes_itself

    def test_a_list_with_a_ca_above_revokes_not_the_leaf_itself(self, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own = make("a.example", issuer=between)
        made = self.parse(cert=own.pem + between.pem, key=own.key_pem, ca=ca.pem, crl=make_crl(ca, between))
        assert not made.revokes_itself
        assert made.known_authorities == (ca.certificate, between.certificate)

    def test_a_list_of_a_ca_in_the_own_chain_must_be_its_own(self, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own = make("a.example", issuer=between)
        contents = {"cert": own.pem + between.pem, "key": own.key_pem, "ca": ca.pem}
        crl = make_crl(between, own)
        assert self.parse(**contents, crl=crl).revokes_itself
        with pytest.raises(ConfigurationError, match=r"^crl\.pem: .* CN=between is not signed"):
            self.parse(**contents, crl=make_crl(make_ca("between", issuer=ca)))

    def test_a_root_names_itself_and_its_own_key(self, ca: Made) -> None:
        assert is_root(ca.certificate)
        assert is_root(make_ca(identified=False).certificate)
        assert not is_root(make_ca("CA", issuer=ca).certificate)
        assert not is_root(make_ca("other", issuer=ca).certificate)
        assert not is_root(make_ca("other", issuer=ca, identified=False).certificate)
        assert is_root(make_ca("CA", issuer=ca, identified=False).certificate)  # nothing says that it is none

    def test_something_is_made_once_for_a_name(self, ca: Made) -> None:
        made = self.parse(ca=ca.pem)
        calls: list[Certificates] = []
        for _ in range(2):
            assert made.once("nothing", calls.append) is None
        assert calls == [made]
        assert made.once("another", lambda _: 2) == 2

    def test_of_two_that_make_it_at_the_same_time_both_get_the_first(self, ca: Made) -> None:
        made = self.parse(ca=ca.pem)

        def slow(certificates: Certificates) -> str:
            assert certificates.once("name", lambda _: "first") == "first"
            return "second"

        assert made.once("name", slow) == "first"

    @pytest.mark.parametrize(
        ("uses", "roles"),
        [
            ([SERVER], {"server"}),
            ([CLIENT], {"client"}),
            ([], {"server", "client"}),
            ([x509.ObjectIdentifier("2.5.29.37.0"), CLIENT], {"client"}),
        ],
    )
    def test_roles(self, ca: Made, uses: list[x509.ObjectIdentifier], roles: set[str]) -> None:
        own = make("a.example", issuer=ca, uses=uses)
        assert self.parse(cert=own.pem, key=own.key_pem, ca=ca.pem).roles == roles

    @pytest.mark.parametrize("use", ["2.5.29.37.0", "1.3.6.1.5.5.7.3.4"])
    def test_no_role(self, ca: Made, use: str) -> None:
        """OpenSSL does not take anyExtendedKeyUsage for either."""
        own = make("a.example", issuer=ca, uses=[x509.ObjectIdentifier(use)])
        with pytest.raises(
            ConfigurationError, match=r"^cert\.pem: .* neither for TLS servers nor .* serverAuth or clientA"
        ):
            self.parse(cert=own.pem, key=own.key_pem, ca=ca.pem)

    def test_one_line_for_a_log(self, ca: Made, leaf: Made) -> None:
        made = self.parse(cert=leaf.pem, key=leaf.key_pem, ca=ca.pem + ca.pem, crl=make_crl(ca))
        assert re.fullmatch(
            r"dns:client\.example \(sha256:\w{16}…\), valid until \d{4}-\d\d-\d\d \d\d:\d\d UTC; "
            r"2 trust anchors, 1 revocation list",
            str(made),
        )
        assert "PRIVATE" not in repr(made)
        assert str(self.parse(ca=ca.pem)) == "no certificate; 1 trust anchor"
        lists = make_crl(ca) + make_crl(make_ca("other"))
        assert str(self.parse(ca=ca.pem, crl=lists)) == "no certificate; 1 trust anchor, 2 revocation lists"

    def test_is_not_copied_out(self, ca: Made) -> None:
        with pytest.raises(TypeError, match="private key"):
            pickle.dumps(self.parse(ca=ca.pem))

    def test_host_names_are_those_that_the_identity_answers_to(self, files: Files, ca: Made) -> None:
        address = b"\x0a\0\0\1"
        dns = (b"a.example", b"UPPER.example", b"*.b.example", b"10.0.0.1", b"10.0.0.2", b"::1", b"x.7")
        own = files.loaded(make(raw_san=raw_names((7, address), *((2, name) for name in dns)), issuer=ca), ca)
        assert own.identity is not None
        assert own.host_names == {"a.example", "upper.example", "10.0.0.1"}
        assert all(own.identity.is_named(name) for name in own.host_names)
        assert files.loaded(None, ca).host_names == set()

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import traceback
from datetime import timedelta
from pathlib import Path
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
from sealwire.tls.credentials import Credentials
from support.certificates import DAY, Files, Made, make, make_ca, make_crl, raw_names, version_1

HOUR = timedelta(hours=1)


def pem(label: str) -> bytes:
    """The form, with nothing in it that means anything."""
    return f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()


@pytest.fixture(scope="module")
def ca() -> Made:
    return make_ca()


@pytest.fixture(scope="module")
def leaf(ca: Made) -> Made:
    return make("client.example", issuer=ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def paths(files: Files, ca: Made, leaf: Made) -> dict[str, Any]:
    return {"cert": files.write(leaf.pem), "key": files.write(leaf.key_pem), "ca": files.write(ca.pem)}


def refusal(**paths: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Credentials.from_files(**paths)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.__context__)
    assert "PRIVATE KEY" not in shown
    return str(caught.value)


class TestReading:
    def test_leaf_and_identity(self, paths: dict[str, Any], ca: Made, leaf: Made) -> None:
        credentials = Credentials.from_files(**paths)
        assert credentials.leaf == leaf.der
        assert credentials.identity is not None
        assert credentials.identity.dns == ("client.example",)
        assert (credentials.current.chain, credentials.current.anchors) == (leaf.pem, ca.pem)
        assert credentials.current.crl is None

    def test_a_client_without_a_certificate(self, paths: dict[str, Any]) -> None:
        credentials = Credentials.from_files(ca=paths["ca"])
        assert (credentials.current.chain, credentials.current.key, credentials.leaf, credentials.identity) == (
            None,
        ) * 4
        assert repr(credentials) == "<Credentials of nobody, key redacted>"

    @pytest.mark.parametrize("missing", ["cert", "key"])
    def test_certificate_and_key_belong_together(self, paths: dict[str, Any], missing: str) -> None:
        del paths[missing]
        assert "belong together" in refusal(**paths)

    def test_chain_comes_along_in_order(self, files: Files, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        leaf = make("client.example", issuer=between)
        credentials = files.credentials(leaf, ca, chain=[between])
        assert credentials.current.chain == leaf.pem + between.pem
        assert credentials.leaf == leaf.der

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

    def test_a_certificate_among_revocation_lists_is_no_anchor(self, files: Files, ca: Made) -> None:
        # OpenSSL would make it one, and revocation lists come over ways that nobody protects.
        crl = make_crl(ca)
        credentials = files.credentials(None, ca, crl=make_ca("evil").pem + crl + make_ca("evil, too").pem)
        assert credentials.current.crl == crl

    def test_a_key_as_openssl_writes_it(self, files: Files, ca: Made) -> None:
        text = subprocess.run(
            ["openssl", "ecparam", "-name", "prime256v1", "-genkey"], capture_output=True, check=True
        ).stdout
        assert text.startswith(b"-----BEGIN EC PARAMETERS-----")
        assert "not the private key" in refusal(
            cert=files.write(make("a.example", issuer=ca).pem), key=files.write(text), ca=files.write(ca.pem)
        )

    def test_paths_can_be_str(self, paths: dict[str, Any]) -> None:
        assert Credentials.from_files(**{name: str(path) for name, path in paths.items()}).leaf is not None

    def test_later_changes_of_the_files_do_not_matter(self, paths: dict[str, Any], leaf: Made) -> None:
        credentials = Credentials.from_files(**paths)
        for path in paths.values():
            path.write_bytes(b"")
        assert (credentials.current.chain, credentials.current.key) == (leaf.pem, leaf.key_pem)


class TestSecret:
    def test_repr(self, paths: dict[str, Any], leaf: Made) -> None:
        credentials = Credentials.from_files(**paths)
        assert str(credentials).startswith("<Credentials of dns:client.example (sha256:")
        assert leaf.key_pem.decode().splitlines()[1] not in repr(credentials)

    def test_is_not_copied_out(self, paths: dict[str, Any]) -> None:
        credentials = Credentials.from_files(**paths)
        for action in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="private key"):
                action(credentials)

    def test_is_immutable(self, paths: dict[str, Any]) -> None:
        with pytest.raises(AttributeError):
            Credentials.from_files(**paths).current.key = b""  # type: ignore[misc]  # what the test is about


class TestFiles:
    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl"])
    def test_missing(self, paths: dict[str, Any], tmp_path: Path, option: str) -> None:
        paths[option] = tmp_path / "missing"
        assert refusal(**paths) == f"{tmp_path}/missing: cannot be read (No such file or directory)"

    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl"])
    def test_directory(self, paths: dict[str, Any], tmp_path: Path, option: str) -> None:
        before = len(os.listdir("/proc/self/fd"))
        assert "cannot be read (Is a directory)" in refusal(**paths | {option: tmp_path})
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize("writer", [False, True])
    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl"])
    def test_fifo_does_not_stop_us(self, paths: dict[str, Any], tmp_path: Path, option: str, writer: bool) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        other_end = os.open(fifo, os.O_RDWR) if writer else None
        try:
            assert "could be read" in refusal(**paths | {option: fifo})
        finally:
            if other_end is not None:
                os.close(other_end)

    @pytest.mark.parametrize("option", ["cert", "key", "ca", "crl"])
    def test_endless(self, paths: dict[str, Any], option: str) -> None:
        assert refusal(**paths | {option: "/dev/zero"}) == "/dev/zero: larger than 4194304 bytes"

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_no_path_at_all(self, paths: dict[str, Any], name: str) -> None:
        assert repr(name) in refusal(**paths | {"ca": name})

    def test_a_link_is_followed(self, paths: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(paths["ca"])
        assert Credentials.from_files(**paths | {"ca": tmp_path / "link"}).current.anchors

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

    def test_der_is_no_pem(self, paths: dict[str, Any], files: Files, ca: Made) -> None:
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
        assert refusal(**paths) == f"{paths['key']}: the private key is encrypted; store it unencrypted with mode 0600"

    def test_of_a_kind_that_signs_nothing(self, paths: dict[str, Any], files: Files) -> None:
        key = x25519.X25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert "not the private key" in refusal(**paths | {"key": files.write(pem)})

    def test_rsa(self, files: Files, ca: Made) -> None:
        own = make("a.example", issuer=ca, key=rsa.generate_private_key(65537, 2048))
        assert files.credentials(own, ca).leaf == own.der


class TestCertificate:
    def test_expired(self, files: Files, ca: Made) -> None:
        own = make("a.example", issuer=ca, start=-2 * DAY, end=-HOUR)
        with pytest.raises(ConfigurationError, match=r"\.pem: expired at .*issue a new certificate"):
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

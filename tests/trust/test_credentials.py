from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.pki.pem import read_crls
from sealwire.testing import Throwaway
from sealwire.trust import certificates
from sealwire.trust.certificates import Certificates
from sealwire.trust.credentials import Credentials
from support.certificates import Files, Made, make, make_ca, make_crl, refusal


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
        assert repr(credentials) == "<Credentials of an anonymous client, key redacted>"

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o660])
    def test_a_private_key_that_others_can_read(self, paths: dict[str, Any], mode: int) -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
            key = Path(name) / "server.key"
            key.write_bytes(Path(paths["key"]).read_bytes())
            key.chmod(mode)
            os.chmod(name, 0o755)
            message = refusal(**paths | {"key": key})
            assert message.startswith(
                f"{key}: mode {mode:04o} lets other users read the private key; run `chmod 600 {key}`"
            )
            assert Credentials.from_files(**paths, allow_readable_key=True).leaf
            assert Credentials.from_files(**paths | {"key": key}, allow_readable_key=True).leaf
            key.chmod(0o600)
            credentials = Credentials.from_files(**paths | {"key": key})
            key.chmod(mode)
            assert not credentials.reload()
            key.chmod(mode)
            os.chmod(name, 0o700)
            assert credentials.reload()

    @pytest.mark.parametrize("meant", [True, False])
    def test_a_private_key_for_a_group(
        self, paths: dict[str, Any], monkeypatch: pytest.MonkeyPatch, meant: bool
    ) -> None:
        """Of root's, for a process of root's: it must be said that the group is meant."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name, monkeypatch.context() as patch:
            os.chmod(name, 0o755)
            paths["key"] = Path(shutil.copy(paths["key"], name))
            paths["key"].chmod(0o640)
            status = paths["key"].stat()
            of_root = os.stat_result((*status[:4], 0, 2000, *status[6:10]))
            patch.setattr(os, "fstat", lambda _: of_root)
            patch.setattr(os, "geteuid", lambda: 0)
            patch.setattr(os, "getgroups", lambda: [2000])
            if meant:
                assert Credentials.from_files(**paths, keyring_group=True).leaf
            else:
                assert "or set keyring_group" in refusal(**paths)

    @pytest.mark.parametrize("missing", ["cert", "key"])
    def test_certificate_and_key_belong_together(self, paths: dict[str, Any], missing: str) -> None:
        del paths[missing]
        assert "belong together" in refusal(**paths)

    @pytest.mark.parametrize(("given", "named"), [(["cert", "key"], "cert and key"), (["crl"], "crl")])
    def test_trust_anchors_are_missing(self, paths: dict[str, Any], given: list[str], named: str) -> None:
        paths["crl"] = paths["ca"]
        assert refusal(**{part: paths[part] for part in given}) == (
            "ca: name the file with the certificates of the CA that issues the peers' certificates, or leave out "
            f"{named} on a Unix socket, where there are no certificates"
        )

    def test_without_any_file(self) -> None:
        """They are those of a Unix socket, and no others."""
        credentials = Credentials.from_files()
        status = credentials.status()
        assert (credentials.leaf, status.identity) == (None, None)
        assert (status.authorities, status.lists) == ((), ())
        assert credentials.current.paths == status.files == {}
        assert (status.refusal, status.chain_problem, status.revoked) == (None, None, False)
        assert status.chain_complete
        for role in ("server", "client"):
            with pytest.raises(ConfigurationError, match=r"^ca is missing; name the file with the certificates"):
                credentials.check_role(role)
        with pytest.raises(ConfigurationError, match=r"^ca is missing"):
            assert credentials.current.anchors

    def test_paths_can_be_str(self, paths: dict[str, Any]) -> None:
        assert Credentials.from_files(**{name: str(path) for name, path in paths.items()}).leaf is not None

    def test_later_changes_of_the_files_do_not_matter(self, paths: dict[str, Any], leaf: Made) -> None:
        credentials = Credentials.from_files(**paths)
        for path in paths.values():
            path.write_bytes(b"")
        assert (credentials.current.chain, credentials.current.key) == (leaf.pem, leaf.key_pem)

    @pytest.mark.parametrize(
        ("other", "same"),
        [
            ({}, True),
            ({"allow_readable_key": True}, False),
            ({"keyring_group": False}, False),
            ({"max_crl": 7}, False),
            ({"files": {}}, False),
        ],
    )
    def test_what_it_is_made_of(self, paths: dict[str, Any], other: dict[str, Any], same: bool) -> None:
        options: dict[str, Any] = {"allow_readable_key": False, "keyring_group": True, "max_crl": 8}
        credentials = Credentials.from_files(**paths, **options)
        assert credentials.is_made_of(**{"files": paths} | options | other) is same


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
            Credentials.from_files(**paths).current.key = b""


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
        limit, remedy = (
            (32, "raise the limit max_crl if the list is right") if option == "crl" else (4, "give the right file")
        )
        assert refusal(**paths | {option: "/dev/zero"}) == f"/dev/zero: larger than {limit << 20} bytes; {remedy}"

    def test_a_long_revocation_list(self, paths: dict[str, Any], files: Files, ca: Made, leaf: Made) -> None:
        large = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(5 << 20))
        paths["crl"] = files.write(make_crl(ca, leaf, extensions=[(large, False)]))
        assert Credentials.from_files(**paths).current.revokes_itself
        assert "the limit max_crl" in refusal(**paths, max_crl=5 << 20)

    def test_what_was_made_of_the_last_ones_is_made_of_new_ones_too(self, paths: dict[str, Any], ca: Made) -> None:
        """Before a connection needs it: on an event loop it would wait for a long list."""
        credentials = Credentials.from_files(**paths)
        made: list[Certificates] = []
        credentials.current.once("context", made.append)
        paths["ca"].write_bytes(ca.pem + make_ca("new").pem)
        assert credentials.reload()
        assert made[1:] == [credentials.current]
        credentials.current.once("context", lambda _: pytest.fail("it is there"))

    def test_what_cannot_be_made_of_new_ones_does_not_keep_them_out(self, paths: dict[str, Any], ca: Made) -> None:
        credentials = Credentials.from_files(**paths)
        first = credentials.current

        def make_of_the_first(certificates: Certificates) -> None:
            if certificates is not first:
                raise ConfigurationError("not of these")

        first.once("context", make_of_the_first)
        paths["ca"].write_bytes(ca.pem + make_ca("new").pem)
        assert credentials.reload()

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_no_path_at_all(self, paths: dict[str, Any], name: str) -> None:
        assert repr(name) in refusal(**paths | {"ca": name})

    def test_a_link_is_followed(self, paths: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(paths["ca"])
        assert Credentials.from_files(**paths | {"ca": tmp_path / "link"}).current.anchors


class TestReload:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Throwaway:
        place = Throwaway(tmp_path)
        place.leaf("server", "localhost", "127.0.0.1")
        return place

    def load(self, place: Throwaway, **files: Path) -> Credentials:
        return Credentials.from_files(
            **{"cert": place.directory / "server.pem", "key": place.directory / "server.key", "ca": place.ca} | files
        )

    def test_another_leaf(self, place: Throwaway) -> None:
        credentials = self.load(place)
        before = credentials.current
        place.leaf("server", "localhost", "127.0.0.1")
        assert credentials.reload()
        assert credentials.current is not before
        assert credentials.leaf != before.leaf
        status = credentials.status()
        assert (status.generation, status.refusal, status.chain_problem, status.revoked) == (2, None, None, False)
        assert status.identity == credentials.identity
        assert status.files["cert"] == str(place.directory / "server.pem")

    def test_the_status_has_what_is_in_service(self, files: Files, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own, crl = make("server.example", issuer=between), make_crl(between)
        status = files.credentials(own, ca, between, crl=crl).status()
        assert status.authorities == (ca.certificate, between.certificate)
        assert status.lists == tuple(read_crls(crl, ""))
        assert (status.chain_problem, status.chain_complete, status.revoked) == (None, False, False)
        status = files.credentials(own, ca, crl=make_crl(ca)).status()
        assert status.chain_problem == "unable to get local issuer certificate"
        assert status.chain_complete
        assert files.credentials(own, ca, between, crl=make_crl(between, own)).status().revoked

    def test_a_leaf_that_has_expired_in_service_keeps_out_no_other_change(
        self, place: Throwaway, ca: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials = self.load(place)
        assert credentials.identity is not None
        later = credentials.identity.not_after + timedelta(seconds=1)
        monkeypatch.setattr(certificates, "datetime", SimpleNamespace(now=lambda _: later))
        with pytest.raises(ConfigurationError, match="expired at"):
            self.load(place)
        place.ca.write_bytes(place.ca.read_bytes() + make_ca("new", end=timedelta(days=9999)).pem)
        assert credentials.reload()
        assert len(credentials.current.authorities) == 2

    def test_what_the_self_test_refuses_does_not_come_into_service(self, place: Throwaway) -> None:
        """Another CA alone, of which the leaf is not."""
        credentials = self.load(place)
        before = credentials.current
        place.ca.write_bytes(make_ca("other").pem)
        assert not credentials.reload()
        assert credentials.current is before

    def test_torn_in_every_place(self, place: Throwaway) -> None:
        """Cut anywhere, a file is either refused or, with no more than an end of line missing, the same."""
        credentials = self.load(place)
        before = credentials.current
        for name in ("server.pem", "server.key", "ca.pem"):
            whole = (place.directory / name).read_bytes()
            for length in range(0, len(whole), 7):
                (place.directory / name).write_bytes(whole[:length])
                taken = credentials.reload()
                assert credentials.leaf == before.leaf
                assert credentials.current.anchors == before.anchors
                assert taken is False, (name, length)
            (place.directory / name).write_bytes(whole)
            assert credentials.reload()

    def test_a_repr_has_no_key(self, place: Throwaway, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        credentials = self.load(place)
        (place.directory / "server.key").write_bytes(b"garbage")
        assert not credentials.reload()
        place.leaf("server", "localhost", "127.0.0.1")
        assert credentials.reload()
        shown = caplog.text + repr(credentials) + repr(credentials.current) + repr(vars(credentials.status()))
        assert "PRIVATE" not in shown
        # No bytes either, as in key=b'...'; a quoted fingerprint may end in b.
        assert re.search(r"\bb['\"]", shown) is None

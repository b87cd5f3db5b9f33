"""Access to a file, with the file system's own lists."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sealwire import Keyring
from sealwire.errors import ConfigurationError
from sealwire.trust.file_permissions import in_private_directory, open_to_others, remedy
from sealwire.trust.keyring import read_keyring

NOBODY = 0xFFFFFFFF
OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
OURS = (USER, 4, os.geteuid())
STRANGER = os.geteuid() + 1


def with_list(path: Path, *entries: tuple[int, int, int], mask: int = 4, group: int = 0) -> Path:
    path.write_text(f'[[key]]\nid = "k1"\nsecret = "{"A" * 43}="\n')
    path.chmod(0o400)
    all_entries = [(OWNER, 4, NOBODY), *entries, (GROUP_OWNER, group, NOBODY), (MASK, mask, NOBODY), (OTHER, 0, NOBODY)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(all_entries))
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    return path


def is_open(path: Path) -> bool:
    return open_to_others(path, path.stat())


@pytest.mark.parametrize(("mode", "expected"), [(0o600, False), (0o440, True), (0o404, True), (0o620, True)])
def test_modes(tmp_path: Path, mode: int, expected: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    assert is_open(path) is expected


@pytest.mark.parametrize(
    ("mode", "owner", "user", "expected"),
    [
        (0o640, 0, 1000, False),
        (0o440, 0, 1000, False),
        (0o660, 0, 1000, True),
        (0o644, 0, 1000, True),
        (0o750, 0, 1000, True),
        (0o640, 0, 0, True),
        (0o640, 1000, 1000, True),
    ],
)
def test_a_file_that_root_shares_with_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, user: int, expected: bool
) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    status = os.stat_result((*path.stat()[:4], owner, *path.stat()[5:10]))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert open_to_others(path, status) is expected


@pytest.mark.parametrize(
    ("mode", "owner", "group", "user", "expected"),
    [
        (0o440, 0, 2000, 0, False),
        (0o640, 0, 2000, 0, False),
        (0o640, 0, 1000, 0, False),
        (0o640, 0, 2000, 1000, False),
        (0o640, 0, 3000, 0, True),
        (0o660, 0, 2000, 0, True),
        (0o444, 0, 2000, 0, True),
        (0o640, 1000, 2000, 1000, True),
        (0o640, 1000, 2000, 0, True),
    ],
)
def test_keyring_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, user: int, expected: bool
) -> None:
    """A group of this process's may have a file of root's, also if the process is root's: to read, not to write."""
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    status = os.stat_result((*path.stat()[:4], owner, group, *path.stat()[6:10]))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [2000])
    assert open_to_others(path, status, keyring_group=True) is expected
    assert ("set keyring_group" in remedy(str(path), status)) is not expected


@pytest.mark.parametrize(("mode", "expected"), [(0o700, True), (0o600, True), (0o710, False), (0o701, False)])
def test_a_directory_that_keeps_others_out(mode: int, expected: bool) -> None:
    with TemporaryDirectory() as name:  # of which no directory above keeps them out, as they do above tmp_path
        directory = Path(name)
        assert not in_private_directory(directory)
        directory.chmod(mode)
        assert in_private_directory(directory / "file") is expected


def test_a_directory_that_is_gone_keeps_nobody_out() -> None:
    with TemporaryDirectory() as name:
        assert not in_private_directory(Path(name, "gone", "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files to others")
@pytest.mark.parametrize(
    ("owner", "user", "expected"), [(0, 1000, True), (1000, 1000, True), (1, 1000, False), (1, 0, False)]
)
def test_whose_directory_it_is(monkeypatch: pytest.MonkeyPatch, owner: int, user: int, expected: bool) -> None:
    with TemporaryDirectory() as name:
        os.chown(name, owner, 0)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        assert in_private_directory(Path(name, "file")) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (struct.pack("<IHHI", 2, *OURS), False),
        (struct.pack("<IHHI", 3, *OURS), True),
        (struct.pack("<IHHI", 2, *OURS)[:-1], True),
        (b"\2", True),
    ],
    ids=["as it should be", "another version", "cut", "no list"],
)
def test_a_list_that_says_nothing_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: bool
) -> None:
    path = tmp_path / "file"
    path.touch(0o440)
    monkeypatch.setattr(os, "getxattr", lambda *_: content)
    status = os.stat_result((*path.stat()[:4], 1000, *path.stat()[5:10]))
    assert open_to_others(path, status) is expected


@pytest.mark.parametrize("meant", [True, False])
def test_a_keyring_for_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meant: bool) -> None:
    """Of root's, for a process of root's: it must be said that the group is meant."""
    path = tmp_path / "keyring.toml"
    path.write_text(f'[[key]]\nid = "k1"\nsecret = "{"A" * 43}="\n')
    path.chmod(0o640)
    status = os.stat_result((*path.stat()[:4], 0, 2000, *path.stat()[6:10]))
    monkeypatch.setattr(os, "fstat", lambda _: status)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgroups", lambda: [2000])
    if meant:
        keyring = Keyring.from_file(path, keyring_group=True)
        assert keyring.is_made_of(path, keyring_group=True)
        assert not keyring.is_made_of(path, keyring_group=False)
        assert not keyring.is_made_of(tmp_path / "other.toml", keyring_group=True)
    else:
        for read in (Keyring.from_file, read_keyring):
            with pytest.raises(ConfigurationError, match="or set keyring_group"):
                read(path)


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    """As systemd 254 and later make it for User=: root's, 0400, and a list with that user."""
    path = with_list(tmp_path / "keyring.toml", OURS)
    assert path.stat().st_mode & 0o777 == 0o440
    assert not is_open(path)
    assert len(Keyring.from_file(path)) == 1


def test_lists_that_let_others_in(tmp_path: Path) -> None:
    assert is_open(with_list(tmp_path / "user", OURS, (USER, 4, STRANGER)))
    assert is_open(with_list(tmp_path / "group", OURS, (GROUP, 4, 0)))
    assert is_open(with_list(tmp_path / "owner's group", OURS, group=4))
    path = with_list(tmp_path / "other")
    path.chmod(0o444)
    assert is_open(path)
    path = with_list(tmp_path / "keyring.toml", (USER, 4, STRANGER))
    with pytest.raises(ConfigurationError, match="lets other users read the secrets"):
        Keyring.from_file(path)


def test_what_the_mask_takes_away(tmp_path: Path) -> None:
    assert not is_open(with_list(tmp_path / "file", OURS, (USER, 2, STRANGER)))
    assert not is_open(with_list(tmp_path / "shut", (USER, 4, STRANGER), mask=0))

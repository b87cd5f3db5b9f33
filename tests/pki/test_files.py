from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, locked, write_files


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o377], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("replace", [False, True])
def test_modes_whatever_the_umask(tmp_path: Path, umask: int, replace: bool) -> None:
    key, cert = tmp_path / "a.key", tmp_path / "a.pem"
    write_files([NewFile(key, b"secret", PRIVATE), NewFile(cert, b"public", PUBLIC)], replace=replace)
    assert (key.read_bytes(), cert.read_bytes()) == (b"secret", b"public")
    assert mode(key) == 0o600
    assert mode(cert) == 0o644 & ~umask
    assert sorted(os.listdir(tmp_path)) == ["a.key", "a.pem"]


@pytest.mark.parametrize("replace", [False, True])
def test_at_no_moment_can_others_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    seen = []

    def spy(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if flags & os.O_CREAT:
            seen.append((stat.S_IMODE(os.fstat(descriptor).st_mode), flags))
        return descriptor

    real = os.open
    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "open", spy)
        if replace:
            (tmp_path / "a.key").write_bytes(b"old")
        write_files([NewFile(tmp_path / "a.key", b"secret", PRIVATE)], replace=replace)
    finally:
        os.umask(before)
    ((first_mode, flags),) = seen
    assert first_mode == 0o600
    assert flags & (os.O_EXCL | os.O_NOFOLLOW) == os.O_EXCL | os.O_NOFOLLOW


def test_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_files([NewFile(path, b"new", PRIVATE)])
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("dangling", [False, True])
def test_never_follows_a_symbolic_link(tmp_path: Path, dangling: bool) -> None:
    target, path = tmp_path / "target", tmp_path / "a.key"
    if not dangling:
        target.write_bytes(b"somebody's")
    path.symlink_to(target)
    with pytest.raises(FileExistsError):
        write_files([NewFile(path, b"secret", PRIVATE)])
    assert target.exists() is not dangling
    write_files([NewFile(path, b"secret", PRIVATE)], replace=True)
    assert not path.is_symlink()
    assert path.read_bytes() == b"secret"
    assert not dangling or not target.exists()
    assert dangling or target.read_bytes() == b"somebody's"


def test_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"a\.pem"):
        write_files([NewFile(tmp_path / "a.key", b"new", PRIVATE), NewFile(tmp_path / "a.pem", b"new", PUBLIC)])
    assert os.listdir(tmp_path) == ["a.pem"]
    assert (tmp_path / "a.pem").read_bytes() == b"old"


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    if replace:
        (tmp_path / "a.key").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_files([NewFile(tmp_path / "a.key", b"new", PRIVATE)], replace=replace)
    assert os.listdir(tmp_path) == (["a.key"] if replace else [])
    assert not replace or (tmp_path / "a.key").read_bytes() == b"old"


def test_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with path.open("rb") as reader:
        write_files([NewFile(path, b"new", PRIVATE)], replace=True)
        assert reader.read() == b"old", "a reader of the old file keeps it whole"
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_leaves_other_users_files() -> None:
    with tempfile.TemporaryDirectory() as directory:  # where somebody else gets, too
        os.chmod(directory, 0o777)
        refused_to_another_user(Path(directory, "a.key"))


def refused_to_another_user(path: Path) -> None:
    path.write_bytes(b"old")
    os.chown(path, 12345, -1)
    pid = os.fork()
    if pid == 0:
        os.setuid(23456)
        try:
            write_files([NewFile(path, b"new", PRIVATE)], replace=True)
        except PermissionError as error:
            os._exit(0 if "uid 12345" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_keeps_the_owner(tmp_path: Path) -> None:
    """As cron does it, for a service that is somebody else."""
    path = tmp_path / "a.key"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    (kept,) = write_files([NewFile(path, b"new", PRIVATE)], replace=True, keep=True)
    for each in (path, kept):
        status = os.stat(each)
        assert (status.st_uid, status.st_gid) == (12345, 23456)
    assert (path.read_bytes(), kept.read_bytes()) == (b"new", b"old")


def test_not_in_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.key").mkdir()
    with pytest.raises(IsADirectoryError):
        write_files([NewFile(tmp_path / "a.key", b"new", PRIVATE)], replace=True)
    assert os.listdir(tmp_path) == ["a.key"]


def test_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    path = tmp_path / "keyring.toml"
    attempt = (
        "import fcntl, sys; f = open(sys.argv[1], 'rb')\n"
        "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('held')\n"
        "else: print('free')"
    )

    def state() -> str:
        command = [sys.executable, "-c", attempt, str(tmp_path / ".keyring.toml.lock")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with locked(path):
        assert mode(tmp_path / ".keyring.toml.lock") == 0o600
        assert state() == "held"
    assert state() == "free"


def test_lock_is_not_taken_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / ".a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic") as caught, locked(tmp_path / "a"):
        pytest.fail("locked")
    assert caught.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()

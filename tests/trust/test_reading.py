"""Files that this process may not read: the error says why, and what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealwire.errors import ConfigurationError
from sealwire.trust.reading import TooLarge, read_file

NOBODY = 65534


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody can enter; not so those above ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(os.path.realpath(name))
        path.chmod(0o755)
        yield path


@contextmanager
def not_as_root() -> Iterator[None]:
    """As another user, if this process is root's; its real user stays root."""
    if os.geteuid() != 0:
        yield
        return
    group = os.getegid()
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def refusal(path: Path | str) -> str:
    with not_as_root(), pytest.raises(ConfigurationError) as caught:
        read_file(path, max_bytes=100)
    return str(caught.value)


def user() -> int:
    return os.geteuid() or NOBODY


def test_its_mode_keeps_this_process_out(open_directory: Path) -> None:
    path = open_directory / "server.key"
    path.touch()
    path.chmod(0)
    assert refusal(path) == (
        f"{path}: cannot be read (Permission denied); it belongs to uid {os.geteuid()}, gid {path.stat().st_gid} with "
        f"mode 0000, and this process is uid {user()}: run `chown {user()} {path}` and `chmod 600 {path}`, or leave it "
        "to root with mode 0640 and a group of this process"
    )


@pytest.mark.parametrize("way", ["straight", "from inside", "through a link"])
def test_a_directory_keeps_this_process_out(open_directory: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The outermost one, wherever links lead from."""
    closed = open_directory / "closed"
    inner = closed / "inner" / "innermost"
    inner.mkdir(parents=True)
    (inner / "server.key").touch()
    (open_directory / "link").symlink_to(inner)
    monkeypatch.chdir(inner)
    path = {
        "straight": inner / "server.key",
        "from inside": "server.key",
        "through a link": open_directory / "link" / "server.key",
    }[way]
    inner.chmod(0)
    closed.chmod(0)
    assert refusal(path) == (
        f"{path}: cannot be read (Permission denied); {closed} keeps this process's user (uid {user()}) out; let it in "
        f"there (`chmod o+x {closed}`)"
    )
    closed.chmod(0o700)
    inner.chmod(0o700)


def test_no_more_is_read_than_a_file_may_have(open_directory: Path) -> None:
    path = open_directory / "server.key"
    path.touch()
    for size, fits in ((100, True), (101, False), (1 << 40, False)):
        os.truncate(path, size)
        if fits:
            assert read_file(path, max_bytes=100).data == bytes(100)
        else:
            with pytest.raises(TooLarge, match=f"^{path}: larger than 100 bytes$"):
                read_file(path, max_bytes=100)


def test_the_check_is_told_which_file_it_is(open_directory: Path) -> None:
    path = open_directory / "server.key"
    path.write_bytes(b"12345")
    told: list[tuple[int, str]] = []
    read_file(path, max_bytes=100, check=lambda status, name: told.append((status.st_size, name)))
    assert told == [(5, str(path))]

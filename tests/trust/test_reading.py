"""Files that this process may not read: the error says why, and what to do."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwire.errors import ConfigurationError
from sealwire.trust.reading import read_file

NOBODY = 65534


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody can enter; not so those above ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(os.path.realpath(name))
        path.chmod(0o755)
        yield path


def refusal(path: Path | str, *closed: Path, inside: Path = Path("/")) -> str:
    """Return the error of a process that is not root's, which may have begun as one of root's.

    closed: directories that are closed after it has entered ``inside``.
    """
    receiver, sender = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.chdir(inside)
            for each in closed:
                each.chmod(0)
            if os.geteuid() == 0:
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
            read_file(path, max_bytes=100)
        except ConfigurationError as error:
            os.write(sender, str(error).encode())
        except BaseException:
            os.write(sender, traceback.format_exc().encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(pid, 0)
    return text


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
def test_a_directory_keeps_this_process_out(open_directory: Path, way: str) -> None:
    """The outermost one, wherever links lead from."""
    closed = open_directory / "closed"
    inner = closed / "inner" / "innermost"
    inner.mkdir(parents=True)
    (inner / "server.key").touch()
    (open_directory / "link").symlink_to(inner)
    path, inside = {
        "straight": (inner / "server.key", Path("/")),
        "from inside": ("server.key", inner),
        "through a link": (open_directory / "link" / "server.key", Path("/")),
    }[way]
    assert refusal(path, inner, closed, inside=inside) == (
        f"{path}: cannot be read (Permission denied); {closed} keeps this process's user (uid {user()}) out; let it in "
        f"there (`chmod o+x {closed}`)"
    )
    closed.chmod(0o700)

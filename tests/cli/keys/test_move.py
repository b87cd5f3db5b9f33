"""`sealwire keys export` and `import`: one client's keys go from one file to another, and to nobody's eyes."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sealwire.trust.keyring import Keyring
from support.commands import Run, sealwire

RING = Path("certs/keyring.toml")
CLIENT = ("--for", "dns:a.example")


@pytest.fixture
def ring(run: Run) -> Run:
    """A keyring with keys of two clients, and of every client."""
    run("keys", "new", "--id", "a1", "--identity", "dns:a.example", "--days", "30")
    run("keys", "new", "--id", "b1", "--identity", "dns:b.example")
    run("keys", "new", "--id", "all")
    return run


def secret(key_id: str) -> str:
    lines = RING.read_text().splitlines()
    return lines[lines.index(f'id = "{key_id}"') + 1].split('"')[1]


def test_from_pipe_to_pipe(ring: Run, tmp_path: Path) -> None:
    exported = sealwire(tmp_path, "keys", "export", *CLIENT)
    assert exported.stderr == ""
    done = sealwire(tmp_path, "keys", "import", "--file", "client/keyring.toml", stdin=exported.stdout)
    assert done.stdout.count("added key 'a1' for dns:a.example, from 20") == 1
    assert secret("a1") not in done.stdout
    theirs, ours = Keyring.from_file("client/keyring.toml"), Keyring.from_file(RING)
    assert list(theirs) == [ours.get("a1")]
    assert stat.S_IMODE(Path("client/keyring.toml").stat().st_mode) == 0o600


def test_a_rotation_goes_the_same_way(ring: Run) -> None:
    ring("keys", "export", *CLIENT, "--out", "first")
    ring("keys", "import", "first", "--file", "client.toml")
    Path("client.toml").write_text("# mine\n" + Path("client.toml").read_text())
    ring("keys", "rotate", "--identity", "dns:a.example", "--id", "a2")
    ring("keys", "export", *CLIENT, "--out", "second")
    output = ring("keys", "import", "second", "--file", "client.toml").stdout
    assert "changed key 'a1'" in output
    assert "added key 'a2'" in output
    theirs, ours = Keyring.from_file("client.toml"), Keyring.from_file(RING)
    assert [theirs.get(name) for name in ("a1", "a2")] == [ours.get(name) for name in ("a1", "a2")]
    assert Path("client.toml").read_text().startswith("# mine\n")
    before = Path("client.toml").read_bytes()
    assert "unchanged key 'a2'" in ring("keys", "import", "second", "--file", "client.toml").stdout
    assert Path("client.toml").read_bytes() == before


def test_never_to_a_terminal_unless_asked(ring: Run, tmp_path: Path) -> None:
    for show in (False, True):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "sealwire", "keys", "export", *CLIENT, *(["--show"] if show else [])]
        with open(ours, "rb", buffering=0) as terminal:
            done = subprocess.run(command, cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60)
            os.write(theirs, b"end")
            os.close(theirs)
            shown = terminal.read(1 << 16).decode()
        assert (done.returncode, secret("a1") in shown) == ((0, True) if show else (1, False))
        assert secret("a1") not in done.stderr
    assert "printed to the terminal" not in done.stderr


def test_not_into_a_file_that_others_can_read(ring: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sealwire", "keys", "export", *CLIENT]
    for mode, status in ((0o644, 1), (0o600, 0)):
        with open(os.open("out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as out:
            os.fchmod(out.fileno(), mode)
            done = subprocess.run(command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == status
        assert (secret("a1") in Path("out").read_text()) is (status == 0)
    os.chmod("out", 0o644)
    ring("keys", "export", *CLIENT, "--out", "out")
    assert stat.S_IMODE(Path("out").stat().st_mode) == 0o600
    os.chmod("out", 0o640)
    assert "lets other users read" in ring("keys", "import", "out", "--file", "other.toml", status=1).stderr


def test_not_over_the_keyring_itself(ring: Run) -> None:
    before = RING.read_bytes()
    assert "the keyring itself" in ring("keys", "export", *CLIENT, "--out", str(RING), status=1).stderr
    assert RING.read_bytes() == before


def test_of_a_client_without_a_key(ring: Run) -> None:
    result = ring("keys", "export", "--for", "dns:c.example", status=1)
    assert (
        "no key for dns:c.example that has not expired; it has keys for dns:a.example, dns:b.example" in result.stderr
    )
    ring("keys", "export", status=64)
    ring("keys", "export", "--for", "nonsense", status=64)


def test_what_is_not_taken_in(ring: Run, tmp_path: Path) -> None:
    text = sealwire(tmp_path, "keys", "export", *CLIENT).stdout

    def refused(content: str) -> str:
        before = RING.read_bytes()
        errors = sealwire(tmp_path, "keys", "import", stdin=content, status=1).stderr
        assert RING.read_bytes() == before
        assert secret("a1") not in errors
        return errors

    assert "has another key with the id 'b1'" in refused(text.replace('"a1"', '"b1"'))
    assert "is for dns:a.example there, not for dns:b.example" in refused(text.replace("dns:a.", "dns:b."))
    assert "standard input: empty" in refused("\n")
    assert "not valid TOML" in refused(text + "x")
    assert "more than 1048576 bytes" in refused("#" * (1 << 20) + text)
    # One that cannot be taken keeps the others out, too.
    assert "another key" in refused(text.replace('"a1"', '"new"') + text.replace('"a1"', '"all"'))
    ring("keys", "revoke", "a1")
    errors = sealwire(tmp_path, "keys", "import", stdin=text, status=1).stderr
    assert "key 'a1' was revoked there" in errors


def test_from_a_terminal(ring: Run, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "sealwire", "keys", "import"],
        cwd=tmp_path, stdin=theirs, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert "which is a terminal" in done.stderr


def test_what_has_expired_stays(ring: Run) -> None:
    ring("keys", "new", "--id", "old", "--identity", "dns:a.example", "--not-before", "2024-01-01", "--days", "9")
    ring("keys", "export", *CLIENT, "--out", "out")
    assert [key.id for key in Keyring.from_file("out")] == ["a1"]
    assert all(key.not_after and key.not_after > datetime.now(UTC) for key in Keyring.from_file("out"))

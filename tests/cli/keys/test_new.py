"""`sealwire keys new`."""

from __future__ import annotations

import os
import re
import stat
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealwire.pki.authority import BACKDATED
from sealwire.trust.keyring import Keyring
from support.commands import Command, Run

RING = Path("certs/keyring.toml")


def secrets_of(text: str) -> list[str]:
    return re.findall(r'secret = "(.*)"', text)


class TestNew:
    def test_makes_the_file(self, run: Run) -> None:
        output = run("keys", "new").stdout
        assert stat.S_IMODE(RING.stat().st_mode) == 0o600
        (key,) = Keyring.from_file(RING)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-[0-9a-f]{4}", key.id)
        assert len(key.secret) == 32
        assert (key.not_after, key.identity) == (None, None)
        assert key.not_before is not None
        assert abs(datetime.now(UTC) - BACKDATED - key.not_before) < timedelta(minutes=2)
        assert key.id in output
        assert "State: signs" in output
        assert secrets_of(RING.read_text())[0] not in output

    def test_options(self, run: Run) -> None:
        arguments = "--id", 'k"\\1', "--not-before", "2026-12-01", "--days", "30", "--identity", "dns:client.example"
        run("keys", "new", *arguments, "--file", "else/ring.toml")
        (key,) = Keyring.from_file("else/ring.toml")
        assert key.id == 'k"\\1'
        assert key.not_before == datetime(2026, 12, 1, tzinfo=UTC)
        assert key.not_after == datetime(2026, 12, 31, tzinfo=UTC)
        assert key.identity == "dns:client.example"

    def test_times_with_an_offset(self, run: Run) -> None:
        run("keys", "new", "--not-before", "2026-12-01T08:00:00+01:00")
        assert next(iter(Keyring.from_file(RING))).not_before == datetime(2026, 12, 1, 7, tzinfo=UTC)

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_mode_whatever_the_umask(self, run: Run, umask: int) -> None:
        before = os.umask(umask)
        try:
            run("keys", "new")
            run("keys", "new")
        finally:
            os.umask(before)
        assert stat.S_IMODE(RING.stat().st_mode) == 0o600

    @pytest.mark.parametrize("end", ["\n", "", "\r\n\r\n# the end"])
    def test_adds_to_what_is_there(self, run: Run, end: str) -> None:
        run("keys", "new", "--id", "old")
        text = "# mine: é\r\n" + RING.read_text() + "# trailing" + end
        RING.write_bytes(text.encode())
        RING.chmod(0o400)
        output = run("keys", "new", "--id", "new").stdout
        assert RING.read_bytes().startswith(text.encode()), "every byte of it survives"
        assert [key.id for key in Keyring.from_file(RING)] == ["old", "new"]
        assert stat.S_IMODE(RING.stat().st_mode) == 0o400
        assert "2 in all" in output
        (kept,) = set(os.listdir("certs")) - {".gitignore", ".keyring.toml.lock", "keyring.toml"}
        assert Path("certs", kept).read_bytes() == text.encode()
        assert stat.S_IMODE(Path("certs", kept).stat().st_mode) == 0o400

    def test_the_newest_signs(self, run: Run) -> None:
        for name in ("one", "two"):
            run("keys", "new", "--id", name)
        assert Keyring.from_file(RING).signing_key(datetime.now(UTC)).id == "two"
        assert "not yet valid" in run("keys", "new", "--not-before", "8999-01-01").stdout

    def test_a_random_id_is_free(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        digits = iter(["0000", "0000", "0001"])
        monkeypatch.setattr(
            "sealwire.cli.keys.common.secrets.token_hex", lambda size: next(digits) if size == 2 else "temp"
        )
        run("keys", "new")
        run("keys", "new")
        assert [key.id[-4:] for key in Keyring.from_file(RING)] == ["0000", "0001"]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--id", "old"], "differ"),
            (["--id", "a b"], "printable ASCII"),
            (["--id", "x" * 65], "1 to 64"),
            (["--identity", "client.example"], "not an entry for a list of peers"),
        ],
    )
    def test_refused(self, run: Run, arguments: list[str], word: str) -> None:
        run("keys", "new", "--id", "old")
        before = RING.read_bytes()
        result = run("keys", "new", *arguments, status=1 if "old" in arguments else 64)
        assert word in result.stderr
        assert secrets_of(before.decode())[0] not in result.output
        assert RING.read_bytes() == before

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--not-before", "soon"],
            ["--not-before", "0001-01-01"],
            ["--not-before", "9999-01-01"],
            ["--days", "0"],
            ["--identity", "uri:x:\udcff"],
        ],
    )
    def test_wrong_usage(self, run: Run, arguments: list[str]) -> None:
        run("keys", "new", *arguments, status=64)
        assert not RING.exists()

    def test_a_file_that_others_can_read(self, run: Run) -> None:
        run("keys", "new")
        RING.chmod(0o644)
        before = RING.read_bytes()
        assert "chmod 600" in run("keys", "new", status=1).stderr
        assert RING.read_bytes() == before

    @pytest.mark.parametrize(
        "text",
        [
            'x = """s3cret',
            "key = []",
            '[[key]]\nid = "a"\nsecret = "s3cret"',
            'key = [{id = "a", secret = "%s"}]' % ("A" * 44),
        ],
    )
    def test_a_file_that_cannot_be_added_to(self, run: Run, text: str) -> None:
        RING.parent.mkdir()
        RING.write_text(text)
        RING.chmod(0o600)
        result = run("keys", "new", status=1)
        assert "certs/keyring.toml" in result.stderr
        assert "s3cret" not in result.output
        assert RING.read_text() == text

    @pytest.mark.parametrize("dangling", [False, True])
    def test_a_symbolic_link(self, run: Run, dangling: bool) -> None:
        RING.parent.mkdir()
        RING.symlink_to("elsewhere.toml")
        target = Path("certs/elsewhere.toml")
        if not dangling:
            target.write_text("somebody's")
        assert f"work on {target.resolve()} itself" in run("keys", "new", status=1).stderr
        assert RING.is_symlink()
        assert target.exists() is not dangling

    def test_many_at_once_lose_none(self, run: Run) -> None:
        with ExitStack() as stack:
            commands = [
                stack.enter_context(Command(Path.cwd(), "keys", "new", "--id", f"key-{number}")) for number in range(8)
            ]
            assert [command.finish().returncode for command in commands] == [0] * 8
        ring = Keyring.from_file(RING)
        assert {key.id for key in ring} == {f"key-{number}" for number in range(8)}
        assert len({key.secret for key in ring}) == 8


def test_a_new_key_signs_at_once_after_a_rotation(run: Run) -> None:
    """Though that one began a moment ago, and a new key five minutes before."""
    run("keys", "new", "--id", "first")
    run("keys", "rotate", "--id", "second", "--in", "0s")
    run("keys", "new", "--id", "third")
    assert Keyring.from_file(RING).signing_key(datetime.now(UTC)).id == "third"

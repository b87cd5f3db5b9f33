from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result

from sealwire.keyring import Keyring
from sealwire.tls.issue import BACKDATED

Run = Callable[..., Result]
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
            "sealwire.cli.keys.group.secrets.token_hex", lambda size: next(digits) if size == 2 else "temp"
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
            (["--identity", "client.example"], "no entry for a list of peers"),
        ],
    )
    def test_refused(self, run: Run, arguments: list[str], word: str) -> None:
        run("keys", "new", "--id", "old")
        before = RING.read_bytes()
        result = run("keys", "new", *arguments, status=1)
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
        run("keys", "new", *arguments, status=2)
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
        assert f"--file {target.resolve()}" in run("keys", "new", status=1).stderr
        assert RING.is_symlink()
        assert target.exists() is not dangling

    def test_many_at_once_lose_none(self, run: Run, python: list[str]) -> None:
        processes = [
            subprocess.Popen([*python, "keys", "new", "--id", f"key-{number}"], stdout=subprocess.DEVNULL)
            for number in range(8)
        ]
        assert [process.wait() for process in processes] == [0] * 8
        ring = Keyring.from_file(RING)
        assert {key.id for key in ring} == {f"key-{number}" for number in range(8)}
        assert len({key.secret for key in ring}) == 8


class TestList:
    @pytest.fixture
    def ring(self, run: Run) -> Run:
        run("keys", "new", "--id", "old", "--not-before", "2020-01-01", "--days", "1")
        run("keys", "new", "--id", "bound", "--not-before", "2021-01-01", "--identity", "dns:client.example")
        run("keys", "new", "--id", "earlier", "--not-before", "2022-01-01")
        run("keys", "new", "--id", "own", "--not-before", "2023-01-01", "--identity", "dns:other.example")
        run("keys", "new", "--id", "now", "--not-before", "2022-06-01")
        run("keys", "new", "--id", "later", "--not-before", "8999-01-01")
        return run

    def test_json(self, ring: Run) -> None:
        rows = json.loads(ring("keys", "list", "--json").stdout)
        assert {row["id"]: row["state"] for row in rows} == {
            "old": "expired",
            "bound": "verifies",  # for its client, too, `now` is newer
            "earlier": "verifies",
            "own": "signs",
            "now": "signs",
            "later": "not yet valid",
        }
        assert rows[1] == {
            "id": "bound",
            "not_before": "2021-01-01T00:00:00+00:00",
            "not_after": None,
            "identity": "dns:client.example",
            "state": "verifies",
        }

    def test_table(self, ring: Run) -> None:
        lines = ring("keys", "list").stdout.splitlines()
        assert len(lines) == 7
        assert re.split(r"\s{2,}", lines[2].strip()) == [
            "bound",
            "2021-01-01 00:00 UTC",
            "any time",
            "dns:client.example",
            "verifies",
        ]

    def test_never_a_secret(self, ring: Run) -> None:
        output = ring("keys", "list").output + ring("keys", "list", "--json").output
        assert secrets_of(RING.read_text())
        assert not [secret for secret in secrets_of(RING.read_text()) if secret in output]

    def test_no_file(self, run: Run) -> None:
        assert "sealwire keys new" in run("keys", "list", status=1).stderr

    def test_a_key_without_times(self, run: Run) -> None:
        run("keys", "new", "--id", "k")
        RING.write_text(re.sub("not_before.*", "", RING.read_text()))
        assert json.loads(run("keys", "list", "--json").stdout)[0]["not_before"] is None
        assert run("keys", "list").stdout.count("any time") == 2


def ids() -> list[str]:
    return [key.id for key in Keyring.from_file(RING)]


class TestRotate:
    def test_distributed_first_then_signed_with(self, run: Run) -> None:
        run("keys", "new", "--id", "old")
        RING.write_text("# mine\n" + RING.read_text() + "# the end\n")
        output = run("keys", "rotate", "--id", "next", "--in", "2h", "--overlap", "3h", "--days", "9").stdout
        ring = Keyring.from_file(RING)
        now = datetime.now(UTC)
        old, following = ring.get("old"), ring.get("next")
        assert old is not None
        assert following is not None
        assert following.not_before is not None
        assert timedelta(hours=1.9) < following.not_before - now < timedelta(hours=2.1)
        assert old.not_after == following.not_before + timedelta(hours=3)
        assert following.not_after == following.not_before + timedelta(days=9)
        assert ring.signing_key(now).id == "old"
        assert ring.signing_key(now + timedelta(hours=3)).id == "next"
        assert "# mine" in RING.read_text()
        assert "# the end" in RING.read_text()
        assert "to the servers, then to the clients" in output
        assert stat.S_IMODE(RING.stat().st_mode) == 0o600

    def test_only_keys_of_that_client(self, run: Run) -> None:
        run("keys", "new", "--id", "all")
        run("keys", "new", "--id", "a", "--identity", "dns:a.example")
        run("keys", "rotate", "--id", "a2", "--identity", "dns:a.example")
        ring = Keyring.from_file(RING)
        everybody, a = ring.get("all"), ring.get("a")
        assert everybody is not None
        assert a is not None
        assert (everybody.not_after, a.not_after is None) == (None, False)
        assert "no key of dns:b.example" in run("keys", "rotate", "--identity", "dns:b.example", status=1).stderr

    def test_an_end_that_comes_sooner_stays(self, run: Run) -> None:
        run("keys", "new", "--id", "old", "--days", "1")
        before = Keyring.from_file(RING).get("old")
        run("keys", "rotate", "--in", "2d", "--overlap", "1d")
        assert before is not None
        after = Keyring.from_file(RING).get("old")
        assert after is not None
        assert after.not_after == before.not_after

    @pytest.mark.parametrize("span", ["", "1", "h", "1w", "-1h", "1 h"])
    def test_spans(self, run: Run, span: str) -> None:
        run("keys", "new")
        assert "no span of time" in run("keys", "rotate", "--in", span, status=2).stderr

    def test_needs_a_keyring(self, run: Run) -> None:
        assert "no key is valid now" in run("keys", "rotate", status=1).stderr
        assert not RING.exists()


class TestRevoke:
    def test_at_once(self, run: Run) -> None:
        for name in ("a", "b", "c"):
            run("keys", "new", "--id", name)
        RING.write_text(RING.read_text() + "# the end\n")
        run("keys", "revoke", "b")
        assert ids() == ["a", "c"]
        assert "# the end" in RING.read_text()
        assert "Keyring of Sealwire" in RING.read_text()

    def test_never_the_last_valid_one(self, run: Run) -> None:
        run("keys", "new", "--id", "a")
        assert "nobody could connect" in run("keys", "revoke", "a", status=1).stderr
        run("keys", "revoke", "a", "--force", status=1)
        run("keys", "new", "--id", "later", "--not-before", "2035-01-01")
        run("keys", "revoke", "a", status=1)
        run("keys", "revoke", "a", "--force")
        assert ids() == ["later"]
        assert "no key has the id 'x'" in run("keys", "revoke", "x", status=1).stderr


class TestPrune:
    def test_those_that_expired(self, run: Run) -> None:
        run("keys", "new", "--id", "a", "--not-before", "2024-01-01", "--days", "9")
        assert "every key has expired" in run("keys", "prune", status=1).stderr
        run("keys", "new", "--id", "b")
        run("keys", "new", "--id", "c", "--not-before", "2024-01-01", "--days", "9")
        assert "taken out: a, c" in run("keys", "prune").stdout
        assert ids() == ["b"]
        assert "nothing to take out" in run("keys", "prune").stdout


class TestShow:
    def test_never_a_secret(self, run: Run) -> None:
        run("keys", "new", "--id", "a", "--identity", "dns:a.example")
        run("keys", "rotate", "--id", "b", "--identity", "dns:a.example")
        secrets = [base64.b64encode(key.secret).decode() for key in Keyring.from_file(RING)]
        outputs = [run("keys", "show").stdout, run("keys", "show", "b").stdout, run("keys", "show", "--json").stdout]
        assert not any(secret in output for secret in secrets for output in outputs)
        assert "32 bytes, not shown" in outputs[0]
        assert [each["state"] for each in json.loads(outputs[2])] == ["signs", "not yet valid"]
        assert "a.example" in outputs[1]
        assert "no key has the id" in run("keys", "show", "x", status=1).stderr


def test_a_new_key_signs_at_once_after_a_rotation(run: Run) -> None:
    """Though that one began a moment ago, and a new key five minutes before."""
    run("keys", "new", "--id", "first")
    run("keys", "rotate", "--id", "second", "--in", "0s")
    run("keys", "new", "--id", "third")
    assert Keyring.from_file(RING).signing_key(datetime.now(UTC)).id == "third"

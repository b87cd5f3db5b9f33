"""`sealwire keys list` and `show`."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from sealwire.trust.keyring import Keyring
from support.commands import Run

RING = Path("certs/keyring.toml")


def secrets_of(text: str) -> list[str]:
    return re.findall(r'secret = "(.*)"', text)


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
            "no end",
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
        assert run("keys", "list").stdout.splitlines()[1].split()[1:5] == ["any", "time", "no", "end"]


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
        assert "see `sealwire keys list`\n" in run("keys", "show", "x", status=1).stderr
        for path in ("./certs/keyring.toml", "certs/keyring.toml"):  # the default, but who gave it may need it
            error = run("keys", "show", "x", "--file", path, status=1).stderr
            assert "see `sealwire keys list --file certs/keyring.toml`\n" in error

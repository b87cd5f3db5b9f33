"""`sealwire keys rotate`, `revoke` and `prune`."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealwire.trust.keyring import Keyring
from support.commands import Run

RING = Path("certs/keyring.toml")


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
        assert "is not a span of time" in run("keys", "rotate", "--in", span, status=64).stderr

    def test_needs_a_keyring(self, run: Run) -> None:
        assert "no key is valid now" in run("keys", "rotate", status=1).stderr
        assert not RING.exists()


def ids() -> list[str]:
    return [key.id for key in Keyring.from_file(RING)]


class TestRevoke:
    def test_at_once(self, run: Run) -> None:
        for name in ("a", "b", "c"):
            run("keys", "new", "--id", name)
        RING.write_text(RING.read_text() + "# the end\n")
        run("keys", "revoke", "b")
        assert ids() == ["a", "c"]
        assert Keyring.from_file(RING).current.revoked == ("b",)
        assert RING.read_text().count("secret =") == 2
        assert "revoked" in run("keys", "list").stdout
        assert '"revoked"' in run("keys", "list", "--json").stdout
        assert "two keys" in run("keys", "new", "--id", "b", status=1).stderr
        assert "# the end" in RING.read_text()
        assert "Keyring of Sealwire" in RING.read_text()

    def test_others_after_all_are_revoked(self, run: Run) -> None:
        run("keys", "new", "--id", "a")
        RING.write_text(RING.read_text() + "revoked = true\n")
        run("keys", "new", "--id", "b")
        assert ids() == ["b"]
        assert Keyring.from_file(RING).current.revoked == ("a",)

    def test_never_the_last_valid_one(self, run: Run) -> None:
        run("keys", "new", "--id", "a")
        assert "no client could connect" in run("keys", "revoke", "a", status=1).stderr
        run("keys", "revoke", "a", "--force", status=1)
        run("keys", "new", "--id", "later", "--not-before", "2035-01-01")
        run("keys", "revoke", "a", status=1)
        run("keys", "revoke", "a", "--force")
        assert ids() == ["later"]
        assert "no key has the id 'x'" in run("keys", "revoke", "x", status=1).stderr


class TestPrune:
    def test_those_that_expired(self, run: Run) -> None:
        run("keys", "new", "--id", "a", "--not-before", "2024-01-01", "--days", "9")
        assert "no key would be left" in run("keys", "prune", status=1).stderr
        run("keys", "new", "--id", "b")
        run("keys", "new", "--id", "c", "--not-before", "2024-01-01", "--days", "9")
        run("keys", "new", "--id", "d")
        run("keys", "revoke", "d")
        assert "taken out: a, c, d" in run("keys", "prune").stdout
        assert ids() == ["b"]
        assert run("keys", "prune").stdout.endswith("nothing to take out of certs/keyring.toml\n")

    def test_one_that_expired_just_now_stays(self, run: Run) -> None:
        run("keys", "new", "--id", "a", "--not-before", "2024-01-01", "--days", "9")
        run("keys", "new", "--id", "b")
        assert "what expired more recently stays" in run("keys", "prune", "--older-than", "36500d").stdout
        assert ids() == ["a", "b"]


class TestWhatStays:
    """Of the old key: the length of its life, and the client."""

    def test_life_and_binding(self, run: Run) -> None:
        run("keys", "new", "--id", "a1", "--identity", "dns:a.example", "--days", "30")
        run("keys", "rotate", "--id", "a2")
        run("keys", "rotate", "--id", "a3", "--in", "2h")
        ring = Keyring.from_file(RING)
        for name in ("a2", "a3"):
            key = ring.get(name)
            assert key is not None
            assert key.identity == "dns:a.example"
            assert key.not_before is not None
            assert key.not_after is not None
            assert key.not_after - key.not_before == timedelta(days=30)
        run("keys", "rotate", "--id", "a4", "--days", "5", "--in", "3h")
        last = Keyring.from_file(RING).get("a4")
        assert last is not None
        assert last.not_before is not None
        assert last.not_after == last.not_before + timedelta(days=5)

    def test_all(self, run: Run) -> None:
        for name in ("a", "b", "c"):
            run("keys", "new", "--id", name, "--identity", f"dns:{name}.example", "--days", "30")
        run("keys", "new", "--id", "everybody")
        run("keys", "new", "--id", "gone", "--identity", "dns:d.example", "--not-before", "2024-01-01", "--days", "9")
        run("keys", "rotate", "--identity", "dns:c.example")
        output = run("keys", "rotate", "--all").stdout
        ring = Keyring.from_file(RING)
        owners = [key.identity for key in ring]
        assert {owner: owners.count(owner) for owner in owners} == {
            "dns:a.example": 2, "dns:b.example": 2, "dns:c.example": 2, None: 2, "dns:d.example": 1,
        }  # fmt: skip
        assert output.count("added for") == 3
        assert output.count("added for every client, until revoked\n") == 1
        assert len({key.id for key in ring}) == len(owners)
        assert "nothing to rotate" in run("keys", "rotate", "--all").stdout
        run("keys", "rotate", "--all", "--id", "x", status=64)

    def test_which_of_several(self, run: Run) -> None:
        for name in ("a", "b"):
            run("keys", "new", "--id", name, "--identity", f"dns:{name}.example")
        says = (
            "has keys of several clients (dns:a.example, dns:b.example); name one with --identity, or rotate them --all"
        )
        assert says in run("keys", "rotate", status=1).stderr


def test_secrets_of_revoked_keys_go_with_the_copies(run: Run) -> None:
    run("keys", "new", "--id", "a")
    run("keys", "new", "--id", "b")
    lines = RING.read_text().splitlines()
    secret = lines[lines.index('id = "b"') + 1].split('"')[1]
    assert "of every client" in run("keys", "revoke", "b").stdout

    def holders() -> list[str]:
        return [path.name for path in RING.parent.iterdir() if secret in path.read_text()]

    assert len(holders()) == 1
    run("keys", "prune")
    assert len(holders()) == 1, "its time has not come"
    assert "removed certs/keyring.toml.2" in run("keys", "prune", "--older-than", "0s").stdout
    assert holders() == []

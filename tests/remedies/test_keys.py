"""Remedies that concern keyrings."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remedies.place import Place, covers
from sealwire.codec import RawCodec
from sealwire.envelope import Envelope
from sealwire.errors import ConfigurationError, SealwireError
from sealwire.trust.keyring import Keyring

RING = "certs/keyring.toml"
CLIENT = "dns:client.example"


def let_end(after: timedelta, *, start: timedelta = timedelta(days=-88)) -> None:
    """Let the key of the keyring end so long after now."""
    now = datetime.now(UTC).replace(microsecond=0)
    lines = [line for line in Path(RING).read_text().splitlines() if not line.startswith("not_")]
    lines += [f"not_before = {(now + start).isoformat()}", f"not_after = {(now + after).isoformat()}"]
    Path(RING).write_text("\n".join(lines) + "\n")


@covers("cli/remedies.py", "sealwire keys rotate --file {} * *")
@pytest.mark.parametrize("left", [timedelta(days=2), timedelta(minutes=10)])
def test_a_key_ends_soon(place: Place, left: timedelta) -> None:
    place.deploy()
    let_end(left)
    told = place.doctor()
    assert f"no key for {CLIENT} is valid after" in told
    place.follow(told, "sealwire keys rotate --file {} * *")
    assert "no key for" not in place.doctor()


@covers("cli/remedies.py", "sealwire keys new --file {} *")
@pytest.mark.parametrize("identity", [CLIENT, None])
def test_no_key_is_valid(place: Place, identity: str | None) -> None:
    place.deploy()
    if identity is None:
        Path(RING).unlink()
        place.says("keys", "new", "--days", "90")
    let_end(timedelta(days=-1))
    told = next(line for line in place.doctor().splitlines() if " is valid now" in line)
    place.follow(told, "sealwire keys new --file {} *")
    assert " is valid now" not in place.doctor()


@covers("cli/remedies.py", "sealwire keys rotate --file {} --days 90 *", "sealwire keys revoke {} --file {}")
def test_keys_without_an_end(place: Place) -> None:
    place.deploy()
    place.says("keys", "revoke", "k1", "--force", status=1)
    Path(RING).unlink()
    place.says("keys", "new", "--identity", CLIENT, "--id", "now")
    told = place.doctor()
    assert "key 'now' has no end" in told
    place.follow(told, "sealwire keys rotate --file {} --days 90 *")
    assert "has no end" not in place.doctor()
    place.says("keys", "new", "--identity", CLIENT, "--id", "later", "--not-before", "2100-01-01")
    told = place.doctor()
    assert "key 'later' has no end" in told
    place.follow(told, "sealwire keys revoke {} --file {}")
    assert "has no end" not in place.doctor()


@covers("cli/remedies.py", "sealwire keys new --file {} --identity CLIENT", "sealwire keys revoke {} --file {}")
def test_a_key_that_all_clients_share(place: Place) -> None:
    place.deploy()
    Path(RING).unlink()
    place.says("keys", "new", "--days", "90")
    told = place.doctor()
    assert "is bound to no identity" in told
    template = "sealwire keys new --file {} --identity CLIENT"
    place.follow(told, template, "sealwire keys revoke {} --file {}", CLIENT=CLIENT)
    assert "is bound to no identity" not in place.doctor()


@covers("trust/keyring.py", "sealwire keys new --file {}")
@pytest.mark.parametrize("content", [None, b'[[key]]\nid = "a"\nrevoked = true\n'])
def test_a_keyring_without_keys(place: Place, content: bytes | None) -> None:
    place.deploy()
    Path(RING).unlink()
    if content:
        Path(RING).write_bytes(content)
        Path(RING).chmod(0o600)
    told = place.says("status", "--config", "server.toml", status=2)
    place.follow(told, "sealwire keys new --file {}")
    place.says("status", "--config", "server.toml")


@covers("trust/key_snapshot.py", "sealwire keys new --file {}")
def test_a_client_without_a_valid_key(place: Place) -> None:
    place.deploy()
    let_end(timedelta(days=-1))
    ring = Keyring.from_file(RING)
    with pytest.raises(ConfigurationError) as caught:
        ring.signing_key(datetime.now(UTC))
    place.follow(str(caught.value), "sealwire keys new --file {}")
    assert Keyring.from_file(RING).signing_key(datetime.now(UTC))


@covers("trust/key_snapshot.py", "sealwire keys new --file {}")
@covers("envelope.py", "sealwire keys new --file queue.toml")
def test_a_key_for_envelopes(place: Place) -> None:
    place.deploy()

    def seal(keyring: str) -> bytes:
        return Envelope(Keyring.from_file(keyring), purpose="test", codec=RawCodec()).seal(b"x", lifetime=172_800)

    with pytest.raises(SealwireError) as caught:
        seal(RING)
    place.follow(str(caught.value), "sealwire keys new --file queue.toml")
    seal("queue.toml")
    place.says("keys", "new", "--file", "short.toml", "--days", "1")
    with pytest.raises(SealwireError) as caught:
        seal("short.toml")
    place.follow(str(caught.value), "sealwire keys new --file {}")
    seal("short.toml")


@covers("trust/key_snapshot.py", "sealwire keys new --file example.toml", "openssl rand -base64 32")
def test_a_keyring_that_is_not_one(place: Place) -> None:
    place.deploy()
    Path(RING).write_text("[[key]\n")
    place.follow(place.says("keys", "list", status=1), "sealwire keys new --file example.toml")
    shutil.copy("example.toml", RING)
    place.says("keys", "list")
    Path(RING).write_text('[[key]]\nid = "a"\nsecret = "short"\n')
    secret = place.follow(place.says("keys", "list", status=1), "openssl rand -base64 32")
    Path(RING).write_text(f'[[key]]\nid = "a"\nsecret = "{secret.strip()}"\n')
    place.says("keys", "list")


@covers("cli/keys/common.py", "sealwire keys list *")
def test_an_id_that_no_key_has(place: Place) -> None:
    place.deploy()
    assert "k1" in place.follow(place.says("keys", "show", "k7", status=1), "sealwire keys list *")


@covers("cli/keys/rotate.py", "sealwire keys new * *")
@pytest.mark.parametrize("which", [(), ("--identity", CLIENT)])
def test_no_key_to_rotate(place: Place, which: tuple[str, ...]) -> None:
    place.deploy()
    let_end(timedelta(days=-1))
    place.follow(place.says("keys", "rotate", *which, status=1), "sealwire keys new * *")
    place.says("keys", "rotate", *which)


@covers("cli/keys/rotate.py", "sealwire keys new *")
def test_no_key_would_be_left(place: Place) -> None:
    place.says("keys", "new", "--id", "only", "--file", "my keys.toml")
    told = place.says("keys", "revoke", "only", "--file", "my keys.toml", status=1)
    place.follow(told, "sealwire keys new *")
    place.says("keys", "revoke", "only", "--file", "my keys.toml")
    place.deploy()
    let_end(timedelta(days=-9))
    place.follow(place.says("keys", "prune", status=1), "sealwire keys new *")
    place.says("keys", "prune")


@covers("cli/keys/move.py", "sealwire keys new --identity {} *")
def test_nothing_to_export(place: Place) -> None:
    told = place.says("keys", "export", "--for", CLIENT, "--out", "out", status=1)
    place.follow(told, "sealwire keys new --identity {} *")
    place.says("keys", "export", "--for", CLIENT, "--out", "out")
    told = place.says("keys", "export", "--for", "dns:other.example", "--out", "out", status=1)
    place.follow(told, "sealwire keys new --identity {} *")
    place.says("keys", "export", "--for", "dns:other.example", "--out", "out")


@covers("cli/keys/move.py", "sealwire keys export --for CLIENT --out {}")
def test_nothing_to_import(place: Place) -> None:
    place.deploy()
    told = place.says("keys", "import", "my keys.toml", "--file", "client.toml", status=1)
    assert "keys new" not in told
    place.follow(told, "sealwire keys export --for CLIENT --out {}", CLIENT=CLIENT)
    place.says("keys", "import", "my keys.toml", "--file", "client.toml")


def on_a_terminal(place: Place, *words: str) -> str:
    """Return what a command prints whose standard input and output are a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as terminal, os.fdopen(ours, "rb"):
        done = subprocess.run(
            ["sealwire", *words], cwd=place.directory, env=place.environment, stdin=terminal, stdout=terminal,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


@covers("cli/keys/move.py", "sealwire keys import", "sealwire keys export --for CLIENT", "umask 077")
def test_secrets_go_to_no_terminal(place: Place) -> None:
    place.deploy()
    export = f"sealwire keys export --for {CLIENT}"
    told = on_a_terminal(place, *export.split()[1:])
    Path("client").mkdir()
    place.run(f"{export} > client/secret", status=1)
    told += place.run(f"{export} > client/secret", status=1)
    place.follow(told, "umask 077")
    Path("client/secret").unlink()
    place.run(f"umask 077 && {export} > client/secret")
    place.follow(told, "sealwire keys import", stdin=Path("client/secret").read_text(), at="client")
    assert "k1" in place.says("keys", "list", "--file", "client/certs/keyring.toml")
    told = on_a_terminal(place, "keys", "import")
    exported = place.follow(told, "sealwire keys export --for CLIENT", CLIENT=CLIENT)
    assert exported == Path("client/secret").read_text()

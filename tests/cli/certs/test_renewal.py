"""`sealwire certs renew --once` and `--daemon`, and `certs install`: whatever interrupts them, the files are usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509

from sealwire.cli import workdir
from sealwire.cli.app import app
from sealwire.cli.inventory import names_of
from sealwire.pki.authority import Issuer
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.trust.credentials import Credentials
from support.commands import Command, Run, certificate, sealwire

SERVER = Path("certs/server.pem")


def loaded(place: Path = Path("certs"), stem: str = "server") -> Credentials:
    return Credentials.from_files(cert=place / f"{stem}.pem", key=place / f"{stem}.key", ca=place / "ca.pem")


def aged(stem: str, age: timedelta, *, days: int = 3, place: Path = Path("certs"), name: str = "localhost") -> None:
    """Issue a certificate that began so long ago."""
    ca = Issuer.from_pem((place / "ca.pem").read_bytes(), (place / "ca.key").read_bytes())
    made = ca.issue(name, days=days, not_before=datetime.now(UTC) - age)
    files = (
        NewFile(place / f"{stem}.key", made.key_pem, PRIVATE),
        NewFile(place / f"{stem}.pem", made.cert_pem, PUBLIC),
    )
    write_files(files, replace=True)


class TestOnce:
    def test_what_is_due(self, ca: Run) -> None:
        aged("server", timedelta(hours=49))
        aged("later", timedelta(hours=46))
        before = certificate("certs/later.pem"), certificate("certs/client.pem"), certificate("certs/server.pem")
        output = ca("certs", "renew", "--once").stdout
        assert "wrote certs/server.pem" in output
        assert output.count("wrote") == 1
        assert (certificate("certs/later.pem"), certificate("certs/client.pem")) == before[:2]
        after = certificate("certs/server.pem")
        assert after.not_valid_after_utc - after.not_valid_before_utc == timedelta(days=3) - timedelta(seconds=1)
        assert ca("certs", "renew", "--once").stdout == "nothing to renew\n"
        assert "later.pem" in ca("certs", "renew", "--once", "--at", "60").stdout
        assert "client.pem" in ca("certs", "renew", "client", "--once", "--at", "0.001%").stdout

    def test_the_revocation_list_too(self, ca: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        ca("certs", "revoke", "client", "--days", "3")
        assert ca("certs", "renew", "--once").stdout == "nothing to renew\n"
        monkeypatch.setattr("sealwire.cli.certs.renew.datetime", _Clock)
        assert "revocation list number 2, 1 revoked" in ca("certs", "renew", "--once").stdout
        (crl,) = (x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes()),)
        assert crl.next_update_utc is not None
        assert crl.next_update_utc - crl.last_update_utc == timedelta(days=3, minutes=5)

    def test_then_a_command(self, ca: Run) -> None:
        aged("server", timedelta(hours=49))
        ca("certs", "renew", "--once", "--exec", 'for file in $SEALWIRE_RENEWED; do echo "$file"; done > told')
        assert Path("told").read_text().split() == [os.path.abspath(f"certs/server.{end}") for end in ("pem", "key")]
        Path("told").unlink()
        ca("certs", "renew", "--once", "--exec", "touch told")
        assert not Path("told").exists(), "nothing was renewed"
        assert (
            "`exit 7` ended with status 7; the new files"
            in ca("certs", "renew", "server", "--exec", "exit 7", status=1).stderr
        )

    def test_one_that_fails_does_not_keep_others_from_it(self, ca: Run) -> None:
        for stem in ("a", "server"):
            aged(stem, timedelta(hours=49))
        Path("certs/a.pem").write_text("garbage")
        result = ca("certs", "renew", "--once", status=1)
        assert "wrote certs/server.pem" in result.stdout
        assert result.stderr.startswith("Error: certs/a.pem: no certificate")

    def test_not_beyond_the_ca(self, ca: Run) -> None:
        """Ever shorter certificates would follow each other ever faster."""
        ca("certs", "init", "--dir", "short", "--days", "3", "--server", "localhost")
        aged("server", timedelta(hours=49), days=6, place=Path("short"))
        assert (
            "when the CA itself ends"
            in ca("certs", "renew", "--once", "--at", "30%", "--dir", "short", status=1).stderr
        )

    @pytest.mark.parametrize(
        "arguments",
        ["--once --daemon", "--daemon --within 3", "--at 66% --within 3 server", "--at 0 server", "--at 100% server",
         "--at x server", "--at nan server", "server --all", ""],
    )  # fmt: skip
    def test_usage(self, ca: Run, arguments: str) -> None:
        ca("certs", "renew", *arguments.split(), status=64)


class _Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(hours=50)


def test_the_daemon(tmp_path: Path) -> None:
    """It renews what is due now, and what is due later when it is."""
    sealwire(tmp_path, "certs", "init")
    certs = tmp_path / "certs"
    aged("first", timedelta(hours=49), place=certs)
    aged("second", timedelta(hours=72) * 0.66 - timedelta(seconds=3), place=certs)
    with Command(tmp_path, "certs", "renew", "--daemon", "--exec", "echo told $SEALWIRE_RENEWED") as daemon:
        told = ""
        # On a busy machine the second may be due at the first look already.
        while not all(f" {certs}/{stem}.pem {certs}/{stem}.key" in told for stem in ("first", "second")):
            line = daemon.stdout.readline()
            assert line
            told += line if line.startswith("told") else ""
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == -signal.SIGTERM
    loaded(certs, "first")
    loaded(certs, "second")


def test_the_daemon_tells_again_what_a_command_did_not_hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Over(Exception):
        pass

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise Over

    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.chdir(tmp_path)
    sealwire(tmp_path, "certs", "init")
    aged("server", timedelta(hours=49))
    # It fails twice.
    command = 'echo "$SEALWIRE_RENEWED" >> told; test "$(wc -l < told)" -gt 2'
    result = CliRunner().invoke(app, ["certs", "renew", "--daemon", "--exec", command])
    assert isinstance(result.exception, Over)
    assert len(set(Path("told").read_text().splitlines())) == 1
    assert Path("told").read_text().count("\n") == 3, "and never again"
    assert result.stderr.count("ended with status 1") == 2
    assert pauses[0] < pauses[1] < pauses[2] == pauses[3] == 3601


INSTALL = ("certs", "install", "server")


@pytest.fixture
def renewal(ca: Run) -> Run:
    """There is a renewed certificate of the server, which was requested and signed, but not installed."""
    ca("certs", "request", "server", "localhost")
    ca("certs", "sign", "certs/server.new.csr")
    return ca


class TestInstall:
    def test_both_at_once(self, ca: Run) -> None:
        before = SERVER.read_bytes(), Path("certs/server.key").read_bytes()
        assert "server.new.key" in ca("certs", "request", "server", "localhost").stdout
        assert "a request was made before" in ca("certs", "request", "server", "localhost", status=1).stderr
        ca("certs", "request", "server", "localhost", "--force")
        assert "cannot be read" in ca(*INSTALL, status=1).stderr
        assert (SERVER.read_bytes(), Path("certs/server.key").read_bytes()) == before
        os.mkdir("authority")
        os.rename("certs/ca.key", "authority/ca.key")
        Path("authority/ca.pem").write_bytes(Path("certs/ca.pem").read_bytes())
        ca("certs", "sign", "certs/server.new.csr", "--dir", "authority", "--as", "signed")
        following = loaded()
        ca(*INSTALL, "authority/signed.pem")
        assert following.reload()
        assert following.leaf != loaded(stem="client").leaf
        assert SERVER.read_bytes() == Path("authority/signed.pem").read_bytes()
        assert Path("certs/server.key").read_bytes().count(b"BEGIN") == 1
        assert not list(Path("certs").glob("*.new.???"))
        assert "not there" in ca(*INSTALL, status=1).stderr

    def test_the_next_one_is_signed_over_the_last(self, renewal: Run) -> None:
        renewal("certs", "request", "server", "localhost", "--force")
        renewal("certs", "sign", "certs/server.new.csr")
        renewal(*INSTALL)
        loaded()

    def test_the_same_names_by_default(self, ca: Run) -> None:
        names = ("dns:a.example", "ip:192.0.2.1", "spiffe://example.org/a")
        ca("certs", "issue", "peer", *names)
        ca("certs", "request", "peer")
        ca("certs", "sign", "certs/peer.new.csr")
        ca("certs", "install", "peer")
        assert names_of(certificate("certs/peer.pem")) == names
        assert "such as a host name" in ca("certs", "request", "client", "--as", "other", status=64).stderr

    def test_all_renews_nothing_that_waits(self, renewal: Run) -> None:
        assert "server.new" not in renewal("certs", "renew", "--all").stdout

    @pytest.mark.parametrize(
        ("names", "profile", "says"),
        [(["other.example"], "server", "lacks 1 of the names"), (["localhost"], "client", "is not for TLS servers")],
    )
    def test_what_a_running_server_would_refuse(self, ca: Run, names: list[str], profile: str, says: str) -> None:
        before = SERVER.read_bytes()
        ca("certs", "request", profile, *names, "--as", "server")
        ca("certs", "sign", "certs/server.new.csr")
        assert says in ca(*INSTALL, status=1).stderr
        assert SERVER.read_bytes() == before
        assert Path("certs/server.new.key").exists()

    def test_of_another_key(self, renewal: Run) -> None:
        assert "not the private key" in renewal(*INSTALL, "certs/client.pem", status=1).stderr


STEPS = [("certs", "renew", "server"), INSTALL, ("certs", "issue", "server", "localhost", "--force")]


def stopped(arguments: tuple[str, ...], number: int, stop: Callable[[], None]) -> int:
    """Run a command in a child process that calls ``stop`` in place of a renaming; returns its status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        left, real = [number], os.replace

        def replace(*names: Any) -> None:
            if left[0] == 0:
                stop()
            left[0] -= 1
            real(*names)

        os.replace = replace  # in the child alone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        app(arguments)
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else 99)
    finally:
        os._exit(98)
    raise AssertionError


@pytest.mark.parametrize("arguments", STEPS, ids=lambda arguments: arguments[1])
@pytest.mark.parametrize("number", range(4))
def test_killed_between_two_files(renewal: Run, arguments: tuple[str, ...], number: int) -> None:
    status = stopped(arguments, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert status == (0 if number == 3 else -signal.SIGKILL), "three names are replaced"
    loaded()
    renewal("certs", "renew", "server")
    loaded()
    assert Path("certs/server.key").read_bytes().count(b"BEGIN") == 1


@pytest.mark.parametrize("arguments", STEPS, ids=lambda arguments: arguments[1])
def test_watched_between_two_files(renewal: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    following, real = loaded(), os.replace
    seen = [following.leaf]

    def replace(*names: Any) -> None:
        real(*names)
        assert following.reload()
        seen.append(following.leaf)

    monkeypatch.setattr(os, "replace", replace)
    renewal(*arguments)
    assert len(seen) == 4
    assert len(set(seen)) == 2
    assert following.status().refusals == 0


@pytest.mark.parametrize("arguments", STEPS, ids=lambda arguments: arguments[1])
def test_a_full_disk(renewal: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path("certs").iterdir() if path.suffix != ".lock"}

    before = content()
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "sealwire", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    # `install` tries the new pair before it writes anything here.
    assert done.stderr == f"Error: {'' if arguments == INSTALL else 'certs/server.key: '}File too large\n"
    assert content() == before
    loaded()


def test_several_at_a_time(tmp_path: Path) -> None:
    sealwire(tmp_path, "certs", "init", "--server", "localhost")
    commands = [Command(tmp_path, *arguments) for arguments in (STEPS[0], STEPS[2]) * 4]
    for command in commands:
        with command:
            assert command.finish().returncode == 0
    loaded(tmp_path / "certs")
    assert (tmp_path / "certs/server.key").read_bytes().count(b"BEGIN") == 1


def test_old_copies_are_removed_after_their_time(ca: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ca("certs", "renew", "server")
    ca("keys", "new")
    ca("keys", "new")
    Path("certs/notes.2026-01-01T00-00-00Z").write_text("of the user's own")
    Path("certs/.server.key.0123456789abcdef").write_text("of a process that was killed")
    os.mkdir("certs/a.toml.1999-01-01T00-00-00Z")
    names = sorted(path.name for path in Path("certs").iterdir())
    assert sum(".key.2" in name or ".toml.2" in name for name in names) == 2
    ca("certs", "renew", "client")
    assert {*names} < {path.name for path in Path("certs").iterdir()}
    monkeypatch.setattr(workdir, "KEEP_SECRETS", timedelta(0))
    output = ca("certs", "renew", "--once").stdout
    left = {path.name for path in Path("certs").iterdir()}
    assert not any(".key.2" in name or ".toml.2" in name or name.endswith("abcdef") for name in left)
    assert "removed certs/server.key.2" in output
    assert any(name.startswith("server.pem.2") for name in left), "to be revoked by its name"
    assert "notes.2026-01-01T00-00-00Z" in left


def test_a_certificate_that_was_replaced_is_revoked_with_the_others(ca: Run) -> None:
    ca("certs", "init", "--dir", "old", "--client", "client.example")
    ca("certs", "renew", "client", "--dir", "old")
    for path in Path("old").glob("client.pem.2*"):
        os.rename(path, Path("certs", f"{path.name}.1"))  # of the CA before, which has its own list
    serials = {certificate("certs/client.pem").serial_number}
    ca("certs", "renew", "client")
    serials.add(certificate("certs/client.pem").serial_number)
    output = ca("certs", "revoke", "dns:client.example").stdout
    for serial in serials:
        assert f"revoked: dns:client.example, serial {serial:x} (certs/client.pem" in output
    assert {each.serial_number for each in x509.load_pem_x509_crl(Path("certs/crl.pem").read_bytes())} == serials
    assert "already revoked: dns:client.example" in ca("certs", "revoke", "client").stdout

"""`sealwire certs init` and `issue`."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sealwire.trust.credentials import Credentials
from support.commands import Command, Run, certificate, mode


class TestInit:
    @pytest.fixture
    def ca(self, run: Run) -> Run:
        run("certs", "init")
        return run

    def test_makes_a_ca(self, run: Run) -> None:
        output = run("certs", "init").stdout
        assert sorted(os.listdir("certs")) == [".gitignore", "ca.key", "ca.pem"]
        assert (mode("certs"), mode("certs/ca.key"), mode("certs/ca.pem")) == (0o700, 0o600, 0o644)
        assert "Next: `sealwire certs issue server localhost 127.0.0.1`" in output
        assert "BEGIN" not in output

    def test_options(self, run: Run) -> None:
        arguments = "--dir", "else where", "--name", "Prod CA", "--days", "30", "--key-type", "ed25519"
        output = run("certs", "init", *arguments).stdout
        made = certificate("else where/ca.pem")
        assert made.subject.rfc4514_string() == "CN=Prod CA"
        assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=30) - timedelta(seconds=1)
        assert isinstance(made.public_key(), ed25519.Ed25519PublicKey)
        assert "sealwire certs issue server localhost 127.0.0.1 --dir 'else where'" in output

    def test_never_replaces_a_ca_unasked(self, ca: Run) -> None:
        before = Path("certs/ca.key").read_bytes(), Path("certs/ca.pem").read_bytes()
        assert "--force" in ca("certs", "init", status=1).stderr
        assert (Path("certs/ca.key").read_bytes(), Path("certs/ca.pem").read_bytes()) == before
        output = ca("certs", "init", "--force").stdout
        assert Path("certs/ca.key").read_bytes() != before[0]
        kept = sorted(set(os.listdir("certs")) - {".gitignore", ".ca.pem.lock", "ca.key", "ca.pem"})
        assert [Path("certs", name).read_bytes() for name in kept] == list(before)
        assert [mode(f"certs/{name}") for name in kept] == [0o600, 0o644]
        assert all(f"kept certs/{name}: " in output for name in kept)
        assert "ca.key.2" in kept[0]
        assert len(json.loads(ca("certs", "list", "--json").stdout)) == 1, "what was kept is not listed"

    def test_leaves_a_lone_trust_anchor_alone(self, run: Run) -> None:
        Path("certs").mkdir()
        Path("certs/ca.pem").write_text("somebody else's")
        assert "certs/ca.pem: already there" in run("certs", "init", status=1).stderr
        assert os.listdir("certs") == ["ca.pem"], "no key without its certificate"

    def test_two_at_once_make_one_ca(self, run: Run) -> None:
        with ExitStack() as stack:
            commands = [stack.enter_context(Command(Path.cwd(), "certs", "init")) for _ in range(4)]
            assert sorted(command.finish().returncode for command in commands) == [0, 1, 1, 1]
        run("certs", "issue", "server", "localhost")  # for which key and certificate must belong together

    def test_refuses_days(self, run: Run) -> None:
        run("certs", "init", "--days", "0", status=64)
        run("certs", "init", "--days", "9133", status=64)
        assert not Path("certs").exists()

    def test_refuses_a_name(self, run: Run) -> None:
        assert "64 bytes" in run("certs", "init", "--name", "x" * 65, status=64).stderr
        assert not Path("certs").exists()


class TestInitWithLeaves:
    def test_makes_all_in_one_command(self, run: Run) -> None:
        names = ("--server", "localhost", "--server", "127.0.0.1", "--client", "client.example")
        output = run("certs", "init", *names).stdout
        made = {"ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem"}
        assert set(os.listdir("certs")) == made | {".gitignore"}
        assert "dns:client.example" in output
        for leaf, purpose in (("server", "sslserver"), ("client", "sslclient")):
            verify = ["openssl", "verify", "-CAfile", "certs/ca.pem", "-purpose", purpose, f"certs/{leaf}.pem"]
            assert subprocess.run(verify, capture_output=True).returncode == 0

    def test_writes_nothing_when_a_name_is_wrong(self, run: Run) -> None:
        assert "not a name" in run("certs", "init", "--server", "not a name", status=64).stderr
        assert not Path("certs").exists()

    def test_writes_nothing_when_a_leaf_is_there(self, run: Run) -> None:
        run("certs", "init", "--client", "client.example")
        for name in ("ca.pem", "ca.key", "client.key"):
            Path("certs", name).unlink()
        run("certs", "init", "--client", "client.example", status=1)
        assert sorted(os.listdir("certs")) == [".gitignore", "client.pem"]


class TestIssue:
    @pytest.fixture
    def ca(self, run: Run) -> Run:
        run("certs", "init")
        return run

    def test_a_server(self, ca: Run) -> None:
        output = ca("certs", "issue", "server", "localhost", "127.0.0.1").stdout
        assert (mode("certs/server.key"), mode("certs/server.pem")) == (0o600, 0o644)
        assert Path("certs/server.pem").read_text().count("BEGIN") == 1, "the leaf alone"
        loaded = Credentials.from_files(cert="certs/server.pem", key="certs/server.key", ca="certs/ca.pem")
        assert loaded.identity is not None
        assert (loaded.identity.dns, loaded.identity.ip) == (("localhost",), ("127.0.0.1",))
        assert f"sha256:{loaded.identity.fingerprint}" in output
        assert "dns:localhost, ip:127.0.0.1" in output
        assert "90 days" in output
        assert "PRIVATE" not in output

    @pytest.mark.parametrize(
        ("profile", "purposes"),
        [("server", ["sslserver"]), ("client", ["sslclient"]), ("peer", ["sslserver", "sslclient"])],
    )
    def test_openssl_verifies(self, ca: Run, profile: str, purposes: list[str]) -> None:
        ca("certs", "issue", profile, "a.example")
        accepted = [
            purpose
            for purpose in ("sslserver", "sslclient")
            if not subprocess.run(
                ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", purpose, f"{profile}.pem"],
                cwd="certs",
                capture_output=True,
                check=False,
            ).returncode
        ]
        assert accepted == purposes
        check = subprocess.run(
            ["openssl", "pkey", "-in", f"certs/{profile}.key", "-check", "-noout"], check=True, capture_output=True
        )
        assert b"valid" in check.stdout

    def test_under_another_name(self, ca: Run) -> None:
        ca("certs", "issue", "client", "spiffe://prod/billing/worker", "--as", "billing", "--days", "7")
        made = certificate("certs/billing.pem")
        assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=7) - timedelta(seconds=1)
        assert not Path("certs/client.pem").exists()

    def test_ed25519(self, ca: Run) -> None:
        ca("certs", "issue", "server", "localhost", "--key-type", "ed25519")
        key = load_pem_private_key(Path("certs/server.key").read_bytes(), None)
        assert isinstance(key, ed25519.Ed25519PrivateKey)

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_modes_whatever_the_umask(self, run: Run, umask: int) -> None:
        before = os.umask(umask)
        try:
            run("certs", "init")
            run("certs", "issue", "server", "localhost")
        finally:
            os.umask(before)
        assert [mode(f"certs/{name}.key") for name in ("ca", "server")] == [0o600, 0o600]
        assert [mode(f"certs/{name}.pem") for name in ("ca", "server")] == [0o644 & ~umask] * 2

    def test_never_overwrites_unasked(self, ca: Run) -> None:
        ca("certs", "issue", "server", "localhost")
        before = Path("certs/server.key").read_bytes()
        error = ca("certs", "issue", "server", "localhost", status=1).stderr
        assert "certs/server.key: already there" in error
        assert "--force, or choose another name with --as" in error
        assert Path("certs/server.key").read_bytes() == before
        ca("certs", "issue", "server", "localhost", "--force")
        assert Path("certs/server.key").read_bytes() != before
        Credentials.from_files(cert="certs/server.pem", key="certs/server.key", ca="certs/ca.pem")
        assert mode("certs/server.key") == 0o600

    @pytest.mark.parametrize("force", [[], ["--force"]])
    def test_writes_no_key_through_a_symbolic_link(self, ca: Run, force: list[str]) -> None:
        Path("target").write_text("somebody's")
        Path("certs/server.key").symlink_to("../target")
        ca("certs", "issue", "server", "localhost", *force, status=0 if force else 1)
        assert Path("target").read_text() == "somebody's"
        assert Path("certs/server.key").is_symlink() is not bool(force)

    def test_needs_a_ca(self, run: Run) -> None:
        error = run("certs", "issue", "server", "localhost", "--dir", "a b", status=1).stderr
        assert "a b/ca.pem: not there" in error
        assert "sealwire certs init --dir 'a b'" in error

    def test_wants_the_cas_key_private(self, ca: Run) -> None:
        Path("certs/ca.key").chmod(0o640)
        assert "chmod 600 certs/ca.key" in ca("certs", "issue", "server", "localhost", status=1).stderr

    def test_a_broken_ca(self, ca: Run) -> None:
        Path("certs/ca.pem").write_text("s3cret")
        error = ca("certs", "issue", "server", "localhost", status=1).stderr
        assert error.startswith("Error: certs/ca.pem and ca.key: the CA's certificate: no certificate in PEM form")
        assert "s3cret" not in error

    @pytest.mark.parametrize("stem", ["ca", "CA", "", ".", "..", "../x", "a/b", ".hidden", "-x", "a\nb", "ü"])
    def test_refuses_file_names(self, ca: Run, stem: str) -> None:
        ca("certs", "issue", "server", "localhost", f"--as={stem}", status=64)
        assert sorted(os.listdir("certs")) == [".gitignore", "ca.key", "ca.pem"]

    @pytest.mark.parametrize("names", [["localhost:8443"], ["bücher.example"], ["ops@a.example"], ["spiffe://prod"]])
    def test_refuses_names(self, ca: Run, names: list[str]) -> None:
        error = ca("certs", "issue", "server", *names, status=64).stderr
        assert "Error: Invalid value for " in error
        ca("certs", "request", "server", *names, status=64)
        assert sorted(os.listdir("certs")) == [".gitignore", "ca.key", "ca.pem"]

    def test_usage(self, ca: Run) -> None:
        ca("certs", "issue", "server", status=64)
        ca("certs", "issue", "root", "localhost", status=64)
        ca("certs", "issue", "server", "localhost", "--days", "91", status=64)

"""`sealwire status` and `sealwire doctor`: of good configurations, bad ones, and running servers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from sealwire import Security, ThreadingTCPServer
from sealwire.testing import Throwaway
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.tls.issue import create_ca
from support.service import running

Run = Callable[..., Result]


class Place:
    """A server's and a client's configuration in the current directory, as a careful person would make them."""

    def __init__(self, directory: Path, run: Run) -> None:
        self.directory = directory
        self.run = run
        run("certs", "init", "--dir", "authority", "--server", "localhost", "--client", "client.example")
        for role, more in (("server", 'peers = ["dns:client.example"]\n'), ("client", "")):
            home = directory / role
            home.mkdir(mode=0o700)
            for name in (f"{role}.pem", f"{role}.key"):
                os.rename(f"authority/{name}", home / name)
            (home / "ca.pem").write_bytes(Path("authority/ca.pem").read_bytes())
            run("certs", "crl", "--dir", "authority", "--days", "30")
            (home / "crl.pem").write_bytes(Path("authority/crl.pem").read_bytes())
            (home / "sealwire.toml").write_text(
                f'cert = "{role}.pem"\nkey = "{role}.key"\nca = "ca.pem"\ncrl = "crl.pem"\n'
                f'keyring = "keyring.toml"\n{more}'
            )
        ring = "server/keyring.toml"
        run("keys", "new", "--file", ring, "--id", "k1", "--days", "90", "--identity", "dns:client.example")
        write_files([NewFile(directory / "client" / "keyring.toml", Path(ring).read_bytes(), PRIVATE)])

    def config(self, role: str) -> str:
        return str(self.directory / role / "sealwire.toml")

    def replace(self, role: str, name: str, content: bytes) -> None:
        path = self.directory / role / name
        write_files([NewFile(path, content, PRIVATE if name.endswith(".key") else PUBLIC)], replace=True)

    def leaf(self, role: str, *names: str, **options: Any) -> None:
        from sealwire.tls.issue import Issuer

        ca = Issuer.from_pem(Path("authority/ca.pem").read_bytes(), Path("authority/ca.key").read_bytes())
        made = ca.issue(*names, **({"profile": role} | options))
        self.replace(role, f"{role}.key", made.key_pem)
        self.replace(role, f"{role}.pem", made.cert_pem)

    def findings(self, role: str, *arguments: str, status: int) -> list[str]:
        """What doctor finds, as "severity what"."""
        output = self.run("doctor", "--config", self.config(role), "--json", *arguments, status=status).stdout
        return [f"{each['severity']} {each['where']}: {each['what']}" for each in json.loads(output)]


@pytest.fixture
def place(tmp_path: Path, run: Run) -> Place:
    return Place(tmp_path, run)


@pytest.fixture
def port(place: Place) -> Iterator[int]:
    security = Security.from_toml(place.config("server"))
    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, security)) as port:
        yield port


class TestStatus:
    def test_all_is_well(self, place: Place) -> None:
        output = place.run("status", "--config", place.config("server")).stdout
        for text in ("dns:localhost", "builds to the trust anchors", "list ", "k1 (for dns:client.example)", "89 days"):
            assert text in output, text
        found = json.loads(place.run("status", "--json", "--config", place.config("server")).stdout)
        assert found["findings"] == []
        assert found["keys"]["signing"] == {"dns:client.example": {"now": "k1", "next": ""}}
        digest = Security.from_toml(place.config("server")).status().credentials.digest
        assert found["credentials"]["digest"] == digest

    def test_which_key_is_next(self, place: Place) -> None:
        place.run("keys", "rotate", "--file", "server/keyring.toml", "--id", "k2", "--identity", "dns:client.example")
        output = place.run("status", "--config", place.config("server"), "--warn", "0").stdout
        assert "k1, then k2" in output

    def test_soon(self, place: Place) -> None:
        place.leaf("server", "localhost", days=5)
        output = place.run("status", "--config", place.config("server"), status=1).stdout
        assert "warning:" in output
        assert "sealwire certs renew" in output
        place.run("status", "--config", place.config("server"), "--warn", "2")

    def test_what_cannot_be_loaded(self, place: Place) -> None:
        place.leaf("server", "localhost", days=1, not_before=datetime.now(UTC) - timedelta(days=3))
        assert "expired at" in place.run("status", "--config", place.config("server"), status=2).stderr
        found = json.loads(place.run("status", "--json", "--config", place.config("server"), status=2).stdout)
        assert found["findings"][0]["severity"] == "critical"
        place.run("status", "--config", "nowhere.toml", status=2)

    def test_no_key_soon(self, place: Place) -> None:
        place.run(
            "keys",
            "new",
            "--file",
            "client/keyring.toml",
            "--id",
            "short",
            "--identity",
            "dns:b.example",
            "--days",
            "3",
        )
        output = place.run("status", "--config", place.config("client"), status=1).stdout
        assert "no key for dns:b.example is valid in 14 days" in output

    def test_a_running_server(self, place: Place, port: int) -> None:
        arguments = "status", "--config", place.config("server"), f"localhost:{port}"
        assert "server shows" in place.run(*arguments).stdout
        place.replace("server", "server.pem", Path("server/server.pem").read_bytes())
        running_leaf = Path("server/server.pem").read_bytes(), Path("server/server.key").read_bytes()
        place.leaf("client", "client.example")
        other = "status", "--config", place.config("client"), f"localhost:{port}"
        assert "shows another certificate" in place.run(*other, status=2).stdout
        assert running_leaf[0].startswith(b"-----BEGIN")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"localhost:{silent.getsockname()[1]}"
        assert "cannot be asked" in place.run("status", "--config", place.config("server"), address, status=2).stdout

    @pytest.mark.parametrize("address", ["localhost", ":1", "localhost:0", "localhost:99999", "a:b:1"])
    def test_addresses(self, place: Place, address: str) -> None:
        place.run("status", "--config", place.config("server"), address, status=2)


class TestDoctor:
    def test_nothing_is_wrong(self, place: Place, port: int) -> None:
        assert "nothing is wrong" in place.run("doctor", "--config", place.config("server")).stdout
        assert "nothing is wrong" in place.run("doctor", "--config", place.config("client"), f"localhost:{port}").stdout

    def test_modes(self, place: Place) -> None:
        os.chmod("server/server.key", 0o644)
        os.chmod("server", 0o777)
        found = place.findings("server", status=2)
        assert any("server.key: mode 0644 lets others at the secret" in each for each in found)
        assert any("/server: mode 0777 lets others put other files there" in each for each in found)
        os.chmod("server/keyring.toml", 0o640)
        assert any("keyring.toml: mode 0640" in each for each in place.findings("server", status=2))

    def test_files_that_are_not_there(self, place: Place) -> None:
        os.unlink("server/ca.pem")
        found = place.findings("server", status=2)
        assert any("ca.pem: cannot be read" in each for each in found)
        assert "no such" not in str(found).lower() or found

    def test_a_clock(self, place: Place) -> None:
        later = datetime.now().timestamp() + 3600
        os.utime("server/ca.pem", (later, later))
        assert any("written in the future" in each for each in place.findings("server", status=1))

    def test_the_cas_key(self, place: Place) -> None:
        Path("server/ca.key").write_bytes(b"")
        assert any("private key is on this machine" in each for each in place.findings("server", status=0))

    def test_wrong_use_and_wrong_name(self, place: Place) -> None:
        place.leaf("server", "other.example", profile="client")
        found = place.findings("server", "localhost:1", status=2)
        assert any("not for TLS servers" in each for each in found)
        assert any("the certificate is not for localhost" in each for each in found)

    def test_another_ca(self, place: Place) -> None:
        place.replace("server", "ca.pem", create_ca("other").cert_pem)
        os.rename("server/sealwire.toml", "x.toml")
        text = Path("x.toml").read_text().replace('crl = "crl.pem"\n', "")
        Path("server/sealwire.toml").write_text(text)
        found = place.findings("server", status=0)
        assert any("does not build to the trust anchors" in each for each in found)
        assert any("no revocation list" in each for each in found)

    def test_peers_and_keys(self, place: Place) -> None:
        path = Path("server/sealwire.toml")
        text = path.read_text()
        path.write_text(text.replace('["dns:client.example"]', '"any-signed-by-ca"'))
        place.run("keys", "new", "--file", "server/keyring.toml", "--id", "k3")
        found = place.findings("server", status=0)
        assert any("everybody with a certificate of the CA" in each for each in found)
        assert any("'k3' is bound to no identity" in each for each in found)
        assert any("'k3' has no end" in each for each in found)
        path.write_text(text.replace('["dns:client.example"]', '["anonymous"]'))
        assert any("without a certificate may connect" in each for each in place.findings("server", status=0))

    def test_types(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("risky.py").write_text(
            "from dataclasses import dataclass\nfrom typing import Any\n@dataclass\nclass Order:\n    a: Any\n"
        )
        monkeypatch.syspath_prepend(place.directory)
        path = Path("server/sealwire.toml")
        path.write_text(path.read_text() + '[allowlist]\ntypes = ["risky:Order"]\n')
        assert any(
            "risky.Order: a peer puts any accepted value into a" in each for each in place.findings("server", status=0)
        )

    def test_a_server_that_is_not_there(self, place: Place) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            number = closed.getsockname()[1]
        assert any(
            "cannot be connected to" in each for each in place.findings("client", f"localhost:{number}", status=2)
        )

    def test_something_else_there(self, place: Place) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=5) as other:
            number = other.getsockname()[1]
            import threading

            def hang_up() -> None:
                for _ in range(2):
                    other.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            found = place.findings("client", f"localhost:{number}", status=2)
            thread.join(10)
        assert any("does not complete TLS" in each for each in found)

    def test_a_key_that_the_server_does_not_have(self, place: Place, port: int) -> None:
        os.unlink("client/keyring.toml")
        place.run(
            "keys",
            "new",
            "--file",
            "client/keyring.toml",
            "--id",
            "k9",
            "--days",
            "99",
            "--identity",
            "dns:client.example",
        )
        found = place.findings("client", f"localhost:{port}", status=2)
        assert any("not authorised" in each for each in found)

    def test_a_servers_configuration_asks_no_further(self, place: Place, port: int) -> None:
        assert any("was not tried further" in each for each in place.findings("server", f"localhost:{port}", status=0))

    def test_weak_keys(self, place: Place) -> None:
        import subprocess

        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-days", "400",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        place.replace("server", "server.key", Path("k").read_bytes())
        place.replace("server", "server.pem", Path("c").read_bytes())
        found = place.findings("server", status=0)
        assert any("RSA with 2048 bits" in each for each in found)
        assert any("lives 400 days" in each for each in found)


def test_a_throwaway_has_a_status(tmp_path: Path) -> None:
    place = Throwaway(tmp_path)
    found = place.security("server", "localhost").status()
    assert found.refusals == []

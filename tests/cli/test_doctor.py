"""`sealwire doctor`: of good configurations, bad ones, and running servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from sealwire.pki.authority import create_ca
from sealwire.testing import Throwaway
from support.certificates import make, make_ca, make_crl
from support.commands import Configured


class TestDoctor:
    def test_nothing_is_wrong(self, place: Configured, port: int) -> None:
        assert "nothing is wrong" in place.run("doctor", "--config", place.config("server")).stdout
        assert "nothing is wrong" in place.run("doctor", "--config", place.config("client"), f"localhost:{port}").stdout

    def test_paths_have_one_form(self, place: Configured) -> None:
        place.run("keys", "new", "--file", "server/keyring.toml")
        os.chmod("server/server.key", 0o644)
        os.chmod("server", 0o777)
        for config, form in ((place.config("server"), f"{place.directory}/server"), ("server/sealwire.toml", "server")):
            os.chmod("server/sealwire.toml", 0o644)
            output = place.run("doctor", "--config", config, "--json", status=2).stdout
            where = {each["where"] for each in json.loads(output)}
            assert {form, f"{form}/server.key"} <= where
            assert all(each.startswith(form) for each in where)
            os.chmod("server", 0o700)
            output = place.run("doctor", "--config", config, "--json", status=0).stdout
            assert {each["where"] for each in json.loads(output)} == {f"{form}/server.key", f"{form}/keyring.toml"}
            os.chmod("server", 0o777)

    def test_any_form_of_address(self, place: Configured, port: int) -> None:
        config = "doctor", "--config", place.config("client")
        assert "nothing is wrong" in place.run(*config, f"localhost:{port},127.0.0.1:{port}").stdout
        told = place.run(*config, "udp://localhost:1", status=2).stdout
        assert "critical" in told
        assert "check that the server runs" in told
        assert "a Unix socket has no host name" in place.run(*config, "unix:/nope", status=2).stdout

    def test_a_fixed_seed_of_hashes(self, place: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONHASHSEED", "0")
        (found,) = (each for each in place.findings("server", status=1) if "PYTHONHASHSEED=0" in each)
        assert "a peer can choose keys of one hash" in found

    def test_modes(self, place: Configured) -> None:
        os.chmod("server/server.key", 0o644)
        os.chmod("server", 0o777)
        found = place.findings("server", status=2)
        assert any("server.key: mode 0644 lets other users open it" in each for each in found)
        assert any("/server: mode 0777 lets other users put files there" in each for each in found)
        os.chmod("server/keyring.toml", 0o640)
        assert any("keyring.toml: mode 0640" in each for each in place.findings("server", status=2))

    def test_files_that_are_not_there(self, place: Configured) -> None:
        os.unlink("server/ca.pem")
        found = place.findings("server", status=2)
        assert any("ca.pem: cannot be read" in each for each in found)
        assert "no such" not in str(found).lower() or found

    def test_a_clock(self, place: Configured) -> None:
        later = datetime.now().timestamp() + 3600
        os.utime("server/ca.pem", (later, later))
        assert any("written in the future" in each for each in place.findings("server", status=1))

    def test_the_cas_key(self, place: Configured) -> None:
        Path("server/ca.key").write_bytes(b"")
        assert any("private key is on this machine" in each for each in place.findings("server", status=0))

    def test_wrong_use_and_wrong_name(self, place: Configured) -> None:
        place.leaf("server", "other.example", profile="client")
        found = place.findings("server", "localhost:1", status=2)
        assert any("not for TLS servers" in each for each in found)
        assert any("the certificate is not for localhost" in each for each in found)

    def test_a_name_that_the_certificate_lacks(self, place: Configured) -> None:
        config = Path(place.config("server"))
        config.write_text('names = ["localhost", "alias.example"]\n' + config.read_text())
        found = [each for each in place.findings("server", status=0) if "one of names" in each]
        assert len(found) == 1
        assert "the certificate is not for alias.example" in found[0]

    def test_another_ca(self, place: Configured) -> None:
        place.replace("server", "ca.pem", create_ca("other").cert_pem)
        os.rename("server/sealwire.toml", "x.toml")
        text = Path("x.toml").read_text().replace('crl = "crl.pem"\n', "")
        Path("server/sealwire.toml").write_text(text)
        found = place.findings("server", status=0)
        assert any("does not build to the trust anchors" in each for each in found)
        assert any("no revocation list" in each for each in found)

    def test_a_forgotten_intermediate(self, place: Configured) -> None:
        """OpenSSL takes it from the trust anchors, and everything seems to be well."""
        root = make_ca()
        between = make_ca("between", issuer=root)
        own = make("localhost", issuer=between)
        place.replace("server", "server.key", own.key_pem)
        place.replace("server", "ca.pem", root.pem + between.pem)
        place.replace("server", "crl.pem", make_crl(between))
        for chain, found in ((own.pem, True), (own.pem + between.pem, False)):
            place.replace("server", "server.pem", chain)
            told = place.findings("server", "--warn", "14", status=1)
            assert any("server.pem: the chain lacks an intermediate certificate" in each for each in told) is found
            output = place.run("status", "--config", place.config("server"), "--warn", "14", status=1).stdout
            assert ("but only with an intermediate certificate that ca has" in output) is found
        place.replace("server", "server.pem", own.pem + between.pem + root.pem)
        assert any("has a root CA besides the chain" in each for each in place.findings("server", status=0))

    def test_peers_and_keys(self, place: Configured) -> None:
        path = Path("server/sealwire.toml")
        text = path.read_text()
        path.write_text(text.replace('["dns:client.example"]', '"any-signed-by-ca"'))
        place.run("keys", "new", "--file", "server/keyring.toml", "--id", "k3")
        found = place.findings("server", status=0)
        assert any("every client with a certificate of the CA" in each for each in found)
        assert any("'k3' is bound to no identity" in each for each in found)
        assert any("'k3' has no end" in each for each in found)
        path.write_text(text.replace('["dns:client.example"]', '["anonymous"]'))
        assert any("without a certificate may connect" in each for each in place.findings("server", status=0))

    def test_types(self, place: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("risky.py").write_text(
            "from dataclasses import dataclass\nfrom typing import Any\n@dataclass\nclass Order:\n    a: Any\n"
        )
        monkeypatch.syspath_prepend(place.directory)
        path = Path("server/sealwire.toml")
        path.write_text(path.read_text() + '[allowlist]\ntypes = ["risky:Order"]\n')
        assert any(
            "risky.Order: a peer puts any accepted value into a" in each for each in place.findings("server", status=0)
        )

    def test_a_server_that_is_not_there(self, place: Configured) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            number = closed.getsockname()[1]
        assert any("cannot connect to" in each for each in place.findings("client", f"localhost:{number}", status=2))

    def test_a_name_that_does_not_exist(self, place: Configured) -> None:
        found = place.findings("client", "nowhere.invalid:7443", status=2)
        assert any("the host's address cannot be found" in each for each in found)

    def test_something_else_there(self, place: Configured) -> None:
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

    def test_a_key_that_the_server_does_not_have(self, place: Configured, port: int) -> None:
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

    def test_a_servers_configuration_asks_no_further(self, place: Configured, port: int) -> None:
        assert any("was not tried further" in each for each in place.findings("server", f"localhost:{port}", status=0))

    def test_weak_keys(self, place: Configured) -> None:
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

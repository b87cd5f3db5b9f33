"""`sealwire status`: of good configurations, bad ones, and running servers."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealwire import Security
from support.commands import Configured


class TestStatus:
    def test_all_is_well(self, place: Configured) -> None:
        output = place.run("status", "--config", place.config("server")).stdout
        for text in ("dns:localhost", "builds to the trust anchors", "list ", "k1 (for dns:client.example)", "89 days"):
            assert text in output, text
        found = json.loads(place.run("status", "--json", "--config", place.config("server")).stdout)
        assert found["findings"] == []
        assert found["keys"]["signing"] == {"dns:client.example": {"now": "k1", "next": ""}}
        digest = Security.from_toml(place.config("server")).status().credentials.digest
        assert found["credentials"]["digest"] == digest

    def test_types_of_modules_in_this_directory(self, place: Configured) -> None:
        Path("types_of_mine.py").write_text("class Order(Exception): pass\n")
        config = Path(place.config("server"))
        config.write_text(config.read_text() + '[allowlist]\ntypes = ["types_of_mine:Order"]\n')
        place.run("status", "--config", str(config))

    def test_which_key_is_next(self, place: Configured) -> None:
        place.run("keys", "rotate", "--file", "server/keyring.toml", "--id", "k2", "--identity", "dns:client.example")
        output = place.run("status", "--config", place.config("server"), "--warn", "0").stdout
        assert "k1, then k2" in output

    def test_soon(self, place: Configured) -> None:
        place.leaf("server", "localhost", days=5)
        output = place.run("status", "--config", place.config("server"), "--warn", "14", status=1).stdout
        assert "warning:" in output
        assert "sealwire certs request server --as server" in output
        place.run("status", "--config", place.config("server"))

    def test_what_cannot_be_loaded(self, place: Configured) -> None:
        place.leaf("server", "localhost", days=1, not_before=datetime.now(UTC) - timedelta(days=3))
        assert "expired at" in place.run("status", "--config", place.config("server"), status=2).stderr
        found = json.loads(place.run("status", "--json", "--config", place.config("server"), status=2).stdout)
        assert found["findings"][0]["severity"] == "critical"
        place.run("status", "--config", "nowhere.toml", status=2)

    def test_no_key_soon(self, place: Configured) -> None:
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
        output = place.run("status", "--config", place.config("client"), "--warn", "14", status=1).stdout
        assert "no key for dns:b.example is valid after 20" in output
        place.run("status", "--config", place.config("client"))

    def test_a_running_server(self, place: Configured, port: int) -> None:
        arguments = "status", "--config", place.config("server"), f"localhost:{port}"
        assert "server shows" in place.run(*arguments).stdout
        place.replace("server", "server.pem", Path("server/server.pem").read_bytes())
        running_leaf = Path("server/server.pem").read_bytes(), Path("server/server.key").read_bytes()
        place.leaf("client", "client.example")
        other = "status", "--config", place.config("client"), f"localhost:{port}"
        told = place.run(*other).stdout
        assert "note: " in told
        assert "the one in the files is a client's" in told
        place.leaf("server", "localhost")
        assert "shows another certificate" in place.run(*arguments, status=2).stdout
        assert running_leaf[0].startswith(b"-----BEGIN")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"localhost:{silent.getsockname()[1]}"
        assert "cannot be asked" in place.run("status", "--config", place.config("server"), address, status=2).stdout

    def test_only_on_tcp(self, place: Configured) -> None:
        for address in ("unix:/nope", "udp://localhost:1", "localhost:1,localhost:2"):
            error = place.run("status", "--config", place.config("server"), address, status=64).stderr
            assert "only on TCP is the certificate shown to everybody; expected HOST:PORT" in error

    @pytest.mark.parametrize("address", ["localhost", ":1", "localhost:0", "localhost:99999", "a:b:1"])
    def test_addresses(self, place: Configured, address: str) -> None:
        place.run("status", "--config", place.config("server"), address, status=64)

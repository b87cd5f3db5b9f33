"""`sealwire certs list`, `show` and `expiring`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from support.commands import Run, certificate, openssl


class TestList:
    @pytest.fixture
    def ca(self, run: Run) -> Run:
        run("certs", "init")
        return run

    def test_a_table(self, ca: Run) -> None:
        ca("certs", "issue", "server", "localhost", "127.0.0.1")
        lines = ca("certs", "list").stdout.splitlines()
        assert lines[0].split()[:3] == ["file", "kind", "names"]
        assert [line.split()[:2] for line in lines[1:]] == [["ca.pem", "CA"], ["server.pem", "server"]]
        serial = f"{certificate('certs/server.pem').serial_number:x}"
        assert serial not in lines[2]
        assert serial in ca("certs", "list", "--wide").stdout

    def test_json(self, ca: Run) -> None:
        ca("certs", "issue", "client", "spiffe://prod/billing/worker")
        rows = json.loads(ca("certs", "list", "--json").stdout)
        made = certificate("certs/client.pem")
        assert rows[1] == {
            "file": "client.pem",
            "kind": "client",
            "names": ["spiffe://prod/billing/worker"],
            "serial": f"{made.serial_number:x}",
            "sha256": rows[1]["sha256"],
            "not_before": made.not_valid_before_utc.isoformat(),
            "not_after": made.not_valid_after_utc.isoformat(),
            "days_left": 89,
            "key": "ok",
            "state": "ok",
        }
        assert len(rows[1]["sha256"]) == 64

    def test_what_the_revocation_list_has(self, ca: Run) -> None:
        ca("certs", "issue", "server", "localhost")
        ca("certs", "issue", "client", "client.example")
        ca("certs", "revoke", "client")
        states = {row["file"]: row["state"] for row in json.loads(ca("certs", "list", "--json").stdout)}
        assert states == {"ca.pem": "ok", "client.pem": "revoked", "crl.pem": "ok", "server.pem": "ok"}

    def test_nothing_to_list(self, run: Run) -> None:
        assert "sealwire certs init" in run("certs", "list", status=1).stderr
        Path("certs").mkdir()
        result = run("certs", "list")
        assert (result.stdout, result.stderr) == ("", "no certificates in certs\n")
        assert json.loads(run("certs", "list", "--json").stdout) == []

    def test_a_broken_file_is_a_row(self, ca: Run) -> None:
        Path("certs/x.pem").write_text("garbage")
        lines = ca("certs", "list").stdout.splitlines()
        assert lines[2].split() == ["x.pem", "no", "certificate", "in", "PEM", "form", "could", "be", "read"]


class TestShow:
    def test_everything(self, ca: Run) -> None:
        ca("certs", "revoke", "client")
        assert "dns:localhost" in ca("certs", "show", "certs/server.pem").stdout
        key = ca("certs", "show", "certs/server.key").stdout
        assert "that of certs/server.pem" in key
        assert "secp256r1" in key
        os.rename("certs/client.key", "certs/server.key")
        assert "NOT that of" in ca("certs", "show", "certs/server.key").stdout
        shown = json.loads(ca("certs", "show", "--json", "certs/crl.pem").stdout)
        assert shown[0]["number"] == 1
        for path in ("certs/server.key", "certs/ca.key"):
            assert "PRIVATE" not in ca("certs", "show", path).stdout

    def test_nothing(self, ca: Run) -> None:
        Path("x.pem").write_text("nothing")
        assert "nothing in PEM form" in ca("certs", "show", "x.pem", status=1).stderr
        Path("x.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        assert "x.pem: no certificate in PEM form" in ca("certs", "show", "x.pem", status=1).stderr
        Path("x.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
        assert "the file was cut short" in ca("certs", "show", "x.pem", status=1).stderr

    def test_an_encrypted_key(self, ca: Run) -> None:
        openssl("pkey", "-in", "certs/server.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
        assert "encrypted" in ca("certs", "show", "locked.key").stdout
        key = ec.generate_private_key(ec.SECP384R1())
        assert key.key_size == 384


class TestExpiring:
    def test_exit_status(self, ca: Run) -> None:
        assert "nothing expires soon (3 checked)" in ca("certs", "expiring").stdout
        ca("certs", "issue", "client", "a.example", "--as", "a", "--days", "5")
        ca("certs", "expiring")
        output = ca("certs", "expiring", "--within", "14", status=1).stdout
        assert "a.pem" in output
        assert "server.pem" not in output
        ca("certs", "expiring", "--within", "2")
        ca("certs", "crl", "--days", "1")
        assert "revocation list" in ca("certs", "expiring", "--within", "2", status=1).stdout
        found = json.loads(ca("certs", "expiring", "--within", "90", "--json", status=1).stdout)
        assert {each["file"] for each in found} >= {"a.pem", "server.pem", "crl.pem"}
        Path("certs/b.pem").write_text("garbage")
        assert "could be read" in ca("certs", "expiring", status=2).stdout

    def test_files(self, ca: Run) -> None:
        ca("certs", "expiring", "certs/server.pem", "certs/ca.pem")
        ca("certs", "expiring", "certs/server.pem", "--within", "100", status=1)
        ca("certs", "expiring", "--dir", "nowhere", status=3)

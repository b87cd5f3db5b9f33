"""`sealwire certs bundle`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from support.commands import Run, certificate


class TestBundle:
    def test_old_and_new(self, ca: Run) -> None:
        ca("certs", "init", "--dir", "new")
        output = ca("certs", "bundle", "certs/ca.pem", "new/ca.pem", "certs/ca.pem", "--out", "certs/ca.pem").stdout
        assert "2 trust anchors" in output
        assert "then renew their certificates" in output
        ca("certs", "issue", "client", "a.example", "--as", "a")
        old = next(name for name in os.listdir("certs") if name.startswith("ca.pem.2"))
        ca("certs", "bundle", "certs/ca.pem", "--remove", f"certs/{old}", "--out", "certs/ca.pem")
        assert certificate("certs/ca.pem") == certificate("new/ca.pem")

    def test_refused(self, ca: Run) -> None:
        assert (
            "is not the certificate of a CA"
            in ca("certs", "bundle", "certs/server.pem", "--out", "x.pem", status=1).stderr
        )
        digest = json.loads(ca("certs", "show", "--json", "certs/ca.pem").stdout)[0]["sha256"]
        result = ca("certs", "bundle", "certs/ca.pem", "--remove", f"sha256:{digest}", "--out", "x.pem", status=1)
        assert "would let no peer in" in result.stderr
        assert "no certificate" in ca("certs", "bundle", "certs/ca.key", "--out", "x.pem", status=1).stderr
        assert "no revocation list" in ca("certs", "bundle", "--crl", "certs/ca.pem", "--out", "x.pem", status=1).stderr
        ca("certs", "bundle", "--out", "x.pem", status=64)
        assert not Path("x.pem").exists()

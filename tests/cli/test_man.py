"""The manual pages, which the build of a wheel writes with docs/man.py."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sealwire.cli.app import COMMANDS
from support.documents import ROOT

REQUESTS = {".TH", ".nh", ".ad", ".SH", ".SS", ".PP", ".TP", ".RS", ".RE", ".nf", ".fi"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "docs/man.py", directory, "1.2.3"], check=True, timeout=60)
    return directory


def test_every_command_has_one(pages: Path) -> None:
    assert {page.name for page in pages.iterdir()} == {"sealwire.1", *(f"sealwire-{name}.1" for name in COMMANDS)}
    assert '"sealwire 1.2.3"' in (pages / "sealwire.1").read_text()


def test_no_text_is_taken_for_a_request(pages: Path) -> None:
    for page in pages.iterdir():
        for line in page.read_text().splitlines():
            assert not line.startswith(("'", "\b")), line
            assert not line.startswith(".") or line.split()[0] in REQUESTS, line


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_reads_them(pages: Path) -> None:
    for page in pages.iterdir():
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-Wbreak", str(page)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
    done = subprocess.run(
        ["groff", "-man", "-Tascii", str(pages / "sealwire-certs.1")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    for shown in ("sealwire certs renew [OPTIONS]", "--key-type", "SEALWIRE_CERTS_INIT_DIR", "EXIT STATUS", "    69 "):
        assert shown in text

"""README.md followed word for word: in an empty directory, with real processes, and with an installation of its own."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from support.documents import ROOT, Shell, follow, free_port

README = ROOT / "README.md"


@pytest.mark.timeout(300)
def test_every_step_works(tmp_path):
    # `make test-wheel` compiles the native core, which takes longer than the rest of this.
    shell = Shell(tmp_path, {"7443": str(free_port()), "7444": str(free_port())}, "export SEALWIRE_NATIVE=off")
    try:
        ran = follow(README, shell)
    finally:
        shell.close()
    assert ran >= 10
    assert {path.name for path in tmp_path.glob("*.py")} == {"shop.py", "server.py", "client.py"}


def test_the_page_of_the_certificates_works(tmp_path):
    command = shlex.join([sys.executable, "-P", "-m", "sealwire"])
    shell = Shell(tmp_path, {}, f'sealwire() {{ {command} "$@"; }}')
    assert follow(ROOT / "certs" / "README.md", shell) >= 10
    shell.run("openssl verify -CAfile new-ca/ca.pem certs/server.pem certs/client.pem", "certs/client.pem: OK")
    shell.run("sealwire certs expiring --within 0", "nothing expires")


def test_links_lead_somewhere():
    for document in (README, ROOT / "SECURITY.md", ROOT / "certs" / "README.md", *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"

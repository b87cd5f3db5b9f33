"""README.md followed word for word: in an empty directory, with real processes, and with an installation of its own.

``python tests/test_readme.py`` writes the table of limits again.
"""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from sealwire import Limits
from support.documents import ROOT, Shell, follow, free_port

README = ROOT / "README.md"
LIMITS = re.compile(r"(<!-- limits: begin[^\n]*\n).*?(<!-- limits: end -->)", re.DOTALL)


def limits_table() -> str:
    rows = ["| option | default | what it bounds |", "|---|---|---|"]
    for spec in fields(Limits):
        default, unit = spec.default, spec.metadata["unit"]
        shown = f"{default:,}" if isinstance(default, int) else f"{default:g}"
        if unit == "bytes" and isinstance(default, int) and default % (1 << 20) == 0:
            shown, unit = str(default >> 20), "MiB"
        bound = spec.metadata.get("shown") or f"{shown} {unit}"
        rows.append(f"| `{spec.name}` | {bound} | {spec.metadata['why']} |")
    return "\n".join(rows) + "\n"


def test_limits_are_those_of_the_code():
    found = LIMITS.search(README.read_text())
    assert found is not None
    assert found[0] == found[1] + limits_table() + found[2], "run `python tests/test_readme.py`"


@pytest.mark.timeout(300)
def test_every_step_works(tmp_path):
    # `make test-wheel` compiles the native core, which takes longer than the rest of this.
    shell = Shell(tmp_path, {"7443": str(free_port()), "7444": str(free_port())}, "export SEALWIRE_NATIVE=off")
    try:
        ran = follow(README, shell)
    finally:
        shell.close()
    assert ran >= 10
    assert {path.name for path in tmp_path.glob("*.py")} == {"server.py", "client.py"}


def test_links_lead_somewhere():
    for document in (README, ROOT / "SECURITY.md", ROOT / "certs" / "README.md", *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


if __name__ == "__main__":
    README.write_text(LIMITS.sub(lambda found: found[1] + limits_table() + found[2], README.read_text()))

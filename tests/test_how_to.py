"""The how-to guides followed word for word, each in an empty directory, with the command as it is installed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from support.documents import ROOT, Shell, follow

PYTHON = shlex.quote(sys.executable)
# With -P the current directory is not on the path, as it is not for an installed script.
SETUP = (f'python() {{ {PYTHON} "$@"; }}', f'sealwire() {{ {PYTHON} -P -m sealwire "$@"; }}')


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/how-to/*.md")), ids=lambda document: document.stem)
def test_every_step_works(document: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path, {}, *SETUP)
    try:
        assert follow(document, shell) >= 5
    finally:
        shell.close()
    assert not (tmp_path / "owned").exists()

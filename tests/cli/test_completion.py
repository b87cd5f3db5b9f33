"""`sealwire completion`: the script in a real bash, and the words that any shell is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sealwire.cli.app import app

COMPLETE = """\
. ./script
COMP_WORDS=({words} "{last}")
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_sealwire_completion sealwire
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(place: Path, words: str, last: str) -> list[str]:
    """Return what bash would offer for the last word of a command line."""
    (place / "bin").mkdir(exist_ok=True)
    command = place / "bin" / "sealwire"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sealwire "$@"\n')
    command.chmod(0o755)
    (place / "script").write_text(CliRunner().invoke(app, ["completion", "bash"]).stdout)
    done = subprocess.run(
        ["bash", "-c", COMPLETE.format(words=words, last=last)],
        cwd=place, env=os.environ | {"PATH": f"{place}/bin:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(place)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "sealwire").mkdir()
    for name in ("production", "test"):
        (tmp_path / "sealwire" / f"{name}.toml").write_text("")
    assert completed(tmp_path, "sealwire", "st") == ["status"]
    assert completed(tmp_path, "sealwire certs", "re") == ["renew", "request", "revoke"]
    assert completed(tmp_path, "sealwire ping", "--co") == ["--config", "--context", "--count"]
    assert completed(tmp_path, "sealwire certs issue", "se") == ["server"]
    assert completed(tmp_path, "sealwire call --context", "p") == ["production"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    script = CliRunner().invoke(app, ["completion", shell]).stdout
    assert f"_SEALWIRE_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True, timeout=60)


def test_other_shells_are_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["completion", "tcsh"]).exit_code == 64


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["certs", "isue"], "Did you mean 'issue'?"),
        (["help"], "No such command 'help'. There is an option --help."),
        (["certs", "help"], "No such command 'help'. There is an option --help."),
        (["version"], "No such command 'version'. There is an option --version."),
        (["ping", "--cuont", "1"], "--count"),
        (["keys", "new", "--idnetity", "x"], "Did you mean '--identity'?"),
    ],
)
def test_did_you_mean(arguments: list[str], meant: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 64
    assert meant in result.stderr

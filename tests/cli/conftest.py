from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealwire.cli.app import app
from support.commands import furnish
from support.service import Deployment

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `sealwire` with arguments in an empty directory; must end with ``status`` and without a traceback."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def python() -> list[str]:
    """The beginning of a command line that runs `sealwire` in a process of its own, warnings as errors."""
    return [sys.executable, "-W", "error", "-m", "sealwire"]


@pytest.fixture
def directory(tmp_path: Path, deployment: Deployment) -> Path:
    """A directory in which `sealwire serve` and `sealwire call` can work."""
    furnish(tmp_path, deployment)
    return tmp_path

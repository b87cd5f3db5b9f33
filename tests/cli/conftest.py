from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealwire import Security, ThreadingTCPServer
from sealwire.cli.app import app
from support.commands import Configured, Run, furnish
from support.service import Deployment, running


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
def directory(tmp_path: Path, deployment: Deployment) -> Path:
    """A directory in which `sealwire serve` and `sealwire call` can work."""
    furnish(tmp_path, deployment)
    return tmp_path


@pytest.fixture
def place(tmp_path: Path, run: Run) -> Configured:
    return Configured(tmp_path, run)


@pytest.fixture
def port(place: Configured) -> Iterator[int]:
    """The port of a server with that configuration."""
    security = Security.from_toml(place.config("server"))
    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, security)) as port:
        yield port

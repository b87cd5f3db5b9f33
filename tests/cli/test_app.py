from __future__ import annotations

from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from sealwire.cli import app as module
from sealwire.cli.app import COMMANDS, app
from sealwire.cli.console import form
from sealwire.errors import ConfigurationError, EncodeError


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> click.testing.Result:
    """Return the result of a command that raises ``error``."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(module, "fail", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", module.__name__)
    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("a.toml: unknown key"), "a.toml: unknown key"),
        (FileNotFoundError(2, "No such file or directory", "a.pem"), "a.pem: No such file or directory"),
        (OSError("odd"), "odd"),
        (OSError(), "OSError"),
        (EncodeError("two\nlines \x1b[31m"), r"two\nlines \x1b[31m"),
        (FileNotFoundError(2, "No", "\udcff\u202e.pem"), r"\udcff\u202e.pem: No"),
    ],
)
def test_errors_are_one_line_on_stderr(monkeypatch: pytest.MonkeyPatch, error: Exception, line: str) -> None:
    result = failing(monkeypatch, error)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: {line}\n"


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(failing(monkeypatch, ZeroDivisionError()).exception, ZeroDivisionError)


def test_a_closed_pipe_is_not_reported_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert (result.exit_code, result.stderr) == (1, "")


def test_wrong_usage_is_status_64() -> None:
    for arguments in (["unknown"], ["certs", "unknown"], ["certs", "init", "--unknown"], ["certs", "issue"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 64, arguments
        assert "Usage: " in result.stderr


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"], prog_name="sealwire")
    assert result.stdout == f"sealwire {version('sealwire')} ({form()})\n"


@pytest.mark.parametrize("command", [[], ["certs"], ["keys"], ["allowlist"]])
def test_help_is_whole(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "..." not in result.stdout.replace("[ARGS]...", ""), "click cuts a summary that is too long"
    if not command:
        assert all(name in result.stdout for name in COMMANDS)

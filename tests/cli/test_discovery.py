"""Which configuration the commands take, and the variables of their options."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sealwire.cli import app as module
from sealwire.cli.app import COMMANDS, app
from sealwire.cli.discovery import configuration


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory; the contexts are in `home/sealwire`."""
    monkeypatch.chdir(tmp_path)
    contexts = tmp_path / "home" / "sealwire"
    contexts.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in ("production", "test"):
        (contexts / f"{name}.toml").write_text("")
    (tmp_path / "b.toml").write_text("")
    return tmp_path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands that print the configuration that they take."""

    @click.command()
    @configuration()
    def required(config: Path) -> None:
        click.echo(config)

    @click.command()
    @configuration(found=False, required=False)
    def optional(config: Path | None) -> None:
        click.echo(str(config))

    for command in (required, optional):
        monkeypatch.setattr(module, str(command.name), command, raising=False)
        monkeypatch.setitem(COMMANDS, str(command.name), module.__name__)


def run(*arguments: str, status: int = 0, **variables: str) -> Result:
    result = CliRunner().invoke(app, arguments, env=variables)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.usefixtures("shown")
class TestWhichOneIsTaken:
    def test_the_option_comes_before_the_variable(self) -> None:
        (Path("sealwire.toml")).write_text("")
        assert run("required", "-c", "a.toml", SEALWIRE_CONFIG="b.toml").stdout == "a.toml\n"
        assert run("required", SEALWIRE_CONFIG="b.toml").stdout == "b.toml\n"

    def test_contexts(self, place: Path) -> None:
        production, test = (f"{place}/home/sealwire/{name}.toml\n" for name in ("production", "test"))
        assert run("required", "--context", "test").stdout == test
        assert run("required", SEALWIRE_CONTEXT="test").stdout == test
        assert run("required", "--context", "production", SEALWIRE_CONTEXT="test").stdout == production
        assert run("required", "--context", "test", SEALWIRE_CONFIG="b.toml").stdout == test
        assert run("required", "--config", "a.toml", SEALWIRE_CONTEXT="test").stdout == "a.toml\n"

    def test_contexts_are_in_the_home_directory(self, place: Path) -> None:
        home = place / ".config" / "sealwire"
        home.mkdir(parents=True)
        (home / "mine.toml").write_text("")
        for base in ("", "relative"):
            taken = run("required", "--context", "mine", HOME=str(place), XDG_CONFIG_HOME=base).stdout
            assert taken == f"{home}/mine.toml\n"

    def test_a_user_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # whom no file knows
        assert "set XDG_CONFIG_HOME" in run("required", "--context", "mine", XDG_CONFIG_HOME="", status=1).stderr

    def test_two_of_one_kind_are_refused(self) -> None:
        assert "leave one out" in run("required", "-c", "a", "--context", "test", status=64).stderr
        variables = {"SEALWIRE_CONFIG": "a", "SEALWIRE_CONTEXT": "test"}
        assert "variables SEALWIRE_CONFIG and" in run("required", **variables, status=64).stderr

    def test_a_context_that_is_not_there(self, place: Path) -> None:
        says = f"{place}/home/sealwire/staging.toml: there is no such context"
        error = run("required", "--context", "staging", status=1).stderr
        assert says in error
        assert "(there are: production, test)" in error
        for name in ("../secret", "", "a/b", ".hidden"):
            assert "expected a name" in run("required", "--context", name, status=64).stderr

    def test_the_one_that_is_here(self) -> None:
        result = run("required", status=64)
        assert (
            "no configuration: neither --config nor --context is given, and there is no sealwire.toml" in result.stderr
        )
        Path("sealwire.toml").write_text("")
        result = run("required")
        assert (result.stdout, result.stderr) == ("sealwire.toml\n", "configuration: sealwire.toml, found here\n")

    def test_a_variable_that_names_no_file(self) -> None:
        told = run("required", SEALWIRE_CONFIG="c.toml", status=1).stderr
        assert "c.toml: there is no such file; the variable SEALWIRE_CONFIG names it" in told

    def test_it_is_not_looked_for_unless_the_command_needs_one(self) -> None:
        Path("sealwire.toml").write_text("")
        assert run("optional").stdout == "None\n"
        assert run("optional", SEALWIRE_CONFIG="b.toml").stdout == "b.toml\n"

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_files_that_others_can_change_are_not_taken_unasked(self, place: Path, mode: int) -> None:
        for path, arguments in (("sealwire.toml", []), (f"{place}/home/sealwire/test.toml", ["--context", "test"])):
            Path(path).write_text("")
            os.chmod(path, mode)
            error = run("required", *arguments, status=1).stderr
            assert f"{path}: mode {mode:04o} lets others change it" in error
            assert f"chmod go-w {path}" in error
            assert run("required", "--config", path).stdout == f"{path}\n"
            os.chmod(path, 0o644)
            run("required", *arguments)

    def test_a_directory_that_others_can_change(self, place: Path) -> None:
        Path("sealwire.toml").write_text("")
        place.chmod(0o1777)
        assert "the current directory: mode 1777 lets others" in run("required", status=1).stderr

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_files_of_other_users(self, place: Path) -> None:
        Path("target.toml").write_text("")
        Path("sealwire.toml").symlink_to("target.toml")
        run("required")
        for path in ("sealwire.toml", ".", "target.toml"):
            os.chown(path, 12345, -1, follow_symlinks=False)
            assert "belongs to another user (uid 12345)" in run("required", status=1).stderr
            os.chown(path, 0, -1, follow_symlinks=False)
        run("required")

    def test_the_shell_completes_contexts(self) -> None:
        words = {
            "_SEALWIRE_COMPLETE": "bash_complete",
            "COMP_WORDS": "sealwire required --context t",
            "COMP_CWORD": "3",
        }
        result = CliRunner().invoke(app, [], prog_name="sealwire", env=words)
        assert result.stdout == "plain,test\n"


def test_variables_are_named_like_the_options() -> None:
    for command in ("ping", "certs init", "serve"):
        text = run(*command.split(), "--help").stdout
        assert text.count("SEALWIRE_") == 1, "one example, and the rest in the reference"
    error = run("keys", "new", SEALWIRE_KEYS_NEW_DAYS="x", status=64).stderr
    assert "(in the variable SEALWIRE_KEYS_NEW_DAYS)" in error
    assert "variable" not in run("keys", "new", "--days", "x", SEALWIRE_KEYS_NEW_DAYS="y", status=64).stderr
    run("certs", "init", SEALWIRE_CERTS_INIT_SERVER="a.example b.example", SEALWIRE_CERTS_INIT_DIR="made")
    assert "dns:b.example" in run("certs", "show", "made/server.pem").stdout
    assert run("certs", "list", SEALWIRE_CERTS_LIST_DIR="made", SEALWIRE_CERTS_LIST_JSON="1").stdout.startswith("[")
    assert "'x'" in run("certs", "list", SEALWIRE_CERTS_LIST_JSON="x", status=64).stderr


def test_no_variable_overrides_a_safeguard() -> None:
    run("certs", "init", "--server", "a.example")
    run("certs", "init", "--server", "a.example", SEALWIRE_CERTS_INIT_FORCE="1", status=1)
    assert "FORCE" not in run("certs", "init", "--help").stdout

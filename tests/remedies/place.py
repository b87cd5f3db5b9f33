"""A place where a shell runs the commands that a message advises, as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from remedies.advised import Advice, quoted
from sealwire.cli.app import app

COVERED: dict[Advice, str] = {}
"""The test of each advice."""
_WORD = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+"
SERVER = """\
cert = "certs/server.pem"
key = "certs/server.key"
ca = "certs/ca.pem"
keyring = "certs/keyring.toml"
peers = ["dns:client.example"]
"""


def covers(module: str, *templates: str) -> Callable[[Any], Any]:
    """Mark a test that follows commands of a module; the fixture ``place`` sees that it does."""

    def mark(test: Any) -> Any:
        COVERED.update((Advice(module, template), test.__name__) for template in templates)
        test.advice = [*getattr(test, "advice", ()), *templates]
        return test

    return mark


def pattern(template: str) -> re.Pattern[str]:
    """Return the expression for what is printed for a template, with a blank before it."""
    forms = {"*": f"(?: {_WORD})*", "{}": f" {_WORD}"}
    return re.compile("".join(forms.get(word, f" {re.escape(word)}") for word in shlex.split(template, posix=False)))


class Place:
    """A directory with a CA, a server's configuration, and the command."""

    def __init__(self, directory: Path, commands: Path) -> None:
        self.directory = directory
        self.followed: list[str] = []
        command = commands / "sealwire"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -W error -m sealwire "$@"\n')
        command.chmod(0o755)
        self.environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    def deploy(self, *init: str, **options: str) -> None:
        """Make a CA, certificates and a keyring, and write server.toml."""
        self.says("certs", "init", "--server", "localhost", "--client", "client.example", *init)
        self.says("keys", "new", "--days", "90", "--identity", "dns:client.example", "--id", "k1")
        self.configure(**options)

    def configure(self, **options: str) -> None:
        (self.directory / "server.toml").write_text(SERVER + "".join(f"{k} = {v}\n" for k, v in options.items()))

    def says(self, *arguments: str, status: int = 0) -> str:
        """Return what a command prints here."""
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.output

    def doctor(self) -> str:
        return CliRunner().invoke(app, ["doctor", "--config", "server.toml"]).output

    def run(self, command: str, stdin: str = "", status: int = 0, at: str = "") -> str:
        """Run a command line by the shell, here or in a directory below."""
        done = subprocess.run(
            ["setsid", "-w", "bash", "-c", command], cwd=self.directory / at, env=self.environment, input=stdin,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def follow(self, text: str, *templates: str, stdin: str = "", status: int = 0, at: str = "", **words: str) -> str:
        """Run the commands of these templates that a text advises, in this order, with ``words`` put in for those in
        capitals."""
        commands = quoted(text)
        output = ""
        for template in templates:
            self.followed.append(template)
            found = {
                each for each in commands for part in each.split(" && ") if pattern(template).fullmatch(f" {part}")
            }
            assert len(found) == 1, f"{template}: {found} in {text}"
            command = found.pop()
            for word, value in words.items():
                command = re.sub(rf"\b{word}\b", shlex.quote(value), command)
            if " && " not in command or template == templates[-1]:
                output = self.run(command, stdin, status, at)
        return output


def fixture(tmp_path: Path, test: Any) -> Iterable[Place]:
    """Yield a place whose name must be quoted, and see that the test has followed what it covers."""
    directory, commands = tmp_path / "it's a place", tmp_path / "bin"
    directory.mkdir()
    commands.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        place = Place(directory, commands)
        yield place
    assert {*place.followed} == {*getattr(test, "advice", ())}

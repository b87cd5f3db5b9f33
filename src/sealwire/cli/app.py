"""The command ``sealwire``: loads the subcommand, and turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from sealwire.cli.console import error_line, form
from sealwire.errors import SealwireError

COMMANDS = {
    "certs": "sealwire.cli.certs",
    "keys": "sealwire.cli.keys",
    "serve": "sealwire.cli.serve",
    "call": "sealwire.cli.call",
    "ping": "sealwire.cli.ping",
    "bench": "sealwire.cli.bench",
    "inspect": "sealwire.cli.inspect",
    "allowlist": "sealwire.cli.allowlist",
    "status": "sealwire.cli.status",
    "top": "sealwire.cli.top",
    "doctor": "sealwire.cli.doctor",
    "demo": "sealwire.demo.command",
}
"""The module that has each command under its name; imported when the command is used."""


class Commands(click.Group):
    """Subcommands by name. Exit status: 0 done, 1 an error of Sealwire or the system, 2 wrong usage."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # standard output is gone, as with `| head`: click ends quietly
        except KeyboardInterrupt:
            # Ended by the signal, so that a shell's loop ends, too; what was printed may be gone with the pipe.
            with suppress(OSError):
                sys.stdout.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
            raise
        except (SealwireError, OSError) as error:
            raise click.ClickException(error_line(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sealwire", message=f"%(prog)s %(version)s ({form()})")
def app() -> None:
    """Exchange Python objects between hosts that do not trust each other."""

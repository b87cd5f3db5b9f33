"""The command ``sealwire``: loads the subcommand, and turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import signal
import sys
from contextlib import suppress
from typing import Any, Final

import click
from click.core import ParameterSource

from sealwire.cli.console import form
from sealwire.cli.exit_statuses import MEANINGS, Failure
from sealwire.errors import SealwireError

COMMANDS = {
    "new": "sealwire.cli.project",
    "certs": "sealwire.cli.certs",
    "keys": "sealwire.cli.keys",
    "serve": "sealwire.cli.serve",
    "call": "sealwire.cli.call",
    "ping": "sealwire.cli.ping",
    "bench": "sealwire.cli.bench",
    "inspect": "sealwire.cli.inspect",
    "allowlist": "sealwire.cli.allowlist",
    "status": "sealwire.cli.status",
    "check": "sealwire.cli.check",
    "top": "sealwire.cli.top",
    "doctor": "sealwire.cli.doctor",
    "demo": "sealwire.demo.command",
    "completion": "sealwire.cli.completion",
}
"""The module that has each command under its name; imported when the command is used."""


_EPILOG: Final = "\b\nExit statuses:\n" + "\n".join(f"{status:4} {text}" for status, text in MEANINGS.items())


_OPTIONS: Final = {"help": "--help", "version": "--version"}
"""Words that other programs have as commands."""


class Commands(click.Group):
    """Subcommands by name; their errors become a line and one of the exit statuses."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        name_variables(command, f"SEALWIRE_{cmd_name.upper()}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            raise
        except OSError as error:  # of the output of --help, say
            raise Failure(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # standard output is gone, as with `| head`: click ends quietly
        except click.exceptions.NoSuchCommand as error:
            if error.command_name in _OPTIONS:
                text = f"{error.message} There is an option {_OPTIONS[error.command_name]}."
                raise click.UsageError(text, error.ctx) from None
            raise
        except click.BadParameter as error:
            raise _with_variable(error) from None
        except KeyboardInterrupt:
            # Ended by the signal, so that a shell's loop ends, too; what was printed may be gone with the pipe.
            with suppress(OSError):
                sys.stdout.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
            raise
        except (SealwireError, OSError) as error:
            raise Failure(error) from error


def name_variables(command: click.Command, prefix: str) -> None:
    """Give each option a variable that is named like it, which the manual and one line of the help show.

    click's own (auto_envvar_prefix) have the names of parameters. Options that are not to be set by chance have
    ``allow_from_autoenv=False``.
    """
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            name_variables(each, f"{prefix}_{name.upper()}")
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None and option.allow_from_autoenv:
            longest = max(option.opts, key=len)
            option.envvar = f"{prefix}_{longest.lstrip('-').replace('-', '_').upper()}"
            command.epilog = command.epilog or (
                f"Options have variables, like {option.envvar} for {longest}; the manual page and the reference list "
                "them."
            )


def _with_variable(error: click.BadParameter) -> click.BadParameter:
    """Return an error of a value; with the name of the variable, if it was in one."""
    param, ctx = error.param, error.ctx
    if not isinstance(param, click.Option) or ctx is None or param.name is None:
        return error
    if ctx.get_parameter_source(param.name) is not ParameterSource.ENVIRONMENT:
        return error
    return click.BadParameter(f"{error.message} (in the variable {param.envvar})", ctx, param)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(None, "-V", "--version", package_name="sealwire", message=f"%(prog)s %(version)s ({form()})")
def app() -> None:
    """Exchange Python objects between hosts that do not trust each other."""

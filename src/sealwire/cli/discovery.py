"""Finds the configuration for a command: an option or a variable names it, or it is in its usual place."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from sealwire.cli.console import print_line
from sealwire.errors import ConfigurationError
from sealwire.remedies import command

HERE: Final = Path("sealwire.toml")
"""The configuration that is found in the current directory."""
QUIET: Final = "sealwire.quiet"
"""The key, in a command's context, of the flag that silences the command."""
_NAME: Final = re.compile(r"\w[\w.-]*", re.ASCII)
_CONTEXT: Final = "sealwire.context"


def contexts_directory() -> Path:
    """Return the directory of the contexts (XDG Base Directory Specification; a relative path there is ignored)."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".config"
        except RuntimeError:
            raise ConfigurationError("this user has no home directory; set XDG_CONFIG_HOME, or use --config") from None
    return base / "sealwire"


def configuration(*names: str, found: bool = True, required: bool = True) -> Callable[[Any], Any]:
    """Return the options ``--config`` and ``--context``, for the parameter ``config``.

    Args:
        names: Names for ``--config``; ``-c`` and ``--config`` by default.
        found: Take ``sealwire.toml`` in the current directory if neither option nor variable names another.
        required: If nothing is found, refuse the command line; otherwise ``config`` is None.
    """

    def choose(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
        if ctx.resilient_parsing:
            return value
        name = ctx.meta.get(_CONTEXT)
        if name is not None and value is not None:
            sources = ctx.get_parameter_source("config"), ctx.get_parameter_source("context")
            if sources[0] is sources[1]:
                both = "--config and --context both name"
                if sources[0] is ParameterSource.ENVIRONMENT:
                    both = "the variables SEALWIRE_CONFIG and SEALWIRE_CONTEXT both name"
                raise click.UsageError(f"{both} a configuration; leave one out", ctx)
            if sources[0] is ParameterSource.ENVIRONMENT:
                value = None
        if value is not None:
            if ctx.get_parameter_source("config") is ParameterSource.ENVIRONMENT and not value.exists():
                raise ConfigurationError(f"{value}: there is no such file; the variable SEALWIRE_CONFIG names it")
            return value
        if name is not None:
            return _context_file(name)
        if found and HERE.exists():
            _check_unchangeable(Path())
            _check_unchangeable(HERE)
            if not ctx.meta.get(QUIET):
                print_line(f"configuration: {HERE}, found here", err=True)
            return HERE
        if required:
            nothing = f", and there is no {HERE} here" if found else ""
            raise click.UsageError(
                f"no configuration: neither --config nor --context is given{nothing} (see --help)", ctx
            )
        return None

    option = click.option(
        *(names or ("-c", "--config")), "config", type=click.Path(path_type=Path, dir_okay=False),
        envvar="SEALWIRE_CONFIG", callback=choose,
        help="Configuration file (TOML)." + (f"  [default: {HERE} in the current directory]" if found else ""),
    )  # fmt: skip
    context = click.option(
        "--context", metavar="NAME", envvar="SEALWIRE_CONTEXT", is_eager=True, expose_value=False,
        callback=_remember, shell_complete=_complete,
        help="Take ~/.config/sealwire/NAME.toml in place of --config.",
    )  # fmt: skip
    return lambda command: option(context(command))


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter("expected a name of letters, digits, '.', '_' and '-'", ctx, param)
    ctx.meta[_CONTEXT] = value


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    with suppress(ConfigurationError):
        return [CompletionItem(name) for name in context_names() if name.startswith(incomplete)]
    return []


def context_names() -> list[str]:
    """Return the names of the contexts that there are."""
    return sorted(path.stem for path in contexts_directory().glob("*.toml"))


def _context_file(name: str) -> Path:
    path = contexts_directory() / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(context_names()) or "none"
        raise ConfigurationError(
            f"{path}: there is no such context; write this configuration file (there are: {there})"
        )
    _check_unchangeable(path)
    return path


def _check_unchangeable(path: Path) -> None:
    """Refuse a file that no option names, or its directory, if others can change it: it can have modules imported."""
    name = "the current directory" if path == Path() else str(path)
    for status in (path.lstat(), path.stat()):
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(
                f"{name}: belongs to another user (uid {status.st_uid}), so that no configuration is taken from it "
                "unasked; name the file with --config"
            )
        if mode & 0o022 and not stat.S_ISLNK(status.st_mode):
            raise ConfigurationError(
                f"{name}: mode {mode:04o} lets others change it, so that no configuration is taken from it unasked; "
                f"run {command('chmod', 'go-w', path)}, or name the file with --config"
            )

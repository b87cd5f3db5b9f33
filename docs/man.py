"""Writes the manual pages of the commands, from click: ``python docs/man.py DIRECTORY VERSION``.

The build of a wheel does that (hatch_build.py), and puts them into share/man.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sealwire.cli.app import app
from sealwire.cli.exit_statuses import MEANINGS

FILES = {
    "sealwire.toml": "the configuration that is taken if no option or variable names one",
    "~/.config/sealwire/NAME.toml": "the configuration that --context NAME takes ($XDG_CONFIG_HOME)",
    "certs/": "where certificates and keys are made, unless --dir or --file says otherwise",
}


def roff(text: str) -> str:
    """Return text for a page: nothing in it is taken for a request or an escape, and hyphens can be searched for."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a help text; what begins with click's mark of such blocks stays as it is."""
    for part in re.split(r"\n{2,}", inspect.cleandoc(text)):
        lines = part.split("\n")
        if lines[0] == "\b":
            yield from (".PP", ".RS 4", ".nf", *map(roff, lines[1:]), ".fi", ".RE")
        else:
            yield from (".PP", roff(" ".join(lines)))


def entries(records: Iterator[tuple[str, str]]) -> Iterator[str]:
    for name, text in records:
        yield from (".TP", f"\\fB{roff(name)}\\fR", roff(" ".join(text.split())))


def body(context: click.Context, heading: str) -> Iterator[str]:
    """Yield the description and options of a command."""
    command = context.command
    yield f"{heading} SYNOPSIS" if heading == ".SH" else ".PP"
    yield f"\\fB{roff(context.command_path)}\\fR {roff(' '.join(command.collect_usage_pieces(context)))}"
    if heading == ".SH":
        yield ".SH DESCRIPTION"
    yield from paragraphs(command.help or "")
    for option in command.params:
        if isinstance(option, click.Option):
            option.show_envvar = True
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    yield ".SH OPTIONS" if heading == ".SH" else ".PP"
    yield from entries(iter(records))


def subcommands(context: click.Context) -> Iterator[click.Context]:
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield click.Context(command, info_name=name, parent=context)


def page(context: click.Context, version: str) -> str:
    """Return the page of a command, with its subcommands."""
    name = context.command_path.replace(" ", "-")
    short = context.command.get_short_help_str(200).removesuffix(".")
    lines = [f'.TH {name.upper()} 1 "" "sealwire {version}" "Sealwire"', ".nh", ".ad l", ".SH NAME"]
    lines += [f"{roff(name)} \\- {roff(short)}", *body(context, ".SH")]
    below = list(subcommands(context))
    if context.parent is None:
        lines.append(".SH COMMANDS")
        lines += entries((f"{name}-{each.info_name}(1)", each.command.get_short_help_str(200)) for each in below)
    elif below:
        lines.append(".SH COMMANDS")
        for each in below:
            lines += [f".SS {roff(each.command_path)}", *body(each, ".SS")]
    lines.append(".SH EXIT STATUS")
    lines += entries((f"{status:d}", text) for status, text in MEANINGS.items())
    lines.append(".SH FILES")
    lines += entries(iter(FILES.items()))
    if context.parent is not None:
        lines += [".SH SEE ALSO", "\\fBsealwire\\fR(1)"]
    return "\n".join(lines) + "\n"


def pages(version: str) -> dict[str, str]:
    """Return the pages by the names of their files."""
    root = click.Context(app, info_name="sealwire", terminal_width=80, max_content_width=80)
    return {f"{each.command_path.replace(' ', '-')}.1": page(each, version) for each in (root, *subcommands(root))}


def main(directory: Path, version: str) -> None:
    directory.mkdir(exist_ok=True)
    for name, text in pages(version).items():
        (directory / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

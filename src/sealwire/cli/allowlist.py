"""``sealwire allowlist``: from samples to a list of types, and what a list lets a peer do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from sealwire.cli.configured import codec_of, fields_of, find_modules_here, read_tables, remarks
from sealwire.cli.console import print_fields, print_table, printable
from sealwire.cli.inspect import content, refusal
from sealwire.cli.reading import read
from sealwire.cli.suggesting import suggest as suggestion_for
from sealwire.cli.suggesting import try_types
from sealwire.encoding import Codec
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist
from sealwire.pickling.adapters import Adapter
from sealwire.pickling.allowlist import GROUPS

_LISTS = ("types", "shallow", "adapters")


@click.group()
def allowlist() -> None:
    """Choose the types that messages may have."""


@allowlist.command()
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
)
@click.option("--import", "imports", is_flag=True, help="Import the types and check them. Importing runs code.")
def suggest(*, files: Sequence[Path], imports: bool) -> None:
    """Print the [allowlist] table for sample pickles.

    The samples are not loaded. Comments say what is to be known of a type, and what is refused, and why. A name alone
    does not show whether it is a class that can be allowed: --import imports the modules, from the current directory
    or the installed packages, registers each type, and tries the samples. Importing a module runs its code, and a
    sample may name any module: use it only for samples that you wrote.

    \b
    sealwire allowlist suggest order.pickle --import >> sealwire.toml
    """
    samples = {file: content(file) for file in files}
    readings = {file: read(data) for file, data in samples.items()}
    suggestion = suggestion_for(readings.values())
    results: list[str] = []
    for file, reading in readings.items():
        if reading.why:
            results.append(f"{file}: not read after byte {reading.end:,}: {reading.why}")
        elif reading.protocol is None:
            results.append(f"{file}: of protocol 0 or 1, which is not accepted; pickle it with protocol 2 to 5")
    if imports:
        find_modules_here()
        accepting = try_types(suggestion)
        try:
            codec = Codec(accepting)
        except ConfigurationError as error:
            results.append(f"not complete: {error}")
        else:
            for file, data in samples.items():
                why = refusal(data, codec)
                results.append(f"{file}: {f'refused: {why}' if why else 'accepted'}")
    click.echo(suggestion.toml(), nl=False)
    for result in results:
        click.echo(f"# {printable(result)}")


@allowlist.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="TOML file with the table [allowlist].",
)
def check(*, config: Path) -> None:
    """List the allowed types, and what a peer can do.

    The types' modules are found in the current directory or among the installed packages. Fields are given by name,
    and a peer chooses their values; what a peer can do beyond that is in the last column.

    Exit status: 0 if all of the types can be allowed, 1 if not, with the reasons, 2 wrong usage.
    """
    find_modules_here()
    table = read_tables(config).get("allowlist", {})
    rows: dict[type, tuple[str, str, str, str]] = {}
    reasons: list[str] = []
    try:
        every = Allowlist.from_table({**table, **{key: [] for key in _LISTS}} if type(table) is dict else table)
        lists = [every]
        for option, entry in _entries(table):
            try:
                one = Allowlist.from_table({option: [entry]} | {"without": list(every.without)})
                every |= one
            except ConfigurationError as error:
                reasons.append(str(error))
                continue
            lists.append(one)
            rows |= {adapter.cls: _row(adapter, option, entry) for adapter in one.adapters}
    except ConfigurationError as error:
        raise ConfigurationError(f"{config}: {error}") from None
    reasons += _unread_fields(lists[1:], every)
    if rows:
        print_table(("type", "kind", "fields", "what a peer can do"), rows.values())
    print_fields(
        [
            ("standard", ", ".join(group for group in GROUPS if group not in every.without) or "plain data only"),
            ("without", ", ".join(group for group in GROUPS if group in every.without) or "none"),
        ]
    )
    for reason in reasons:
        click.echo(f"  {'REFUSED':<12} {printable(reason)}")
    if reasons:
        raise ConfigurationError(f"{config}: not every type can be allowed; see what is REFUSED")
    codec_of(config)  # the limits as well


def _entries(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the lists of the table have. Raises ConfigurationError."""
    for option in _LISTS:
        entries = table.get(option, [])
        if type(entries) is not list:
            Allowlist.from_table({option: entries})  # says what is expected
        for entry in entries:
            yield option, entry


def _row(adapter: Adapter, option: str, entry: Any) -> tuple[str, str, str, str]:
    fields = f"by {entry['dump']} and {entry['load']}" if option == "adapters" else fields_of(adapter)
    return adapter.spelling, adapter.kind, fields, "; ".join(remarks(adapter, shallow=option == "shallow"))


def _unread_fields(lists: Sequence[Allowlist], every: Allowlist) -> list[str]:
    """Why fields cannot be checked that are annotated with types which are not on the list, or with no types of values.

    A list stops at its first reason; so each type gets its turn to be the first.
    """
    reasons: dict[str, None] = {}
    for one in lists:
        try:
            list((one | every).grants(Limits()))
        except ConfigurationError as error:
            reasons[str(error)] = None
    return list(reasons)

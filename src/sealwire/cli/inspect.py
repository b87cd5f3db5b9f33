"""``sealwire inspect``: what a pickle would do, without doing it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sealwire.cli.configured import codec_of, find_modules_here
from sealwire.cli.console import print_fields, print_table, printable
from sealwire.cli.danger import danger
from sealwire.cli.reading import NAMED, Reading, Sizes, read
from sealwire.encoding import Codec
from sealwire.errors import ConfigurationError, DecodeError
from sealwire.pickling.grants import GETATTR, PHRASE_ENCODE, REBUILDS

MAX_FILE = 64 << 20
"""Bytes of the longest pickle that is looked at."""
SHOWN = 100
"""Names that are printed of one pickle, those first that are not allowed."""

_PHRASES = GETATTR | PHRASE_ENCODE | REBUILDS
STDIN = Path("-")


@click.command()
@click.argument("file", metavar="FILE|-", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with the tables [allowlist] and [limits].  [default: standard types, default limits]",
)
def inspect(*, file: Path, config: Path | None) -> None:
    """Explain a pickle without loading it.

    What it would import and call, how large and how deep it is, and whether decode accepts it. A dash reads it from
    standard input. Nothing that the pickle names is imported.

    With --config the modules of the allowed types are imported, from the current directory or the installed packages;
    a pickle that passes the vetting is then decoded, as a service with that file would, by the types' own constructors.

    Exit status: 0 accepted, 1 refused, or an error, 2 wrong usage.

    \b
    sealwire inspect order.pickle --config sealwire.toml
    """
    data = content(file)
    if config is None:
        codec = Codec()
    else:
        find_modules_here()
        codec = codec_of(config)
    reading = read(data)
    click.echo(f"{'standard input' if file == STDIN else printable(file)}: {_head(reading)}")
    print_fields(
        [
            ("opcodes", f"{reading.opcodes:,}"),
            ("depth", f"{reading.depth} levels"),
            ("str", _sizes(reading.texts, "characters")),
            ("bytes", _sizes(reading.blobs, "bytes")),
        ]
    )
    for remark in reading.remarks:
        click.echo(f"  {'also':<12} {printable(remark)}")
    if reading.why:
        click.echo(f"  {'NOT READ':<12} what comes after byte {reading.end:,}: {reading.why}")
    if reading.names:
        _print_names(reading, codec)
    why = refusal(data, codec)
    click.echo(f"refused: {printable(why)}" if why else "accepted")
    if why:
        sys.exit(1)


def content(file: Path) -> bytes:
    """Of a file, or of standard input. Raises OSError, ConfigurationError."""
    if file == STDIN:
        data = sys.stdin.buffer.read(MAX_FILE + 1)
    else:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigurationError(f"{file}: more than {MAX_FILE >> 20} MiB, which is the most that is looked at")
    return data


def refusal(data: bytes, codec: Codec) -> str:
    """What decode says against a pickle; empty where it accepts it."""
    try:
        codec.decode(data)
    except DecodeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _print_names(reading: Reading, codec: Codec) -> None:
    powers = {name: grant.powers for grant in codec.allowlist.grants(codec.limits) for name in grant.names}
    ranks: list[list[tuple[str, str, str]]] = [[], [], []]
    for name, uses in reading.names.items():
        why = danger(*name)
        if name in powers:
            rank, state = 2, "yes, in a fixed phrase" if powers[name] & _PHRASES else "yes"
        else:
            rank, state = (0, f"NO, DANGEROUS: {why}") if why else (1, "no")
        ranks[rank].append((".".join(name), ", ".join(sorted(uses - {NAMED})) or NAMED, state))
    rows = [row for rank in ranks for row in rank]
    print_table(("it imports", "what for", "allowed"), rows[:SHOWN])
    if len(rows) > SHOWN:
        click.echo(f"and {len(rows) - SHOWN:,} more")


def _head(reading: Reading) -> str:
    protocol = "no protocol said (0 or 1)" if reading.protocol is None else f"protocol {reading.protocol}"
    return f"{reading.size:,} bytes, {protocol}"


def _sizes(sizes: Sizes, unit: str) -> str:
    return f"{sizes.count:,}, {sizes.total:,} {unit}, the longest {sizes.longest:,}" if sizes.count else "none"

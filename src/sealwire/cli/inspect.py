"""``sealwire inspect``: an explanation of a pickle, without loading it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from sealwire.cli.config import import_from_here, load_codec
from sealwire.cli.console import print_fields, print_json, print_line, print_table
from sealwire.cli.discovery import configuration
from sealwire.cli.options import FILE_OR_DASH, STDIN, app_dir_option, json_option
from sealwire.cli.pickle_summary import IMPORTED, PickleSummary, Sizes, summarize
from sealwire.cli.progress import progress
from sealwire.cli.unsafe_globals import danger
from sealwire.codec import Codec
from sealwire.errors import ConfigurationError, DecodeError
from sealwire.pickling.globals import CALL_ENCODE, CALL_GETATTR, CALL_REBUILD, GlobalTable

MAX_FILE: Final = 64 << 20
"""The largest pickle that is read, in bytes."""
MAX_SHOWN: Final = 100
"""Names that are printed, those first that are not allowed."""

_PHRASES: Final = CALL_GETATTR | CALL_ENCODE | CALL_REBUILD


class _Use(NamedTuple):
    """A name in a pickle, and whether messages may have it."""

    name: str
    uses: tuple[str, ...]
    allowed: str
    """Empty if it is not."""
    danger: str
    """The reason why it is a known attack; empty otherwise."""


@click.command()
@click.argument("file", metavar="FILE|-", type=FILE_OR_DASH)
@configuration(found=False, required=False)
@app_dir_option
@json_option
def inspect(*, file: Path, config: Path | None, as_json: bool) -> None:
    """Explain a pickle without loading it.

    It shows the names that the pickle would import and call, its size and depth, and whether decode accepts it. A dash
    reads it from standard input. Nothing that the pickle names is imported.

    Without a configuration it takes the standard types and the default limits; sealwire.toml is not looked for. With
    one the modules of the allowed types are imported, from the current directory or the installed packages.
    A pickle that passes the vetting is then decoded by the types' own constructors, as a service with that file would.

    Exit status: 0 accepted, 1 refused, or an error.

    \b
    sealwire inspect order.pickle --config sealwire.toml
    """
    data = read_pickle(file)
    if config is None:
        codec = Codec()
    else:
        import_from_here()
        codec = load_codec(config)
    with progress(f"reading {len(data):,} bytes"):
        summary = summarize(data)
        names, refusal = _names(summary, codec), refusal_of(data, codec)
    if as_json:
        print_json(_as_json(file, summary, names, refusal))
    else:
        _print(file, summary, names, refusal)
    if refusal:
        sys.exit(1)


def _print(file: Path, summary: PickleSummary, names: list[_Use], refusal: str) -> None:
    protocol = "no protocol stated (0 or 1)" if summary.protocol is None else f"protocol {summary.protocol}"
    print_line(f"{'standard input' if file == STDIN else file}: {summary.size:,} bytes, {protocol}")
    print_fields(
        [
            ("opcodes", f"{summary.opcodes:,}"),
            ("depth", f"{summary.depth} levels"),
            ("str", _sizes_text(summary.strings, "characters")),
            ("bytes", _sizes_text(summary.blobs, "bytes")),
            *(("also", remark) for remark in summary.remarks),
        ]
    )
    if summary.error:
        print_fields([("NOT READ", f"the rest after byte {summary.end:,}: {summary.error}")])
    if names:
        _print_names(names)
    print_line(f"refused: {refusal}" if refusal else "accepted")


def read_pickle(file: Path) -> bytes:
    """Read a file, or standard input for a dash. Raises OSError, ConfigurationError."""
    if file == STDIN:
        data = sys.stdin.buffer.read(MAX_FILE + 1)
    else:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigurationError(f"{file}: more than {MAX_FILE >> 20} MiB, the largest pickle that is read")
    return data


def refusal_of(data: bytes, codec: Codec) -> str:
    """Return the error of decode for a pickle; empty if it accepts it."""
    try:
        codec.decode(data)
    except DecodeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _names(summary: PickleSummary, codec: Codec) -> list[_Use]:
    """Return the names, those first that are not allowed, the dangerous ones before all."""
    rules = GlobalTable(codec.allowlist.global_rules())
    numbers = rules.numbers if (summary.protocol or 0) > 2 else rules.old_numbers | rules.numbers
    found = []
    for name, uses in summary.names.items():
        number = numbers.get(name)
        allowed = "" if number is None else "in a fixed phrase" if rules.permissions[number] & _PHRASES else "as a type"
        shown = tuple(sorted(uses - {IMPORTED})) or (IMPORTED,)
        found.append(_Use(".".join(name), shown, allowed, "" if allowed else danger(*name) or ""))
    return sorted(found, key=lambda use: (bool(use.allowed), not use.danger))


def _print_names(names: list[_Use]) -> None:
    words = {"as a type": "yes", "in a fixed phrase": "yes, in a fixed phrase"}
    rows = [
        (
            use.name,
            ", ".join(use.uses),
            words[use.allowed] if use.allowed else f"NO, DANGEROUS: {use.danger}" if use.danger else "no",
        )
        for use in names[:MAX_SHOWN]
    ]
    print_table(("it imports", "use", "allowed"), rows)
    if len(names) > MAX_SHOWN:
        print_line(f"and {len(names) - MAX_SHOWN:,} more")


def _as_json(file: Path, summary: PickleSummary, names: list[_Use], refusal: str) -> dict[str, Any]:
    return {
        "file": None if file == STDIN else str(file),
        "bytes": summary.size,
        "protocol": summary.protocol,
        "opcodes": summary.opcodes,
        "depth": summary.depth,
        "strings": asdict(summary.strings),
        "blobs": asdict(summary.blobs),
        "remarks": list(summary.remarks),
        "unread": {"after": summary.end, "why": summary.error} if summary.error else None,
        "names": [
            {
                "name": use.name,
                "uses": list(use.uses),
                "allowed": bool(use.allowed),
                "danger": use.danger or None,
            }
            for use in names
        ],
        "accepted": not refusal,
        "refusal": refusal or None,
    }


def _sizes_text(sizes: Sizes, unit: str) -> str:
    return f"{sizes.count:,}, {sizes.total:,} {unit}, the longest {sizes.longest:,}" if sizes.count else "none"

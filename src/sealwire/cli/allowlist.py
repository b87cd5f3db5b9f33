"""``sealwire allowlist``: suggests a list of types from samples, and explains a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import formatannotation
from pathlib import Path
from typing import Any, Final

import click

from sealwire.cli.config import import_from_here, load_codec, peer_effects
from sealwire.cli.console import print_fields, print_json, print_line, print_table
from sealwire.cli.inspect import read_pickle, refusal_of
from sealwire.cli.options import FILE_OR_DASH, app_dir_option, config_option, json_option
from sealwire.cli.pickle_summary import PickleSummary, summarize
from sealwire.cli.progress import progress
from sealwire.cli.suggest import register_types
from sealwire.cli.suggest import suggest as suggest_table
from sealwire.codec import Codec
from sealwire.errors import ConfigurationError
from sealwire.pickling import Allowlist
from sealwire.pickling.adapters import Adapter
from sealwire.pickling.allowlist import GROUPS
from sealwire.pickling.importing import import_object
from sealwire.toml_options import read_toml

_LISTS: Final = ("types", "shallow", "adapters", "handlers")
_HEADER: Final = ("type", "kind", "fields", "what a peer can do")


@click.group()
def allowlist() -> None:
    """Choose the types that messages may have."""


@allowlist.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE_OR_DASH)
@click.option(
    "--import",
    "imports",
    is_flag=True,
    allow_from_autoenv=False,
    help="Import the types and check them. Importing runs code.",
)
@app_dir_option
def suggest(*, files: Sequence[Path], imports: bool) -> None:
    """Print the [allowlist] table for sample pickles.

    The samples are not loaded. Comments remark on each type, and give the reason for each name that is refused. A name
    alone does not show whether it is a class that can be allowed: --import imports the modules, from the current
    directory or the installed packages, registers each type, and tries the samples. Importing a module runs its code,
    and a sample may name any module: use it only for samples that you wrote.

    \b
    sealwire allowlist suggest order.pickle --import >> sealwire.toml
    """
    samples = {file: read_pickle(file) for file in files}
    summaries = {}
    with progress("reading the samples", len(samples)) as show:
        for number, (file, data) in enumerate(samples.items(), 1):
            summaries[file] = summarize(data)
            show(number, f"{number:,} of {len(samples):,} samples")
    suggestion = suggest_table(summaries.values())
    results = [f"{file}: {problem}" for file, summary in summaries.items() if (problem := _problem(summary))]
    if imports:
        import_from_here()
        types = register_types(suggestion)
        try:
            codec = Codec(types)
        except ConfigurationError as error:
            results.append(f"not complete: {error}")
        else:
            for file, data in samples.items():
                refusal = refusal_of(data, codec)
                results.append(f"{file}: {f'refused: {refusal}' if refusal else 'accepted'}")
    click.echo(suggestion.toml(), nl=False)
    for result in results:
        print_line(f"# {result}")


def _problem(summary: PickleSummary) -> str:
    if summary.error:
        return f"not read after byte {summary.end:,}: {summary.error}"
    return (
        "of protocol 0 or 1, which is not accepted; pickle it with protocol 2 to 5" if summary.protocol is None else ""
    )


@allowlist.command()
@config_option
@app_dir_option
@json_option
def check(*, config: Path, as_json: bool) -> None:
    """List the allowed types, and their risks.

    If types come from the signatures of handlers, a column says where each of them was found: in a parameter, a reply,
    or the field of another type.

    The modules of the types are found in the current directory or among the installed packages. A peer chooses the
    values of all fields; the last column says what else it can do.

    Exit status: 0 if all types can be allowed, 1 if not, with the reasons.
    """
    import_from_here()
    table = read_toml(config).get("allowlist", {})
    try:
        base = Allowlist.from_table({**table, **_empty(table)} if type(table) is dict else table)
        entries = list(_entries(table))
    except ConfigurationError as error:
        raise ConfigurationError(f"{config}: {error}") from None
    without = list(base.without)
    singles: list[Allowlist] = []
    rows: dict[type, dict[str, Any]] = {}
    refusals: list[str] = []
    for option, entry in entries:
        try:
            single = _single(table, option, entry, base)
            base |= single
        except ConfigurationError as error:
            refusals.append(str(error))
            continue
        singles.append(single)
        new = [adapter for adapter in single.adapters if option != "handlers" or adapter.cls not in rows]
        rows |= {adapter.cls: _row(adapter, option, entry) for adapter in new}
    refusals += _unchecked_fields(singles, base)
    standard = [group for group in GROUPS if group not in without]
    if as_json:
        types = [row | {"found_in": base.origin(cls) or None} for cls, row in rows.items()]
        print_json({"types": types, "standard": standard, "without": without, "refused": refusals})
    else:
        if rows:
            _print_types(rows, base)
        print_fields(
            [
                ("standard", ", ".join(standard) or "plain data only"),
                ("without", ", ".join(group for group in GROUPS if group in without) or "none"),
                *(("REFUSED", refusal) for refusal in refusals),
            ]
        )
    if refusals:
        raise ConfigurationError(f"{config}: not every type can be allowed; see the lines REFUSED")
    load_codec(config)  # checks the limits as well


def _single(table: dict[str, Any], option: str, entry: Any, base: Allowlist) -> Allowlist:
    """Return the list of one entry; for a handler, the list before it as well. Raises ConfigurationError."""
    if option == "handlers":
        try:
            return (Allowlist(without=base.without) | base).allow_handlers(import_object(entry))
        except ConfigurationError as error:
            raise ConfigurationError(f"allowlist.handlers: {error}") from None
    missing = {entry: table["missing"][entry]} if type(entry) is str and entry in table.get("missing", {}) else {}
    return Allowlist.from_table({option: [entry], "without": list(base.without), "missing": missing})


def _print_types(rows: dict[type, dict[str, Any]], allowlist: Allowlist) -> None:
    origins = {cls: allowlist.origin(cls) for cls in rows}
    texts = {cls: _texts(row) for cls, row in rows.items()}
    if not any(origins.values()):
        print_table(_HEADER, texts.values())
        return
    print_table(
        (_HEADER[0], "found in", *_HEADER[1:]),
        [(text[0], origins[cls] or "the configuration", *text[1:]) for cls, text in texts.items()],
    )


def _empty(table: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have or name types, without any."""
    missing: dict[str, Any] = {"missing": {}} if type(table.get("missing")) is dict else {}
    return {**missing, **{option: [] for option in _LISTS}}


def _entries(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of each list in the table, with the name of the list. Raises ConfigurationError."""
    for option in _LISTS:
        entries = table.get(option, [])
        if type(entries) is not list:
            Allowlist.from_table({option: entries})  # raises the error
        for entry in entries:
            yield option, entry


def _row(adapter: Adapter, option: str, entry: Any) -> dict[str, Any]:
    """Return the facts about a type, for scripts."""
    return {
        "type": adapter.qualified_name,
        "kind": adapter.kind,
        "fields": {name: formatannotation(hint) for name, hint in adapter.fields.items()},
        "adapter": {name: entry[name] for name in ("dump", "load")} if option == "adapters" else None,
        "risks": list(peer_effects(adapter, shallow=option == "shallow")),
    }


def _texts(row: dict[str, Any]) -> tuple[str, str, str, str]:
    adapter = row["adapter"]
    fields = ", ".join(f"{name}: {hint}" for name, hint in row["fields"].items())
    if adapter is not None:
        fields = f"by {adapter['dump']} and {adapter['load']}"
    return row["type"], row["kind"], fields, "; ".join(row["risks"])


def _unchecked_fields(singles: Sequence[Allowlist], complete: Allowlist) -> list[str]:
    """Return the errors for fields with types that are not on the list, or that are not types of values.

    A list raises its first error only, so that each type has to be the first once.
    """
    errors: dict[str, None] = {}
    for single in singles:
        try:
            list((single | complete).global_rules())
        except ConfigurationError as error:
            errors[str(error)] = None
    return list(errors)

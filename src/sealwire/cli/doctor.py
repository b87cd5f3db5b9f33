"""``sealwire doctor``: problems of a configuration, and of the way to a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import click

from sealwire.cli.addresses import Address, DatagramAddress, ServerAddress
from sealwire.cli.checks import check_files, check_interpreter, check_keys, check_security, check_types, paths_of
from sealwire.cli.config import import_from_here
from sealwire.cli.connectivity import check_connectivity
from sealwire.cli.console import form, print_json, print_line, print_table
from sealwire.cli.exit_statuses import unknown_if_it_fails
from sealwire.cli.html_report import report_page
from sealwire.cli.lifetimes import expiring
from sealwire.cli.options import (
    FILE,
    app_dir_option,
    config_option,
    json_option,
    optional_server_argument,
    quiet_option,
    soon_option,
)
from sealwire.cli.progress import progress
from sealwire.cli.report import Finding, Severity, exit_for, findings_json, worst_first
from sealwire.cli.workdir import mode_of, report_written
from sealwire.errors import SealwireError
from sealwire.pki.files import PUBLIC, NewFile, write_files
from sealwire.security import Security


@click.command()
@optional_server_argument
@config_option
@app_dir_option
@soon_option("--warn")
@click.option("--html", "page", type=FILE, metavar="FILE", help="Also write a report as a page of HTML.")
@json_option
@quiet_option
@unknown_if_it_fails
def doctor(*, address: ServerAddress | None, config: Path, days: int | None, page: Path | None, as_json: bool) -> None:
    """Find problems of a configuration.

    It checks file modes, expiry, chains, names, the strength of keys, the types that a peer may send, and clocks. With
    ADDRESS (as for `sealwire call`) and a client's configuration it also connects to the server there, on TCP step by
    step, up to a ping. Each
    finding comes with a remedy; nothing is changed.

    Exit status: 0 for no findings or notes alone, 1 for a warning, 2 for a critical finding, 3 if it could not check.

    \b
    sealwire doctor --config client.toml server.example:7443
    sealwire doctor --config server.toml --html report.html
    """
    with progress("looking" if address is None else f"looking, and connecting to {address}"):
        security, unloadable = _load(config)
        loaded = unloadable if security is None else _check_loaded(security, config, address, days)
        findings = _without_repetition([*check_interpreter(), *check_files(config), *loaded])
    words = f"Sealwire {version('sealwire')}, {form()}"
    if page is not None:
        content = report_page(config, findings, security, days=days, form=words)
        write_files([NewFile(page, content.encode(), mode_of(page, PUBLIC))], replace=True)
    if as_json:
        print_json(findings_json(findings))
    elif findings:
        print_table(("severity", "where", "problem", "what to do"), worst_first(findings))
    else:
        print_line(f"nothing is wrong with {config}")
    if not as_json:
        print_line(words)
        if page is not None:
            report_written(page, "the report, to be opened in a browser")
    exit_for([finding.severity for finding in findings])


def _load(config: Path) -> tuple[Security | None, list[Finding]]:
    """Load a configuration; return it, or the finding that it cannot be loaded."""
    import_from_here()
    try:
        return Security.from_toml(config), []
    except SealwireError as error:
        return None, [_of_error(error, config)]


def _of_error(error: SealwireError, config: Path) -> Finding:
    """Return an error as a finding, with the file that it names as the place, and the end as the remedy."""
    text = str(error).removeprefix(f"{config}: ")
    file, separator, rest = text.partition(": ")
    where, text = (file, rest) if separator and (os.path.lexists(file) or os.sep in file) else (str(config), text)
    problem, _, remedy = text.partition("; ")
    return Finding(Severity.CRITICAL, where, problem, f"{remedy or 'mend it'} (nothing else was checked)")


def _without_repetition(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without those that another one of the same file says again, with more to do about it."""
    last = {(os.path.abspath(finding.location), finding.problem): finding for finding in findings}
    return [*last.values()]


def _check_loaded(
    security: Security, config: Path, address: ServerAddress | None, days: int | None
) -> Iterator[Finding]:
    status = security.status()
    files = {part: str(path) for part, path in paths_of(config).items()}  # a running server's are absolute
    credentials = replace(status.credentials, files=status.credentials.files | files)
    keys = replace(status.keys, file=files["keyring"])
    yield from expiring(credentials, keys, days)
    yield from check_security(security, address.host if isinstance(address, Address | DatagramAddress) else None)
    yield from check_keys(keys)
    yield from check_types(security, config)
    if address is not None:
        yield from check_connectivity(security, address)

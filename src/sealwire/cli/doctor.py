"""``sealwire doctor``: problems of a configuration, and of the way to a server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from sealwire.cli.addresses import Address
from sealwire.cli.checks import check_files, check_interpreter, check_keys, check_security, check_types
from sealwire.cli.config import import_from_here
from sealwire.cli.connectivity import check_connectivity
from sealwire.cli.console import form, print_json, print_line, print_table
from sealwire.cli.lifetimes import expiring
from sealwire.cli.options import config_option, json_option, optional_address_argument, quiet_option, soon_option
from sealwire.cli.progress import progress
from sealwire.cli.report import Finding, Severity, exit_for, findings_json, worst_first
from sealwire.cli.statuses import unknown_if_it_fails
from sealwire.errors import SealwireError
from sealwire.security import Security


@click.command()
@optional_address_argument
@config_option
@soon_option("--warn")
@json_option
@quiet_option
@unknown_if_it_fails
def doctor(*, address: Address | None, config: Path, days: int | None, as_json: bool) -> None:
    """Find problems of a configuration.

    It checks file modes, expiry, chains, names, the strength of keys, the types that a peer may send, and clocks. With
    HOST:PORT and a client's configuration it also connects to the server there, step by step, up to a ping. Each
    finding comes with a remedy; nothing is changed.

    Exit status: 0 for no findings or notes alone, 1 for a warning, 2 for a critical finding, 3 if it could not check.

    \b
    sealwire doctor --config client.toml server.example:7443
    """
    with progress("looking" if address is None else f"looking, and connecting to {address}"):
        findings = [*check_interpreter(), *check_files(config), *_check_loaded(config, address, days)]
    if as_json:
        print_json(findings_json(findings))
    elif findings:
        print_table(("severity", "where", "problem", "what to do"), worst_first(findings))
    else:
        print_line(f"nothing is wrong with {config}")
    if not as_json:
        print_line(f"Sealwire {version('sealwire')}, {form()}")
    exit_for([finding.severity for finding in findings])


def _check_loaded(config: Path, address: Address | None, days: int | None) -> Iterator[Finding]:
    import_from_here()
    try:
        security = Security.from_toml(config)
    except SealwireError as error:
        yield Finding(Severity.CRITICAL, str(config), str(error), "do as it says; nothing else was checked")
        return
    status = security.status()
    yield from expiring(status.credentials, status.keys, days)
    yield from check_security(security, None if address is None else address.host)
    yield from check_keys(status.keys)
    yield from check_types(security, config)
    if address is not None:
        yield from check_connectivity(security, address)

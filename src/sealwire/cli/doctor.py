"""``sealwire doctor``: what is wrong with a configuration, and with the way to a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from sealwire.cli.checkup import of_allowlist, of_files, of_keys, of_security
from sealwire.cli.configured import find_modules_here
from sealwire.cli.findings import Finding, Severity, report
from sealwire.cli.lifetimes import lifetimes
from sealwire.cli.reaching import ADDRESS, reach
from sealwire.errors import SealwireError
from sealwire.security import Security


@click.command()
@click.argument("address", metavar="[HOST:PORT]", type=ADDRESS, required=False)
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The configuration to look at."
)
@click.option(
    "--warn", type=click.IntRange(0, 3650), default=14, show_default=True, metavar="DAYS", help="How soon is soon."
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def doctor(*, address: tuple[str, int] | None, config: Path, warn: int, as_json: bool) -> None:
    """Look for what is wrong with a configuration.

    File modes, what expires, chains, names, the strength of keys, the types that a peer may send, clocks. With
    HOST:PORT also the way to the server there, step by step, with a client's configuration until it answers a ping.
    Each finding comes with what to do. Nothing is changed.

    The exit status is 0 if there are no findings, or notes alone, 1 for a warning, and 2 for what is critical.

    \b
    sealwire doctor --config client.toml server.example:7443
    """
    findings = list(of_files(config))
    try:
        find_modules_here()
        security = Security.from_toml(config)
    except SealwireError as error:
        findings.append(Finding(Severity.CRITICAL, str(config), str(error), "as it says; nothing else was looked at"))
        security = None
    if security is not None:
        findings += _of(security, address, warn)
    report(findings, as_json_=as_json, fine=f"nothing is wrong with {config}")


def _of(security: Security, address: tuple[str, int] | None, warn: int) -> Iterator[Finding]:
    found = security.status()
    yield from lifetimes(found.credentials, found.keys, warn)
    yield from of_security(security, None if address is None else address[0])
    yield from of_keys(found.keys)
    yield from of_allowlist(security)
    if address is not None:
        yield from reach(security, *address)

"""``sealwire status``: the certificates and keys that a configuration loads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealwire.cli.addresses import Address
from sealwire.cli.admin_client import admin_option, fetch_report, print_report, report_findings
from sealwire.cli.connectivity import shown_certificate
from sealwire.cli.console import print_fields, print_json, print_line
from sealwire.cli.discovery import HERE, configuration
from sealwire.cli.exit_statuses import unknown_if_it_fails
from sealwire.cli.lifetimes import days_left, expiring, iso, key_owners, signing_next, signing_now
from sealwire.cli.options import json_option, optional_address_argument, quiet_option, soon_option
from sealwire.cli.report import Finding, Severity, exit_for, findings_json, worst_first
from sealwire.errors import SealwireError
from sealwire.listeners import address_text
from sealwire.moments import moment_text
from sealwire.pki.crl import number_of
from sealwire.remedies import command
from sealwire.security import Security, SecurityStatus, without_types
from sealwire.trust.credentials import CredentialsStatus
from sealwire.trust.keyring import KeyringStatus


@click.command()
@optional_address_argument
@configuration(required=False)
@admin_option
@soon_option("--warn")
@json_option
@quiet_option
@unknown_if_it_fails
def status(*, address: Address | None, config: Path | None, admin: str | None, days: int | None, as_json: bool) -> None:
    """Show which certificates and keys are loaded.

    It shows their files, when they end, and which key signs. With HOST:PORT, on TCP, it also checks that the
    server there shows the certificate in the files. The digests are equal to those of a running server with the same
    files.

    With --admin, in place of --config, it asks a running server what is in service there and in its workers, which
    clients are connected, and what it has refused.

    Exit status: 0 if all is well, 1 if something ends soon (--warn), 2 if something has ended, cannot be
    loaded, or differs from the server's, 3 if it could not check, 69 if --admin cannot be reached.

    \b
    sealwire status --config server.toml localhost:7443
    sealwire status --admin 127.0.0.1:9090
    """
    if admin is not None:
        _show_running(admin, as_json=as_json)
        return
    if config is None:
        raise click.UsageError(
            f"give --config for the files (there is no {HERE} here), or --admin for a running server"
        )
    try:
        security = without_types(config)
        loaded = security.status()
    except SealwireError as error:
        fix = "do as it says; a running service keeps what it has loaded"
        findings = [Finding(Severity.CRITICAL, str(config), str(error), fix)]
        if as_json:
            print_json({"findings": findings_json(findings)})
        else:
            print_line(f"{Severity.CRITICAL}: {error}", err=True)
    else:
        findings = list(expiring(loaded.credentials, loaded.keys, days))
        shown = None
        if address is not None:
            shown, found = _compare_with_server(address, security, config)
            findings += found
        if as_json:
            print_json(_as_json(loaded) | {"server": shown, "findings": findings_json(findings)})
        else:
            _print_credentials(loaded.credentials)
            _print_keys(loaded.keys)
            if shown is not None:
                print_fields([("server shows", f"sha256:{shown}")])
            _print_findings(findings)
    exit_for([finding.severity for finding in findings])


def _show_running(admin: str, *, as_json: bool) -> None:
    report = fetch_report(admin)
    findings = report_findings(admin, report)
    if as_json:
        print_json(report | {"findings": findings_json(findings)})
    else:
        print_report(report)
        _print_findings(findings)
    exit_for([finding.severity for finding in findings])


def _print_findings(findings: list[Finding]) -> None:
    for finding in worst_first(findings):
        print_line(f"{finding.severity}: {finding.location}: {finding.problem}; {finding.remedy}")


def _compare_with_server(address: Address, security: Security, config: Path) -> tuple[str | None, list[Finding]]:
    """Return the fingerprint of the certificate that a server shows, and a finding if it is not this one."""
    try:
        shown = shown_certificate(address).fingerprint
    except (OSError, SealwireError) as error:
        problem = f"cannot be asked for its certificate ({error})"
        remedy = f"run {command('sealwire', 'doctor', address_text(address), '--config', config)}"
        return None, [Finding(Severity.CRITICAL, address_text(address), problem, remedy)]
    current = security.credentials.current
    if current.identity is None or shown == current.identity.fingerprint:
        return shown, []
    if "server" not in current.roles:
        problem = f"shows a server's certificate, sha256:{shown[:16]}…; the one in the files is a client's"
        return shown, [Finding(Severity.NOTE, address_text(address), problem, "compare it on the server's machine")]
    problem = f"shows another certificate than the one in the files, sha256:{shown[:16]}…"
    remedy = "see its log; it checks its files with each connection, and at SIGHUP"
    return shown, [Finding(Severity.CRITICAL, address_text(address), problem, remedy)]


def _print_credentials(credentials: CredentialsStatus) -> None:
    if not credentials.files:
        print_line("credentials: none, as on Unix sockets alone")
        return
    print_line(f"credentials (generation {credentials.generation}, digest {credentials.digest[:12]})")
    own = credentials.identity
    if own is not None:
        problem = credentials.chain_problem
        chain = "builds to the trust anchors" if problem is None else f"is of another CA than the peers' ({problem})"
        if not credentials.chain_complete:
            chain += ", but only with an intermediate certificate that ca has and cert has not"
        print_fields([("certificate", own), ("expires", _until(own.not_after)), ("chain", chain)])
    for anchor in credentials.authorities:
        print_fields([("trust", f"{anchor.subject.rfc4514_string()}, {_until(anchor.not_valid_after_utc)}")])
    for crl in credentials.lists:
        text = f"list {number_of(crl)} of {crl.issuer.rfc4514_string()}, {len(list(crl))} revoked"
        print_fields([("revoked", f"{text}, {_until(crl.next_update_utc)}")])
    print_fields(credentials.files.items())


def _print_keys(status: KeyringStatus) -> None:
    print_line(f"keys (generation {status.generation}, digest {status.digest[:12]})")
    print_fields([("file", status.file)])
    for identity in key_owners(status.keys):
        following = signing_next(status.keys, identity)
        then = f", then {following}" if following else ""
        signing = signing_now(status.keys, identity) or "none"
        print_fields([("signs", f"{signing}{then} (for {identity or 'every client'})")])
    print_fields([("verify", ", ".join(_verifying(status)) or "none"), ("in all", len(status.keys))])


def _verifying(status: KeyringStatus) -> list[str]:
    now = datetime.now(UTC)
    return [key.id for key in status.keys if key.valid_at(now)]


def _until(moment: datetime | None) -> str:
    return "no end" if moment is None else f"until {moment_text(moment)}, {days_left(moment)} days"


def _as_json(loaded: SecurityStatus) -> dict[str, Any]:
    credentials, keys, configuration = loaded
    own = credentials.identity
    return {
        "configuration": None
        if configuration is None
        else {
            "generation": configuration.generation,
            "digest": configuration.digest,
            "files": configuration.files,
            "waits_for_restart": list(configuration.waiting),
        },
        "credentials": {
            "generation": credentials.generation,
            "digest": credentials.digest,
            "files": credentials.files,
            "certificate": None
            if own is None
            else {
                "names": [*own.dns, *own.ip, *own.uri, *own.email],
                "serial": f"{own.serial:x}",
                "sha256": own.fingerprint,
                "not_after": iso(own.not_after),
                "days_left": days_left(own.not_after),
            },
            "chain_problem": credentials.chain_problem,
            "chain_complete": credentials.chain_complete,
            "revoked": credentials.revoked,
            "trust_anchors": [
                {"subject": anchor.subject.rfc4514_string(), "not_after": iso(anchor.not_valid_after_utc)}
                for anchor in credentials.authorities
            ],
            "revocation_lists": [
                {
                    "issuer": crl.issuer.rfc4514_string(),
                    "number": number_of(crl),
                    "entries": len(list(crl)),
                    "next_update": iso(crl.next_update_utc),
                }
                for crl in credentials.lists
            ],
        },
        "keys": {
            "generation": keys.generation,
            "digest": keys.digest,
            "file": keys.file,
            "signing": {
                identity or "": {"now": signing_now(keys.keys, identity), "next": signing_next(keys.keys, identity)}
                for identity in key_owners(keys.keys)
            },
            "verifying": _verifying(keys),
        },
    }

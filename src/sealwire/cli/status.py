"""``sealwire status``: what a configuration has in service."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealwire.cli.console import print_fields, print_json, printable
from sealwire.cli.findings import Finding, Severity, as_json, end
from sealwire.cli.lifetimes import lifetimes, signs_next
from sealwire.cli.reaching import ADDRESS, shown_leaf
from sealwire.errors import SealwireError
from sealwire.security import Security, SecurityStatus
from sealwire.tls.identity import PeerIdentity
from sealwire.tls.revocation import number_of


@click.command()
@click.argument("address", metavar="[HOST:PORT]", type=ADDRESS, required=False)
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The configuration to look at."
)
@click.option(
    "--warn", type=click.IntRange(0, 3650), default=14, show_default=True, metavar="DAYS", help="How soon is soon."
)
@click.option("--json", "as_json_", is_flag=True, help="For scripts.")
def status(*, address: tuple[str, int] | None, config: Path, warn: int, as_json_: bool) -> None:
    """Show what certificates and keys are loaded.

    From where they come, how long they last, and which key signs. With HOST:PORT it also asks the server that runs
    there whether the certificate that it shows is the one in the files. The digests are those of a running server.

    The exit status is 0 if all is well, 1 if something ends within --warn days, and 2 if something has ended, cannot be
    loaded, or is not what the server shows.

    \b
    sealwire status --config server.toml localhost:7443
    """
    try:
        found = Security.from_toml(config).status()
    except SealwireError as error:
        finding = Finding(Severity.CRITICAL, str(config), str(error), "see what it says; a running service goes on")
        if as_json_:
            print_json({"findings": as_json([finding])})
        else:
            click.echo(f"critical: {printable(error)}", err=True)
        end([finding])
        return
    findings = list(lifetimes(found.credentials, found.keys, warn))
    shown = None
    if address is not None:
        shown, more = _in_service(address, found.credentials.identity)
        findings += more
    if as_json_:
        print_json(_described(found) | {"server": shown, "findings": as_json(findings)})
    else:
        _print(found, shown)
        for each in sorted(findings, key=lambda each: -each.severity):
            click.echo(f"{each.severity.name.lower()}: {printable(each.where)}: {printable(each.what)}; {each.fix}")
    end(findings)


def _in_service(address: tuple[str, int], own: PeerIdentity | None) -> tuple[str | None, list[Finding]]:
    where = f"{address[0]}:{address[1]}"
    try:
        leaf = PeerIdentity.from_der(shown_leaf(*address))
    except (OSError, SealwireError) as error:
        why = f"cannot be asked for its certificate ({error})"
        return None, [Finding(Severity.CRITICAL, where, why, "see `sealwire doctor` with this address")]
    if own is None or leaf.fingerprint == own.fingerprint:
        return leaf.fingerprint, []
    what = f"shows another certificate than the one in the files, sha256:{leaf.fingerprint[:16]}…"
    fix = "see its log; it looks at its files with each connection, and at SIGHUP"
    return leaf.fingerprint, [Finding(Severity.CRITICAL, where, what, fix)]


def _print(found: SecurityStatus, shown: str | None) -> None:
    credentials, keys = found
    click.echo(f"credentials (generation {credentials.generation}, digest {credentials.digest[:12]})")
    lines: list[tuple[str, object]] = []
    if credentials.identity is not None:
        own = credentials.identity
        chain = credentials.chain_problem
        lines += [
            ("certificate", own),
            ("expires", _until(own.not_after)),
            (
                "chain",
                "builds to the trust anchors" if chain is None else f"is of another CA than the peers' ({chain})",
            ),
        ]
    lines += [
        ("trust", f"{each.subject.rfc4514_string()}, {_until(each.not_valid_after_utc)}")
        for each in credentials.authorities
    ]
    for each in credentials.lists:
        issuer, count = each.issuer.rfc4514_string(), len(list(each))
        lines.append(
            ("revoked", f"list {number_of(each)} of {issuer}, {count} revoked, {_until(each.next_update_utc)}")
        )
    lines += [(part, path) for part, path in credentials.files.items()]
    print_fields(lines)
    click.echo(f"keys (generation {keys.generation}, digest {keys.digest[:12]})")
    now = datetime.now(UTC)
    print_fields([("file", keys.file)])
    for identity in dict.fromkeys(key.identity for key in keys.keys):
        current, following = signs_next(keys, identity)
        then = f", then {following}" if following else ""
        print_fields([("signs", f"{current or 'none'}{then} (for {identity or 'everybody'})")])
    valid = [key.id for key in keys.keys if key.valid_at(now)]
    print_fields([("verify", ", ".join(valid) or "none"), ("in all", len(keys.keys))])
    if shown is not None:
        print_fields([("server shows", f"sha256:{shown}")])


def _until(moment: datetime | None) -> str:
    if moment is None:
        return "no end"
    return f"until {moment:%Y-%m-%d %H:%M} UTC, {(moment - datetime.now(UTC)).days} days"


def _described(found: SecurityStatus) -> dict[str, Any]:
    credentials, keys = found
    own = credentials.identity
    now = datetime.now(UTC)
    return {
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
                "not_after": own.not_after.isoformat(),
                "days_left": (own.not_after - now).days,
            },
            "chain_problem": credentials.chain_problem,
            "revoked": credentials.revoked,
            "trust_anchors": [
                {"subject": each.subject.rfc4514_string(), "not_after": each.not_valid_after_utc.isoformat()}
                for each in credentials.authorities
            ],
            "revocation_lists": [
                {
                    "issuer": each.issuer.rfc4514_string(),
                    "number": number_of(each),
                    "entries": len(list(each)),
                    "next_update": None if each.next_update_utc is None else each.next_update_utc.isoformat(),
                }
                for each in credentials.lists
            ],
        },
        "keys": {
            "generation": keys.generation,
            "digest": keys.digest,
            "file": keys.file,
            "signing": {
                identity or "": dict(zip(("now", "next"), signs_next(keys, identity), strict=True))
                for identity in dict.fromkeys(key.identity for key in keys.keys)
            },
            "verifying": [key.id for key in keys.keys if key.valid_at(now)],
        },
    }

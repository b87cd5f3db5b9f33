"""``sealwire check``: one line and an exit status for a monitoring system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import click

from sealwire.cli.addresses import ServerAddress
from sealwire.cli.admin_client import admin_option, fetch_report, report_findings
from sealwire.cli.clients import open_client
from sealwire.cli.console import OutputError, error_line, print_json, print_line
from sealwire.cli.discovery import configuration
from sealwire.cli.exit_statuses import ExitStatus, Failure
from sealwire.cli.lifetimes import days_left, expiring, first_end
from sealwire.cli.options import json_option, optional_server_argument, quiet_option
from sealwire.cli.report import Finding, Severity, findings_json, worst_first
from sealwire.errors import ConfigurationError, SealwireError
from sealwire.security import Security, without_types
from sealwire.toml_options import read_toml

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_SHOWN = 3
"""Findings in the line; the others are counted."""


class _Plugin(click.Command):
    """A command that reports every error as UNKNOWN, on standard output, as plugins do."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            _end_unknown(error.format_message())
        except (SealwireError, OSError) as error:
            _end_unknown(error_line(error))
        raise AssertionError

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _end_unknown(error.format_message())
        except BrokenPipeError:
            raise
        except OutputError as error:
            raise Failure(error, ExitStatus.UNKNOWN) from error
        except (SealwireError, OSError) as error:
            _end_unknown(error_line(error))


def _end_unknown(reason: str) -> None:
    try:
        print_line(f"SEALWIRE UNKNOWN - {_safe(reason)}")
    except OutputError as error:
        raise Failure(error, ExitStatus.UNKNOWN) from error
    raise click.exceptions.Exit(ExitStatus.UNKNOWN)


@dataclass
class _Result:
    """Findings, good news, and figures: name, value with its unit, warning, critical, least value."""

    findings: list[Finding] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    figures: list[tuple[str, float, str, str, str, str]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return max((each.severity for each in self.findings), default=Severity.NOTE)

    def line(self) -> str:
        bad = [each for each in worst_first(self.findings) if each.severity]
        parts = [_located(each) for each in bad[:_SHOWN]] or self.good
        more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        figures = " ".join(
            f"{name}={value:g}{unit};{warning};{critical};{least}".rstrip(";")
            for name, value, unit, warning, critical, least in self.figures
        )
        text = f"SEALWIRE {_STATES[self.status]} - {_safe('; '.join([*parts, *more]))}"
        return f"{text} | {figures}" if figures else text

    def as_json(self) -> dict[str, Any]:
        figures = {name: value for name, value, *_ in self.figures}
        return {"status": _STATES[self.status], "figures": figures, "findings": findings_json(self.findings)}


def _located(finding: Finding) -> str:
    """Return the problem with its place, unless the text has that already."""
    return finding.problem if finding.location in finding.problem else f"{finding.location}: {finding.problem}"


def _safe(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _days(short: str, name: str, text: str) -> Callable[[Any], Any]:
    return click.option(short, name, type=click.IntRange(0, 3650), metavar="DAYS", help=text)


def _seconds(*names: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(*names, type=click.FloatRange(0, min_open=True), metavar="SECONDS", **more)


@click.command(cls=_Plugin)
@optional_server_argument
@configuration("-C", "--config", required=False)
@admin_option
@_days("-w", "--warning", "Warn if something ends within DAYS days.  [default: 14, or a quarter of its life if less]")
@_days("-c", "--critical", "Critical if something ends within DAYS days.  [default: when it has ended]")
@_seconds("--slow-warning", help="Warn if the answer takes longer.")
@_seconds("--slow-critical", help="Critical if it takes longer.")
@_seconds("-t", "--timeout", default=10.0, show_default=True, help="For the answer; without one it is critical.")
@click.option("-v", "--verbose", is_flag=True, help="Print each finding and its remedy on further lines.")
@json_option
@quiet_option
def check(
    *, address: ServerAddress | None, config: Path | None, admin: str | None, as_json: bool, **options: Any
) -> None:
    """Check for a monitoring system.

    It checks how long certificates, revocation lists and keys of a configuration last; with ADDRESS (as for `sealwire
    call`), whether the server answers and how fast; with --admin, what a running server reports. One line says what was
    found, with performance data, as Nagios, Icinga and others take it.

    Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, also for wrong usage. -c is a threshold here, as plugins have
    it, and not the configuration.

    \b
    sealwire check orders.example:7443 -C client.toml -w 21 -c 7
    sealwire check --admin unix:/run/orders/admin.sock
    """
    if config is None and (address is not None or admin is None):
        raise click.UsageError("no configuration; give --config or --context, or --admin alone for a running server")
    result = _Result()
    if config is not None:
        _check_configuration(result, config, address, options)
    if admin is not None:
        _check_running(result, admin)
    if as_json:
        print_json(result.as_json())
    else:
        print_line(result.line())
        if options["verbose"]:
            for each in worst_first(result.findings):
                print_line(_safe(f"{each.severity}: {_located(each)}; {each.remedy}"))
    if result.status:
        raise click.exceptions.Exit(result.status)


def _check_configuration(result: _Result, config: Path, address: ServerAddress | None, options: dict[str, Any]) -> None:
    read_toml(config)  # a plugin that may not read it, or is told another file, knows nothing
    try:
        security = without_types(config)
    except SealwireError as error:
        result.findings.append(Finding(Severity.CRITICAL, str(config), error_line(error), "do as it says"))
        return
    status = security.status()
    result.findings += _ending(status, options["warning"], options["critical"])
    first = first_end(status.credentials, status.keys)
    if first is not None:
        left = days_left(first.not_after)
        result.good.append(f"{first.file} ends first, in {left} days")
        warning, critical = (_below(options[name]) for name in ("warning", "critical"))
        result.figures.append(("days_left", float(left or 0), "", warning, critical or "0:", ""))
    else:
        result.good.append("no key ends")
    if address is not None:
        _check_answer(result, security, address, options)


def _ending(status: Any, warning: int | None, critical: int | None) -> Iterator[Finding]:
    urgent = {}
    if critical is not None:
        found = expiring(status.credentials, status.keys, critical)
        urgent = {(each.location, each.problem): each._replace(severity=Severity.CRITICAL) for each in found}
        yield from urgent.values()
    for each in expiring(status.credentials, status.keys, warning):
        if (each.location, each.problem) not in urgent:
            yield each


def _below(days: int | None) -> str:
    return "" if days is None else f"{days}:"


def _check_answer(result: _Result, security: Security, address: ServerAddress, options: dict[str, Any]) -> None:
    begun = monotonic()
    try:
        with open_client(address, options["timeout"], options["timeout"], security) as client:
            client.ping()
    except ConfigurationError:
        raise
    except SealwireError as error:
        remedy = "do as it says; the server's log may say more"
        result.findings.append(Finding(Severity.CRITICAL, str(address), error_line(error), remedy))
        return
    seconds = monotonic() - begun
    result.good.insert(0, f"{address} answered in {seconds * 1000:.0f} ms")
    limits = [(Severity.CRITICAL, options["slow_critical"]), (Severity.WARNING, options["slow_warning"])]
    for severity, limit in limits:
        if limit is not None and seconds > limit:
            remedy = "see the load of the server and of the network"
            result.findings.append(Finding(severity, str(address), f"answered only after {seconds:.3f} s", remedy))
            break
    texts = ["" if limit is None else f"{limit:g}" for _, limit in limits]
    result.figures.append(("time", round(seconds, 6), "s", texts[1], texts[0], "0"))


def _check_running(result: _Result, admin: str) -> None:
    try:
        report = fetch_report(admin)
    except ConfigurationError:
        raise
    except SealwireError as error:
        result.findings.append(Finding(Severity.CRITICAL, admin, error_line(error), "start it, or see its log"))
        return
    found: Sequence[Finding] = report_findings(admin, report)
    result.findings += found
    established = report["connections"]["established"]
    result.good.append(f"process {report['pid']} is {report['state']}, with {established} connections")
    result.figures += [
        ("connections", float(established), "", "", "", "0"), ("requests", float(report["requests"]), "c", "", "", "0")
    ]  # fmt: skip

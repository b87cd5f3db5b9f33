"""``sealwire top``: a running server, live."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from sealwire.cli.admin_client import check_admin, fetch_report
from sealwire.cli.console import print_json
from sealwire.cli.options import json_option
from sealwire.cli.tables import table_lines, wrap
from sealwire.metrics import FAMILIES
from sealwire.wire.frames import escaped


@click.command()
@click.argument("address", metavar="ADDRESS", callback=check_admin)
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, metavar="SECONDS")
@json_option
@click.option("-n", "--times", type=click.IntRange(1), metavar="N", help="Look N times. Default: until ^C.")
def top(*, address: str, every: float, times: int | None, as_json: bool) -> None:
    """Show a running server, live.

    It shows connections by peer, requests, workers and all that is counted as they change, until ^C.

    ADDRESS is that of its admin endpoint (`sealwire serve --admin`). With --json each look is a line: what its /status
    answers.

    \b
    sealwire top 127.0.0.1:9090
    """
    reports = _reports(address, every, times)
    if as_json:
        for report in reports:
            print_json(report, indent=None)
            sys.stdout.flush()
        return
    from rich.console import Console
    from rich.live import Live

    report = next(reports)
    console = Console()
    with Live(_shown(report, None, every, console.width), console=console, auto_refresh=False) as live:
        for following in reports:
            before, report = report, following
            live.update(_shown(report, before, every, console.width), refresh=True)
    if not console.is_terminal:
        console.print()  # Live ends the last line on a terminal only


def _reports(address: str, every: float, times: int | None) -> Iterator[dict[str, Any]]:
    yield fetch_report(address)
    looks = 1
    while times is None or looks < times:
        time.sleep(every)
        yield fetch_report(address)
        looks += 1


def _shown(report: dict[str, Any], before: dict[str, Any] | None, seconds: float, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    def text(value: object) -> Text:
        return Text(escaped(value))

    connections = report["connections"]
    rate = "" if before is None else f", {(report['requests'] - before['requests']) / seconds:.0f}/s"
    head = wrap(
        f"{report['state']}   {connections['established']} connections, {connections['handshaking']} in the handshake"
        f"   {report['requests']} requests{rate}",
        width,
    )
    peers = table_lines(("peer", "connections"), list(connections["by_peer"].items()), width)
    columns = ("worker", "state", "connections", "requests")
    rows = [
        (each["pid"], each["state"], each["connections"]["established"], each["requests"])
        for each in report.get("workers", ())
    ]
    workers = table_lines(columns, rows, width) if "workers" in report else ()
    counters = table_lines(("counted", "since the start"), list(_counted(report["counters"])), width)
    return Group(*(text(line) for line in (*head, *report["problems"], *peers, *workers, *counters)))


def _counted(counters: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each family of numbers that has counted something; a server of another version may have others."""
    for name, family in FAMILIES.items():
        found = counters.get(name)
        if not found:
            continue
        words = name.replace("_", " ")
        if family.bounds:
            if count := found["buckets"]["+Inf"]:
                yield words, f"{found['sum'] / count:.6f} on average"
        elif family.label:
            if text := ", ".join(f"{number} {value}" for value, number in found.items() if number):
                yield words, text
        else:
            yield words, str(found)

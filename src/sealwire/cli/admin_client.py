"""Asks the admin endpoint of a running server."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final

import click

from sealwire.admin.endpoint import admin_address
from sealwire.cli.console import print_fields, print_line
from sealwire.cli.options import checked
from sealwire.cli.report import Finding, Severity
from sealwire.errors import TransportError

_TIMEOUT: Final = 5.0
_MAX_REPORT: Final = 64 << 20

check_admin: Final = checked(admin_address)
admin_option = click.option(
    "--admin", metavar="ADDRESS", callback=check_admin, help="The server's admin endpoint: HOST:PORT or unix:PATH."
)


def fetch_report(address: str) -> dict[str, Any]:
    """Return the ``/status`` of an admin endpoint. Raises ConfigurationError, TransportError."""
    where = admin_address(address)
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT)
    try:
        if isinstance(where, str):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_TIMEOUT)
            connection.sock.connect(where)
        else:
            connection.sock = socket.create_connection(where, _TIMEOUT)
        connection.request("GET", "/status")
        answer = connection.getresponse()
        text = answer.read(_MAX_REPORT)
        if answer.status != http.client.OK:
            raise TransportError(
                f"{address}: answers with status {answer.status}; is a Sealwire server's endpoint there?"
            )
        found: dict[str, Any] = json.loads(text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TransportError):
            raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TransportError(
            f"{address}: no report ({reason}); was the server there started with `--admin {address}`?"
        ) from None
    finally:
        connection.close()
    return found


def print_report(report: dict[str, Any]) -> None:
    """Print the report of a running server."""
    connections = report["connections"]
    print_line(f"process {report['pid']} is {report['state']}")
    fields = [
        ("connections", f"{connections['established']}, and {connections['handshaking']} in the handshake"),
        ("requests", report["requests"]),
    ]
    fields += [("peer", f"{count} of {peer}") for peer, count in connections["by_peer"].items()]
    for name, files in report["files"].items():
        state = f"generation {files['generation']}, digest {files['digest'][:12]}" if files["files"] else "no files"
        fields.append((name, state))
    for worker in report.get("workers", ()):
        files = ", ".join(f"{name} {each['generation']}" for name, each in worker["files"].items())
        fields.append(("worker", f"{worker['pid']}, {worker['state']}, {worker['requests']} requests; {files}"))
    print_fields(fields)


def report_findings(address: str, report: dict[str, Any]) -> list[Finding]:
    """Return what is wrong with a running server and its workers."""
    fix = "do as it says, and send SIGHUP"
    found = [
        Finding(Severity.CRITICAL, address, problem, "run `sealwire doctor --config FILE` there")
        for problem in report["problems"]
    ]
    for process in (report, *report.get("workers", ())):
        for files in process["files"].values():
            if files["refused"] is not None:
                text = f"process {process['pid']} has refused newer content: {files['refused']['why']}"
                found.append(Finding(Severity.WARNING, address, text, fix))
    waiting = report["files"].get("configuration", {}).get("waits_for_restart", ())
    found += [
        Finding(Severity.NOTE, address, f"{name} is changed in the file", "restart the server") for name in waiting
    ]
    return found

"""``sealwire ping``: round trips to a server, and their summary."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import click

from sealwire.cli.addresses import ServerAddress
from sealwire.cli.clients import open_client
from sealwire.cli.console import error_line, print_json, print_line
from sealwire.cli.options import config_option, json_option, server_argument, timeout_option, wait_option
from sealwire.errors import ConfigurationError, SealwireError
from sealwire.security import without_types


@dataclass
class Summary:
    """The outcome of pings.

    Attributes:
        sent: The number of pings.
        times: Milliseconds that each answer took.
    """

    sent: int = 0
    times: list[float] = field(default_factory=list)

    def lines(self, address: object) -> Iterator[str]:
        """Yield the lines that ping(8) ends with."""
        received = len(self.times)
        yield f"--- {address} ping statistics ---"
        lost = 0.0 if not self.sent else 100 * (self.sent - received) / self.sent
        yield f"{self.sent} pings sent, {received} answered, {lost:.3g}% lost"
        if received:
            yield f"min/avg/max/mdev = {'/'.join(f'{each:.3f}' for each in self._statistics())} ms"

    def as_json(self, address: object) -> dict[str, Any]:
        """Return the outcome for scripts, in milliseconds."""
        names = ("min_ms", "avg_ms", "max_ms", "mdev_ms")
        statistics = self._statistics() if self.times else [None] * len(names)
        return {"server": str(address), "sent": self.sent, "answered": len(self.times), "times_ms": self.times} | dict(
            zip(names, statistics, strict=True)
        )

    def _statistics(self) -> list[float]:
        """Return the shortest, the mean and the longest time, and the standard deviation."""
        mean = math.fsum(self.times) / len(self.times)
        square = math.fsum(each * each for each in self.times) / len(self.times)
        return [min(self.times), mean, max(self.times), math.sqrt(max(0.0, square - mean * mean))]


@click.command()
@server_argument
@config_option
@click.option(
    "--count", "-n", type=click.IntRange(min=1), help="How many.  [default: 1, or until Ctrl-C with --interval]"
)
@click.option(
    "--interval", "-i", type=click.FloatRange(0, 86_400), metavar="SECONDS", help="From one to the next.  [default: 0]"
)
@timeout_option
@wait_option
@json_option
def ping(
    *, address: ServerAddress, config: Path, count: int | None, interval: float | None, as_json: bool, **times: float
) -> None:
    """Print how long a server takes to answer.

    ADDRESS is as for `sealwire call`; of several servers, each ping goes to the least busy one.

    One line for each ping, in milliseconds. All pings use one connection, as long as it holds; connecting is not
    counted. After more than one, or with --interval, there is a summary, also when Ctrl-C ends it. The exit status is 0
    if any of them was answered.

    \b
    sealwire ping localhost:7443 --config client.toml
    sealwire ping unix:/run/shop.sock --interval 1 --config client.toml
    """
    if count is None and interval is None:
        count = 1
    summary = Summary()
    with open_client(address, times["timeout"], times["wait"], without_types(config)) as client:
        try:
            error = _ping(client, count, interval or 0.0, summary, lines=not as_json)
        except KeyboardInterrupt:
            if not summary.sent:
                raise
            error = None
    if as_json:
        print_json(summary.as_json(address))
    elif interval is not None or count != 1:
        for line in summary.lines(address):
            print_line(line)
    if error is not None and not summary.times:
        raise error


def _ping(client: Any, count: int | None, interval: float, summary: Summary, *, lines: bool) -> SealwireError | None:
    """Send the pings, and print a line for each if ``lines``; return the last error."""
    last: SealwireError | None = None
    while count is None or summary.sent < count:
        due = monotonic() + interval
        summary.sent += 1
        try:
            milliseconds = client.ping() * 1000
        except ConfigurationError:
            raise
        except SealwireError as error:
            last = error
            if count != 1:
                print_line(error_line(error), err=True)
        else:
            summary.times.append(milliseconds)
            if lines:
                print_line(f"{milliseconds:.3f} ms")
                sys.stdout.flush()
        if summary.sent != count:
            sleep(max(0.0, due - monotonic()))
    return last

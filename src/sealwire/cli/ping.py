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
from sealwire.cli.console import error_line, print_line
from sealwire.cli.messages import load_security
from sealwire.cli.options import config_option, server_argument, timeout_option, wait_option
from sealwire.errors import ConfigurationError, SealwireError


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
            mean = math.fsum(self.times) / received
            deviation = math.sqrt(max(0.0, math.fsum(each * each for each in self.times) / received - mean * mean))
            parts = "/".join(f"{each:.3f}" for each in (min(self.times), mean, max(self.times), deviation))
            yield f"min/avg/max/mdev = {parts} ms"


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
def ping(
    *, address: ServerAddress, config: Path, count: int | None, interval: float | None, timeout: float, wait: float
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
    with open_client(address, timeout, wait, load_security(config)) as client:
        try:
            error = _ping(client, count, interval or 0.0, summary)
        except KeyboardInterrupt:
            if not summary.sent:
                raise
            error = None
    if interval is not None or count != 1:
        for line in summary.lines(address):
            print_line(line)
    if error is not None and not summary.times:
        raise error


def _ping(client: Any, count: int | None, interval: float, summary: Summary) -> SealwireError | None:
    """Send the pings and print a line for each; return the last error."""
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
            print_line(f"{milliseconds:.3f} ms")
            sys.stdout.flush()
        if summary.sent != count:
            sleep(max(0.0, due - monotonic()))
    return last

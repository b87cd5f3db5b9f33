"""The command ``sealwire bench``: its options, its progress bar, and its results for people and for scripts."""

from __future__ import annotations

import importlib
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import click

from sealwire.aio.client import MAX_IN_FLIGHT, AsyncTCPClient, AsyncUnixClient
from sealwire.cli.addresses import Address, AddressType, DatagramAddress, UnixAddress
from sealwire.cli.bench.load import Client, Plan, run
from sealwire.cli.bench.plot import check_plot, draw
from sealwire.cli.bench.results import PERCENTILES, Results, milliseconds
from sealwire.cli.console import print_fields, print_json, print_line
from sealwire.cli.messages import load_security, parse_message
from sealwire.cli.options import FILE, app_dir_option, config_option, json_option, timeout_option, wait_option
from sealwire.errors import RemoteError
from sealwire.security import Security
from sealwire.wire.frames import FaultCode

_Server = Address | UnixAddress | DatagramAddress
_DURATION: Final = 10.0
_SIZE: Final = 100
_MAX_CLIENTS: Final = 10_000
_REFUSALS: Final = frozenset({FaultCode.MALFORMED_PAYLOAD, FaultCode.TYPE_NOT_ALLOWED, FaultCode.TOO_LARGE})
"""Faults of a message that is refused each time."""
_MESSAGE: Final = (
    "send what the handler takes: a --message, with --type MODULE:CLASS one of a type of the allowlist, or another "
    "--size"
)
_BUSY: Final = 0.9
"""The share of a processor from which on this end may be the bottleneck."""


@click.command()
@click.argument("address", type=AddressType([Address, UnixAddress, DatagramAddress]))
@config_option
@click.option("--clients", type=click.IntRange(1, _MAX_CLIENTS), default=1, show_default=True, help="Connections.")
@click.option(
    "--window",
    type=click.IntRange(1, MAX_IN_FLIGHT),
    default=1,
    show_default=True,
    metavar="N",
    help="Requests in flight on each connection.",
)
@click.option("-n", "--requests", type=click.IntRange(1), metavar="N", help="Requests in all.")
@click.option(
    "--duration",
    type=click.FloatRange(0, 86_400, min_open=True),
    metavar="SECONDS",
    help=f"When to stop sending; {_DURATION:g} if there is no --requests either.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    metavar="PER_SECOND",
    help="Requests due in a second, whatever the server does.",
)
@click.option("--size", type=click.IntRange(0), metavar="BYTES", help=f"Size of each message; {_SIZE} by default.")
@click.option("--message", metavar="JSON", help="The message itself, in place of bytes of --size.")
@click.option("--type", "type_name", metavar="MODULE:CLASS", help="--message is of this type of the allowlist.")
@app_dir_option
@timeout_option
@wait_option
@json_option
@click.option("--plot", type=FILE, metavar="FILE.svg", help="Draw latencies and throughput.")
def bench(*, address: _Server, config: Path, as_json: bool, plot: Path | None, **options: Any) -> None:  # fmt: skip
    """Measure how fast a server answers.

    ADDRESS is HOST:PORT, unix:PATH or udp://HOST:PORT. The handler must take the message: bytes of --size, or what
    --message says, as for `sealwire call`. If the server refuses the first one, no more are sent.

    Without --rate, each connection keeps --window requests in flight, and sends the next one when one is answered. With
    --rate, latencies count from the time at which a request was due, even if it could not be sent then.

    With both --requests and --duration, the run ends with whichever comes first. Ctrl-C ends it early, and prints what
    was measured. The exit status is 1 if a request or a connection failed, or none was answered.

    \b
    sealwire bench localhost:7443 --config client.toml --clients 8 --window 4 --duration 30
    sealwire bench localhost:7443 --config client.toml --clients 50 --rate 2000 --plot latency.svg
    """
    if options["size"] is not None and options["message"] is not None:
        raise click.UsageError("--size and --message both say what to send; leave one out")
    if options["type_name"] is not None and options["message"] is None:
        raise click.UsageError("--type is that of a --message; give one")
    if plot is not None:
        check_plot(plot)
    security = load_security(config)
    message = None
    if options["message"] is not None:
        message = parse_message(config, security, options["message"], options["type_name"])
    plan = _plan(message, options)
    payload = len(security.codec.encode(plan.message))
    make_client = _client_maker(address, options["timeout"], options["wait"], security)
    _allow_descriptors(plan.clients)
    results = Results()
    with _progress(plan, results) as show:
        run(plan, make_client, results, show)
    if results.refusal is not None:
        code, text = results.refusal.args
        raise RemoteError(code, f"{text}; {_MESSAGE}")
    if as_json:
        said = {"server": str(address), "payload_bytes": payload, "clients": plan.clients}
        said |= {"window": plan.window, "rate": plan.rate}
        print_json(said | results.as_json())
    else:
        _print(plan, payload, results)
    if plot is not None:
        draw(results, f"{address}: {_load_text(plan, payload)}", plot)
    if results.failures or not results.latencies:
        raise click.exceptions.Exit(1)


def _client_maker(address: _Server, timeout: float, wait: float, security: Security) -> Callable[[], Client]:
    """Return a function that makes a client of the server. Raises ConfigurationError."""
    if isinstance(address, UnixAddress):
        return partial(AsyncUnixClient, address.path, timeout, wait, security=security)
    client: Callable[..., Client] = AsyncTCPClient
    if isinstance(address, DatagramAddress):
        client = importlib.import_module("sealwire.dtls").AsyncUDPClient  # it needs an extra
    return partial(client, *address, timeout, wait, security=security)


def _plan(message: Any, options: dict[str, Any]) -> Plan:
    size = _SIZE if options["size"] is None else options["size"]
    endless = options["requests"] is None and options["duration"] is None
    return Plan(
        message=bytes(size) if options["message"] is None else message,
        clients=options["clients"],
        window=options["window"],
        requests=options["requests"],
        duration=_DURATION if endless else options["duration"],
        rate=options["rate"],
        refusals=_REFUSALS if options["message"] is not None else _REFUSALS | {FaultCode.HANDLER_FAILED},
    )


def _allow_descriptors(clients: int) -> None:
    """Raise the limit on descriptors of this process, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + 100
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


@contextmanager
def _progress(plan: Plan, results: Results) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal; the function that is returned brings it up to date."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}")
    console = Console(stderr=True)
    with Progress(BarColumn(), text, TimeElapsedColumn(), console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("connecting", total=1.0)
        begun: float | None = None

        def show() -> None:
            nonlocal begun
            done = len(results.latencies) + results.failed
            if begun is None and len(results.connecting) < plan.clients and not results.latencies:
                text = f"{len(results.connecting):,} of {plan.clients:,} connections"
                bar.update(task, completed=len(results.connecting) / plan.clients, description=text, refresh=True)
                return
            begun = monotonic() if begun is None else begun
            parts = [done / plan.requests] if plan.requests else []
            parts += [(monotonic() - begun) / plan.duration] if plan.duration else []
            text = f"{len(results.latencies):,} answered, {results.failed:,} failed"
            bar.update(task, completed=max(parts), description=text, refresh=True)

        yield show


def _load_text(plan: Plan, payload: int) -> str:
    connections = "1 connection" if plan.clients == 1 else f"{plan.clients:,} connections"
    text = f"{connections}, {plan.window} in flight on each, {payload:,} bytes"
    return text if plan.rate is None else f"{text}, {plan.rate:,g} due in a second"


def _print(plan: Plan, payload: int, results: Results) -> None:
    print_line(_load_text(plan, payload))
    print_fields(_fields(results))
    for kind, failure in results.failures.items():
        print_line(f"  {failure.count:>12,} {kind}: {failure.first}")
    if results.is_interrupted:
        print_line("ended before all requests were sent", err=True)
    if results.missed:
        print_line(
            f"{results.missed:,} requests were due and never sent, since all connections were busy: the latencies are "
            "too good; take a lower --rate, or more --clients or a larger --window if the server has room",
            err=True,
        )
    if results.processor is not None and results.processor >= _BUSY:
        print_line(
            f"this command used {results.processor:.0%} of a processor, so the server may be faster than that: run "
            "several at a time, on other machines if possible",
            err=True,
        )


def _fields(results: Results) -> Iterator[tuple[str, str]]:
    for name, times in (("connecting", results.connecting), ("latency", results.latencies)):
        found = milliseconds(times)
        if found is not None:
            yield name, "  ".join(f"{part} {found[part]:.3f} ms" for part in PERCENTILES)
    yield "answered", f"{len(results.latencies):,} in {results.seconds:.2f} s: {results.throughput:,.0f} per second"
    yield "failed", f"{results.failed:,}"

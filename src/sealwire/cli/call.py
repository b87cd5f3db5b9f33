"""``sealwire call`` and ``sealwire ping``: one request, or pings, from the command line."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import math
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from sealwire.cli.config import import_from_here
from sealwire.cli.console import print_json, print_line
from sealwire.cli.options import Address, Subject, config_option, server_argument
from sealwire.codec import RawCodec
from sealwire.errors import ConfigurationError
from sealwire.security import Security
from sealwire.sync.client import SynchronousTCPClient


def _seconds(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", type=float, default=10.0, show_default=True, metavar="SECONDS", help=text)


timeout_option = _seconds("timeout", "For connecting.")
wait_option = _seconds("wait", "For the reply.")


@click.command(context_settings={"ignore_unknown_options": True})  # -5 is a message
@server_argument
@click.argument("message", metavar="JSON")
@config_option
@timeout_option
@wait_option
@click.option("--idempotent", is_flag=True, help="Send it again if the connection breaks: acting twice does no harm.")
def call(
    *, address: Address | Subject, message: str, config: Path, timeout: float, wait: float, idempotent: bool
) -> None:
    """Send a JSON value and print the reply.

    Of a service on NATS, the address is the URL of its subject.

    A dash in place of JSON reads it from standard input.

    The reply is printed as JSON. Values that JSON lacks are printed as text: dates and times in ISO 8601, bytes in
    base64, all others by Python's str(): 12.50, 1/3, nan. Tuples, sets and deques are arrays; a dict with a key that
    is not a string is an array of [key, value] arrays.

    \b
    sealwire call localhost:7443 '{"item": "tea", "count": 2}' --config client.toml
    sealwire call tls://nats.example/orders '{"item": "tea", "count": 2}' --config client.toml
    """
    security = load_security(config)
    value = parse_message(config, security, sys.stdin.buffer.read() if message == "-" else message)
    with _client(address, timeout, wait, security) as client:
        reply = client.send_request(value, idempotent=idempotent)
    # Python converts no integer of more than 4,300 digits by default; the codec has bounded these already.
    sys.set_int_max_str_digits(0)
    print_json(as_json(reply))


@click.command()
@server_argument
@config_option
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many, one after another.")
@timeout_option
@wait_option
def ping(*, address: Address | Subject, config: Path, count: int, timeout: float, wait: float) -> None:
    """Print how long a server takes to answer.

    One line for each ping, in milliseconds. All pings use one connection; connecting is not counted.
    """
    with _client(address, timeout, wait, load_security(config)) as client:
        for _ in range(count):
            print_line(f"{client.ping() * 1000:.3f} ms")


def _client(address: Address | Subject, timeout: float, wait: float, security: Security) -> Any:
    """Return a client of a server on TCP, or of a subject on NATS."""
    if isinstance(address, Address):
        return SynchronousTCPClient(*address, timeout, wait, security=security)
    nats = importlib.import_module("sealwire.nats")  # it needs an extra
    return nats.SynchronousNATSClient(*address, sessions=1, timeout=timeout, wait=wait, security=security)


def load_security(config: Path) -> Security:
    """Return the Security of a configuration file."""
    import_from_here()  # for the types of the allowlist, as `sealwire serve` does
    return Security.from_toml(config)


def as_json(value: Any) -> Any:
    """Return ``value`` made of types that JSON has, as the help of ``sealwire call`` says."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: as_json(item) for key, item in value.items()}
        return [[as_json(key), as_json(item)] for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return [as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        # In an order that does not change from run to run.
        return sorted(map(as_json, value), key=json.dumps)
    return str(value)


def parse_message(config: Path, security: Security, text: str | bytes) -> Any:
    """Return the message that is written as JSON. Raises ConfigurationError, click.BadParameter."""
    if isinstance(security.codec, RawCodec):
        raise ConfigurationError(f"{config}: the codec 'raw' takes bytes, which JSON lacks; send them from Python")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        reason = "nested too deeply"
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except ValueError as error:
        reason = str(error)
        if "int_max_str_digits" in reason:
            reason = "an integer of more than 4,300 digits"
    raise click.BadParameter(f"{reason}; expected a value like '{{\"count\": 2}}' or '\"text\"'", param_hint="JSON")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _parse_float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:20]} is too large for a float")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return value

"""``sealwire call`` and ``sealwire ping``: one request, or pings, from the command line."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from sealwire.cli.configured import find_modules_here
from sealwire.cli.console import print_json
from sealwire.client import SynchronousTCPClient
from sealwire.encoding import RawCodec
from sealwire.errors import ConfigurationError
from sealwire.security import Security


class Address(NamedTuple):
    """Where a server is."""

    host: str
    port: int


def _parse_address(ctx: click.Context, param: click.Parameter, value: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w-]+)\]|([^:\[\]]+)):([0-9]{1,5})", value, re.ASCII)
    if match is None or not 0 < int(match[3]) < 65536:
        raise click.BadParameter("expected HOST:PORT like server.example:7443 or [::1]:7443", ctx, param)
    return Address(match[1] or match[2], int(match[3]))


_address = click.argument("address", metavar="HOST:PORT", callback=_parse_address)
_config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="TOML file with certificate and keys.",
)


def _seconds(name: str, what: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", type=float, default=10.0, show_default=True, metavar="SECONDS", help=what)


_timeout = _seconds("timeout", "For connecting.")
_wait = _seconds("wait", "For the reply.")


@click.command(context_settings={"ignore_unknown_options": True})  # -5 is a message
@_address
@click.argument("message", metavar="JSON")
@_config
@_timeout
@_wait
@click.option("--idempotent", is_flag=True, help="Send it again if the connection breaks: acting twice does no harm.")
def call(*, address: Address, message: str, config: Path, timeout: float, wait: float, idempotent: bool) -> None:
    """Send a JSON value and print the reply.

    A dash in place of JSON reads it from standard input.

    The reply is printed as JSON. What JSON lacks is printed as text: dates and times in ISO 8601, bytes in base64,
    all else as Python's str() has it: 12.50, 1/3, nan. Tuples, sets and deques are arrays; a dict whose keys are not
    all strings is an array of [key, value] arrays.

    \b
    sealwire call localhost:7443 '{"item": "tea", "count": 2}' --config client.toml
    """
    security = _security(config)
    if isinstance(security.codec, RawCodec):
        raise ConfigurationError(
            f"{config}: the codec 'raw' takes bytes, which JSON has none of; send them from Python"
        )
    value = _parse_json(sys.stdin.buffer.read() if message == "-" else message)
    with SynchronousTCPClient(*address, timeout, wait, security=security) as client:
        reply = client.send_request(value, idempotent=idempotent)
    # Python converts no integer of more than 4,300 digits; the codec has bounded these already.
    sys.set_int_max_str_digits(0)
    print_json(as_json(reply))


@click.command()
@_address
@_config
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many, one after another.")
@_timeout
@_wait
def ping(*, address: Address, config: Path, count: int, timeout: float, wait: float) -> None:
    """Print how long a server takes to answer.

    In milliseconds, a line for each ping, all on one connection; connecting is not counted.
    """
    with SynchronousTCPClient(*address, timeout, wait, security=_security(config)) as client:
        for _ in range(count):
            click.echo(f"{client.ping() * 1000:.3f} ms")


def _security(config: Path) -> Security:
    find_modules_here()  # for the types of the allowlist, as `sealwire serve` does
    return Security.from_toml(config)


def as_json(value: Any) -> Any:
    """``value`` of types that JSON has; how the others are written is in the help of ``sealwire call``."""
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


def _parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_float, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        why = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        why = "nested too deeply"
    except ValueError as error:
        why = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        if "int_max_str_digits" in why:
            why = "an integer of more than 4,300 digits"
    raise click.BadParameter(f"{why}; expected a value like '{{\"count\": 2}}' or '\"text\"'", param_hint="JSON")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:20]} is too large for a float")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return made

"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

FILE: Final = click.Path(path_type=Path, dir_okay=False)
FILE_OR_DASH: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
STDIN: Final = Path("-")

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%\w-]+)\]|([^:\[\]]+)):([0-9]{1,5})", re.ASCII)


_SUBJECT: Final = re.compile(r"((?:nats|tls)://[^/]+)/([^/]+)")


class Address(NamedTuple):
    """Host and port of a server."""

    host: str
    port: int


class Subject(NamedTuple):
    """The URL of NATS servers, and a subject."""

    url: str
    subject: str


class _ServerType(click.ParamType[Any]):
    """The address of a server on TCP, or the URL of a subject."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = _SUBJECT.fullmatch(value)
        return _AddressType().convert(value, param, ctx) if match is None else Subject(match[1], match[2])


class _AddressType(click.ParamType[Address]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        match = _ADDRESS.fullmatch(value)
        if match is None or not 0 < int(match[3]) < 65536:
            self.fail("expected HOST:PORT like server.example:7443 or [::1]:7443", param, ctx)
        return Address(match[1] or match[2], int(match[3]))


class PartType(click.ParamType[float]):
    """A part of a whole, like 66%."""

    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            part = float(str(value).removesuffix("%")) / 100
        except ValueError:
            part = 0
        if not 0 < part < 1:
            self.fail("expected a part of the life between 0% and 100%, like 66%", param, ctx)
        return part


address_argument = click.argument("address", metavar="HOST:PORT", type=_AddressType())
server_argument = click.argument("address", metavar="HOST:PORT", type=_ServerType())
optional_address_argument = click.argument("address", metavar="[HOST:PORT]", type=_AddressType(), required=False)
config_option = click.option("--config", type=FILE, required=True, help="Configuration file (TOML).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def soon_option(name: str) -> Callable[[Any], Any]:
    """Return the option of that name for how early to report an expiry."""
    return click.option(
        name, "days", type=click.IntRange(0, 3650), metavar="DAYS",
        help="Report anything that expires in fewer than DAYS days.  [default: 14, or a quarter of its life if less]",
    )  # fmt: skip

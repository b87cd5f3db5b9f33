"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

FILE: Final = click.Path(path_type=Path, dir_okay=False)
FILE_OR_DASH: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
STDIN: Final = Path("-")

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%\w-]+)\]|([^:\[\]]+)):([0-9]{1,5})", re.ASCII)


class Address(NamedTuple):
    """Host and port of a server."""

    host: str
    port: int


if TYPE_CHECKING:
    _ParamType = click.ParamType[Address]
else:
    _ParamType = click.ParamType  # not subscriptable before click 8.4


class _AddressType(_ParamType):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        match = _ADDRESS.fullmatch(value)
        if match is None or not 0 < int(match[3]) < 65536:
            self.fail("expected HOST:PORT like server.example:7443 or [::1]:7443", param, ctx)
        return Address(match[1] or match[2], int(match[3]))


address_argument = click.argument("address", metavar="HOST:PORT", type=_AddressType())
optional_address_argument = click.argument("address", metavar="[HOST:PORT]", type=_AddressType(), required=False)
config_option = click.option("--config", type=FILE, required=True, help="Configuration file (TOML).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def soon_option(name: str) -> Callable[[Any], Any]:
    """Return the option of that name for how early to report an expiry."""
    return click.option(
        name, "days", type=click.IntRange(0, 3650), default=14, show_default=True, metavar="DAYS",
        help="Report anything that expires in fewer than DAYS days.",
    )  # fmt: skip

"""Arguments and options that several commands share."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from sealwire.cli.addresses import FORMS, Address, AddressType
from sealwire.cli.config import APP_DIR
from sealwire.cli.discovery import QUIET, configuration
from sealwire.client_base import check_seconds
from sealwire.errors import ConfigurationError

FILE: Final = click.Path(path_type=Path, dir_okay=False)
FILE_OR_DASH: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
STDIN: Final = Path("-")


def checked(check: Callable[[Any], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that has a parameter refused as wrong usage if ``check`` raises ConfigurationError for it."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value not in (None, ()):
            with usage(ctx, param):
                check(value)
        return value

    return callback


@contextmanager
def usage(ctx: click.Context | None = None, param: click.Parameter | None = None, hint: str | None = None) -> Any:
    """Turn a ConfigurationError about what the user wrote on the command line into an error of usage."""
    try:
        yield
    except ConfigurationError as error:
        raise click.BadParameter(str(error), ctx, param, hint) from None


def is_given(parameter: str) -> bool:
    """Return True if the command that runs got this parameter from its user, by an argument or a variable."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and ctx.get_parameter_source(parameter) is not ParameterSource.DEFAULT


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


_TCP: Final = AddressType([Address], "only on TCP is the certificate shown to everybody")
server_argument = click.argument("address", type=AddressType(FORMS))
optional_server_argument = click.argument("address", metavar="[ADDRESS]", type=AddressType(FORMS), required=False)
optional_address_argument = click.argument("address", metavar="[HOST:PORT]", type=_TCP, required=False)
config_option = configuration()
json_option = click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def _look_there(ctx: click.Context, _: click.Parameter, directory: Path) -> None:
    ctx.meta[APP_DIR] = directory


app_dir_option = click.option(
    "--app-dir", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".", show_default=True,
    expose_value=False, callback=_look_there, help="Directory in which the modules of allowed types are looked for.",
)  # fmt: skip


class _Nowhere(io.TextIOBase):
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


def _silence(ctx: click.Context, _: click.Parameter, quiet: bool) -> None:
    if quiet:
        ctx.meta[QUIET] = True
        ctx.with_resource(redirect_stdout(_Nowhere()))


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, is_eager=True, expose_value=False, callback=_silence,
    help="Print nothing but errors; the exit status says it all.",
)  # fmt: skip


def _check_seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    try:
        return check_seconds(param.name or "", value)
    except ConfigurationError as error:
        raise click.UsageError(str(error), ctx) from None


def _seconds(*names: str, text: str) -> Callable[[Any], Any]:
    return click.option(
        *names, type=float, default=10.0, show_default=True, metavar="SECONDS", callback=_check_seconds, help=text
    )


timeout_option = _seconds("-t", "--timeout", text="For connecting.")
wait_option = _seconds("--wait", text="For the reply.")


def soon_option(name: str) -> Callable[[Any], Any]:
    """Return the option of that name for how early to report an expiry."""
    return click.option(
        name, "days", type=click.IntRange(0, 3650), metavar="DAYS",
        help="Report anything that expires in fewer than DAYS days.  [default: 14, or a quarter of its life if less]",
    )  # fmt: skip

"""Sets up the log of ``sealwire serve``, by its options."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from sealwire.errors import ConfigurationError
from sealwire.events import AUDIT, EVENTS
from sealwire.log_format import JSONFormatter
from sealwire.toml_options import read_toml

_LEVELS: Final = ("debug", "info", "warning", "error")
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_TIME: Final = "%Y-%m-%dT%H:%M:%S%z"


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a log: ``log_level``, ``log_format``, ``log_config`` and ``verbose``."""
    options = [
        click.option(
            "--log-level",
            type=click.Choice(_LEVELS),
            help="Log from this level on. Default: info. debug has tracebacks of handlers, which can hold parts of "
            "messages.",
        ),
        click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the log. Default: text."),
        click.option(
            "--log-config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Set up logging by this file instead, in TOML or JSON, as Python's logging.config.dictConfig has it.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="The same as --log-level debug."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def set_up_logging(level: str | None, form: str | None, config: Path | None) -> None:
    """Set up logging to standard error, or by a file.

    Without an option, logging that the user's module has set up stays as it is.

    Args:
        level: The level, in lower case; None for the default.
        form: ``text`` or ``json``; None for the default.
        config: The file.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    if config is not None:
        _configure(config)
        return
    chosen = logging.getLevelName((level or "info").upper())
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if form == "json" else logging.Formatter(_TEXT, _TIME))
    handler.addFilter(_has_no_other_line)
    # Other packages' lines for debugging are not what was asked for.
    logging.basicConfig(
        level=max(chosen, logging.INFO), handlers=[handler], force=level is not None or form is not None
    )
    logging.getLogger("sealwire").setLevel(chosen)


def _has_no_other_line(record: logging.LogRecord) -> bool:
    """Return False for a record of the audit log if the log has a line for its event anyway."""
    audit = getattr(record, "audit", None)
    return record.name != AUDIT or not isinstance(audit, dict) or not EVENTS[audit["event"]].logger


def _configure(path: Path) -> None:
    found = _read_json(path) if path.suffix == ".json" else read_toml(path)
    try:
        # The loggers of Sealwire exist by now, and Python would turn off those that the file does not name.
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False} | found)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        why = f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)
        raise ConfigurationError(f"{path}: no configuration of Python's logging: {why}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: expected a JSON object, not {type(found).__name__}")
    return found

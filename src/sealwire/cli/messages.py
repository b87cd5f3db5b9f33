"""Messages on the command line: JSON as an argument, in a file or on standard input, made into values that are sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from sealwire.cli.config import import_from_here
from sealwire.cli.texts import Number
from sealwire.cli.values import Builder
from sealwire.codec import RawCodec
from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.security import Security

Read = Callable[[str | bytes], Any]
_FORMS: Final = "; expected a value like '{\"count\": 2}' or '\"text\"', @FILE with one, or - for standard input"


def load_security(config: Path) -> Security:
    """Return the Security of a configuration file."""
    import_from_here()  # for the types of the allowlist, as `sealwire serve` does
    return Security.from_toml(config)


def message_reader(config: Path, security: Security, type_name: str | None = None) -> Read:
    """Return a function that makes the message out of JSON, which raises ValueError with what is wrong with it.

    Args:
        config: The configuration file, for errors.
        security: What is in it.
        type_name: The type of the message, as ``module:name``; None for plain data, unless a message says otherwise.

    Raises:
        ConfigurationError: The configuration is one for bytes only.
        BadParameter: There is no such type on the allowlist.
    """
    if isinstance(security.codec, RawCodec):
        raise ConfigurationError(f"{config}: the codec 'raw' takes bytes, which JSON lacks; send them from Python")
    builder = Builder(security.codec.allowlist)
    try:
        hint = Any if type_name is None else builder.named(type_name)
    except InvalidValue as error:
        raise click.BadParameter(str(error), param_hint="--type") from None

    def read(text: str | bytes) -> Any:
        cause: Exception | None = None
        try:
            return builder.build(_parse(text), hint)
        except json.JSONDecodeError as error:
            reason, cause = f"line {error.lineno}, column {error.colno}: {error.msg}", error
        except RecursionError:
            reason = "nested too deeply"
        except UnicodeDecodeError:
            reason = "not UTF-8 text"
        except InvalidValue as error:
            reason = str(error)
        except ValueError as error:
            reason = str(error)
            if "int_max_str_digits" in reason:
                reason = "an integer of more than 4,300 digits"
        raise ValueError(reason) from cause

    return read


def parse_message(config: Path, security: Security, text: str, type_name: str | None = None) -> Any:
    """Return the message of an argument: JSON, ``@`` and a file with it, or a dash for standard input.

    Raises ConfigurationError, OSError, BadParameter.
    """
    read = message_reader(config, security, type_name)
    content: str | bytes = text
    if text == "-":
        content = sys.stdin.buffer.read()
    elif text.startswith("@"):
        content = Path(text[1:]).read_bytes()
    try:
        return read(content)
    except ValueError as error:
        where = f"{text[1:]}: " if text.startswith("@") else ""
        forms = _FORMS if isinstance(error.__cause__, json.JSONDecodeError) else ""
        raise click.BadParameter(f"{where}{error}{forms}", param_hint="JSON") from None


def _parse(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_float=Number, object_pairs_hook=_object)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return value

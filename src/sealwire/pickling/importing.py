"""Imports the objects that ``"module:name"`` names in a configuration file or on the command line, once, at start."""

from __future__ import annotations

import importlib
import os
import re
import traceback
from types import ModuleType
from typing import Any, Final

from sealwire.errors import ConfigurationError

_FORM: Final = re.compile(r"((?:\w+\.)*\w+):((?:\w+\.)*\w+)")
_SHOWN: Final = 5
"""Names that an error suggests, at most."""


def import_object(name: Any) -> Any:
    """Import a module and return the object of that name in it. Raises ConfigurationError."""
    match = _FORM.fullmatch(name) if type(name) is str else None
    if match is None:
        raise ConfigurationError(f'{name!r}: expected "module:Class", like "shop.orders:Order"')
    module_name, path = match.groups()
    found = module = _import(module_name, name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(f"{name}: {module_name} has no {path}; {_suggestion(module)}") from None
    return found


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{name}: {module} cannot be imported: {_explain(error)}") from error
        remedy = (
            "leave out .py"
            if module.endswith(".py")
            else "install it, start in the directory that it is in, or name that in PYTHONPATH, or with --app-dir of "
            "a command"
        )
        raise ConfigurationError(f"{name}: there is no module {error.name!r}; {remedy}") from None
    except SystemExit:
        raise ConfigurationError(
            f"{name}: {module} ended the program when it was imported; put its code as a program under "
            "`if __name__ == '__main__':`"
        ) from None
    except Exception as error:
        raise ConfigurationError(f"{name}: {module} cannot be imported: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """Return type, place and text of an error that a module raised when it was imported."""
    if isinstance(error, SyntaxError):
        place, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)[1:]  # without the one here
        # A line of the user's own says more than the place in a library that it called.
        own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]
        frame = (own or frames)[-1]
        place, text = f"{frame.filename}:{frame.lineno}", str(error)
    return f"{type(error).__name__} at {place}: {text}"


def _suggestion(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return f"it has {', '.join(own[:_SHOWN])}" if own else "it has no function and no class of its own"

"""What ``"module:Class"`` names in a configuration file: imported when the file is loaded, and never later."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

from sealwire.errors import ConfigurationError

_FORM: Final = re.compile(r"((?:\w+\.)*\w+):((?:\w+\.)*\w+)")


def named(name: Any) -> Any:
    """The thing of that name. Raises ConfigurationError."""
    match = _FORM.fullmatch(name) if type(name) is str else None
    if match is None:
        raise ConfigurationError(f'{name!r}: expected "module:Class", like "shop.orders:Order"')
    module, path = match.groups()
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"{name}: there is no module {error.name!r}; install it, or start where it can be imported"
            ) from None
        raise ConfigurationError(f"{name}: {module} cannot be imported: {error}") from error
    except SystemExit:
        raise ConfigurationError(
            f"{name}: {module} ended the program when it was imported; put what it does as a program under "
            "`if __name__ == '__main__':`"
        ) from None
    except Exception as error:
        raise ConfigurationError(f"{name}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(f"{name}: {module} has no {path}") from None
    return found

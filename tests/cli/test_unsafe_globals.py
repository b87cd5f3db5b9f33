from __future__ import annotations

import pytest

from pickling import shop
from sealwire.cli.unsafe_globals import danger


@pytest.mark.parametrize(
    "named",
    [
        "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "__builtin__.execfile",
        "builtins.getattr", "importlib.import_module", "operator.attrgetter", "functools.partial", "pickle.loads",
        "copyreg._reconstructor", "os.path.join", "socket.socket", "shop.os.system", "shop.Order.__class__",
        "shop.__builtins__", "types.FunctionType",
    ],
)  # fmt: skip
def test_dangerous_names(named: str) -> None:
    first, _, rest = named.partition(".")
    assert danger(first, rest)


def test_names_that_are_not_known_for_danger() -> None:
    for cls in (shop.Order, shop.Outer.Inner, ValueError):
        assert danger(cls.__module__, cls.__qualname__) is None
    assert danger("oscar", "system") is None

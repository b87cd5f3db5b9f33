"""A plugin of pytest for mutmut, which asks for each test by its id: some ids of parameters cannot be asked for."""

from __future__ import annotations


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Run a test with all parameters where only some were asked for; always in one order, so that runs are alike."""
    tests = {arg: arg.partition("[")[0] for arg in args if "::" in arg and not arg.startswith("-")}
    args[:] = [*(arg for arg in args if arg not in tests), *sorted(set(tests.values()))]

"""The functions that can be middleware, at each place."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from sealwire.errors import ConfigurationError
from sealwire.middleware.chain import chained, check_middleware


def around(context: Any, message: Any, call_next: Any) -> Any:
    return call_next(context, message)


def with_option(name: str, context: Any, message: Any, call_next: Any) -> Any:
    return [name, call_next(context, message)]


async def around_on_loop(context: Any, message: Any, call_next: Any) -> Any:
    return await call_next(context, message)


class Object:
    def __call__(self, context: Any, message: Any, call_next: Any) -> Any:
        return call_next(context, message)

    def method(self, context: Any, message: Any, call_next: Any) -> Any:
        return call_next(context, message)


class ObjectOnLoop:
    async def __call__(self, context: Any, message: Any, call_next: Any) -> Any:
        return await call_next(context, message)


ORDINARY = [around, Object(), Object().method, partial(with_option, "x"), lambda *arguments: arguments]
COROUTINES = [around_on_loop, ObjectOnLoop(), ObjectOnLoop().__call__, partial(around_on_loop)]


@pytest.mark.parametrize("coroutines", [False, True])
@pytest.mark.parametrize("function", ORDINARY, ids=range(len(ORDINARY)))
def test_ordinary_functions_can_be_anywhere(function: Any, coroutines: bool) -> None:
    assert check_middleware([function], coroutines=coroutines, remedy="") == (function,)


@pytest.mark.parametrize("function", COROUTINES, ids=range(len(COROUTINES)))
def test_coroutine_functions(function: Any) -> None:
    assert check_middleware((function,), coroutines=True, remedy="") == (function,)
    with pytest.raises(ConfigurationError, match="is a coroutine function, which cannot run here; do so"):
        check_middleware([function], coroutines=False, remedy="do so")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (around, r"middleware must be a list of functions: middleware=\[around\]"),
        (iter([around]), "middleware must be a list of functions"),
        (None, "middleware must be a list of functions"),
        ([5], "middleware of type int is not a middleware: that is a function"),
        ([Object], "middleware Object is not a middleware"),
        ([with_option], "middleware with_option is not a middleware"),
        ([lambda message: message], "is not a middleware: that is a function"),
    ],
    ids=range(7),
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_middleware(given, coroutines=True, remedy="")


def test_order() -> None:
    chain = (partial(with_option, "first"), around, partial(with_option, "second"))
    assert chained(chain, lambda context, message: [context, message])(1, 2) == ["first", ["second", [1, 2]]]
    assert chained((), lambda context, message: [context, message])(1, 2) == [1, 2]

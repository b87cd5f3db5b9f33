"""CPython's own pickle tests, through the decoder: whatever their unpickler is given, and whatever their pickler makes.

The tests come with the interpreter (``test.pickletester``), except where a distribution keeps them apart. They run on
CPython's pickle; what goes into its ``loads`` is written down, and then decoded.
"""

from __future__ import annotations

import io
import pickle
import unittest
from typing import Any

import pytest

from pickling.values import same
from sealwire import Codec, DecodeError, EncodeError

tester = pytest.importorskip("test.pickletester", reason="this Python came without its tests")

CODEC = Codec()
HUGE = 1 << 20
"""Bytes of a pickle that is about its size alone, which other tests are about."""
_SLOW = {"test_bytearray_memoization_bug", "test_framing_large_objects", "test_huge_str_32b"}


def given_to_loads(case: type[Any]) -> set[bytes]:
    """Every pickle that the tests of a class of CPython's give to loads."""
    seen: set[bytes] = set()

    class Recorded(case, unittest.TestCase):  # a mix-in, as CPython uses it
        truncated_errors = bad_stack_errors = (pickle.UnpicklingError, EOFError)
        bad_stack_errors = (pickle.UnpicklingError,)
        truncated_data_error = (EOFError, "")
        size_overflow_error = (OverflowError, "")
        unpickler = pickle.Unpickler
        pickler = pickle.Pickler

        def dumps(self, value: Any, protocol: int | None = None, **options: Any) -> bytes:
            made = pickle.dumps(value, protocol, **options)
            seen.add(bytes(made))
            return made

        def loads(self, data: Any, **options: Any) -> Any:
            seen.add(bytes(data))
            return pickle.loads(data, **options)

    names = [name for name in unittest.TestLoader().getTestCaseNames(Recorded) if name not in _SLOW]
    result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(unittest.TestSuite(map(Recorded, names)))
    assert result.testsRun > 30  # whether they pass is CPython's business
    return {data for data in seen if len(data) < HUGE}


def outcome(data: bytes) -> Any:
    """The value; or the refusal. Whatever else is raised is an error."""
    try:
        return CODEC.decode(data)
    except DecodeError as error:
        return error


def test_what_its_unpickler_is_given() -> None:
    """Handmade pickles, most of them malformed, or of protocols 0 and 1."""
    accepted = refused = 0
    for data in sorted(given_to_loads(tester.AbstractUnpickleTests)):
        found = outcome(data)
        if isinstance(found, DecodeError):
            refused += 1
            continue
        accepted += 1
        assert data[0] == 0x80
        assert 2 <= data[1] <= 5
        assert same(found, pickle.loads(data))
    assert accepted >= 5
    assert refused >= 150


def test_what_its_pickler_makes() -> None:
    """Of all kinds of values: of those that are plain data, or standard values, every one is accepted."""
    accepted = refused = 0
    for data in sorted(given_to_loads(tester.AbstractPickleTests)):
        found = outcome(data)
        try:
            value = pickle.loads(data)
            again = CODEC.encode(value)
        except Exception:
            again = None  # nothing that encode would accept
        if isinstance(found, DecodeError):
            refused += 1
            canonical = again is not None and data in {pickle.dumps(value, protocol) for protocol in range(2, 6)}
            assert not canonical, (data[:200], found)
        else:
            accepted += 1
            assert again is not None
            assert same(found, value)
            assert same(CODEC.decode(again), value)
    assert accepted >= 2000
    assert refused >= 2000


@pytest.mark.parametrize("number", range(5))
def test_its_reference_pickles(number: int) -> None:
    """One value of many kinds at each protocol. An instance of a class of the tests is in it, so that it is refused."""
    data = getattr(tester, f"DATA{number}")
    found = outcome(data)
    assert isinstance(found, DecodeError)
    with pytest.raises(EncodeError, match="not on the allowlist"):
        CODEC.encode(tester.create_data())

"""The native core measures like the reference, except for values that are about as large as the bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.aio import threads
from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

from sealwire.native.sizes import is_large

ROOM = 65_536
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(
    ["x" * 5000, b"x" * 5000, 1 << 70, bytearray(3), {1}, object()]
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts)
        | st.dictionaries(st.text() | st.integers(), parts)
        | st.tuples(parts, parts)
        | st.builds(lambda part, count: [part] * count, parts, st.integers(0, 300))
    ),
    max_leaves=30,
)


def measure(value: object, room: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_measure", None)
        patch.setattr(threads, "_MAX_ENCODED_ON_LOOP", room)
        return threads.is_large(value)


@given(VALUES)
def test_like_the_reference(value: Any) -> None:
    found = is_large(value, ROOM)
    with pytest.MonkeyPatch.context() as patch:
        if found is False:
            assert not measure(value, 2 * ROOM, patch)
        elif found:
            assert measure(value, ROOM // 2, patch)


@pytest.mark.parametrize("part", [object(), bytearray(3), {1}, 1 << 70, 1j])
@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: [part], lambda part: {1: (part,)}])
def test_in_doubt_about_parts_of_other_types(part: object, wrap: Any) -> None:
    assert is_large(wrap(part), ROOM) is None


def test_in_doubt_about_what_is_deep() -> None:
    value: list[Any] = []
    value.append(value)
    assert is_large(value, ROOM) is None
    assert threads.is_large(value)


@pytest.mark.parametrize("value", ["x" * ROOM, b"x" * ROOM, [1] * ROOM, (1,) * ROOM, dict.fromkeys(range(ROOM))])
def test_large_at_once(value: object) -> None:
    assert is_large(value, ROOM) is True

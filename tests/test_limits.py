from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError
from sealwire.limits import FRAME_OVERHEAD, MIN_MAX_FRAME, Limits

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"
SPECS = fields(Limits)
COUNTS = [spec for spec in SPECS if spec.metadata["kind"] is int]
SECONDS = [spec for spec in SPECS if spec.metadata["kind"] is float]

each = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
each_count = pytest.mark.parametrize("spec", COUNTS, ids=lambda spec: spec.name)
each_of_seconds = pytest.mark.parametrize("spec", SECONDS, ids=lambda spec: spec.name)


def limits(name: str, value: Any) -> Limits:
    return Limits(**{name: value})


def test_is_frozen_and_by_keyword() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().max_frame = 1
    with pytest.raises(TypeError):
        Limits(2048)
    assert Limits() == Limits()
    assert replace(Limits(), max_frame=2048) == Limits(max_frame=2048)


def test_replace_checks_too() -> None:
    with pytest.raises(ConfigurationError):
        replace(Limits(), max_frame=1)


@each
def test_says_unit_and_reason(spec: Any) -> None:
    assert spec.metadata["unit"]
    assert spec.metadata["why"]


@each
def test_takes_its_bounds(spec: Any) -> None:
    for value in (spec.metadata["minimum"], spec.metadata["maximum"], spec.default):
        assert getattr(limits(spec.name, value), spec.name) == value


@each
def test_refuses_what_is_beyond(spec: Any) -> None:
    minimum, maximum = spec.metadata["minimum"], spec.metadata["maximum"]
    below = math.nextafter(minimum, 0) if isinstance(minimum, float) else minimum - 1
    above = math.nextafter(maximum, math.inf) if isinstance(maximum, float) else maximum + 1
    for value in (below, above, 0, -1):
        with pytest.raises(ConfigurationError) as caught:
            limits(spec.name, value)
        text = str(caught.value)
        assert text.startswith(f"Limits.{spec.name} must be a")
        assert spec.metadata["unit"] in text
        assert f"from {minimum} to {maximum}, not {value}" in text


@each
@pytest.mark.parametrize(
    "value",
    [None, "5000", b"5000", True, False, [5000], math.nan, math.inf, -math.inf, 5000j, Decimal(50), Fraction(50)],
)
def test_refuses_other_types(spec: Any, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"Limits.{spec.name}"):
        limits(spec.name, value)


@each_count
def test_a_count_is_whole(spec: Any) -> None:
    with pytest.raises(ConfigurationError, match="a whole number"):
        limits(spec.name, float(spec.default))


@each_of_seconds
def test_seconds_can_be_whole_or_not(spec: Any) -> None:
    assert getattr(limits(spec.name, 2), spec.name) == 2
    assert getattr(limits(spec.name, 0.25), spec.name) == 0.25


@each
@pytest.mark.parametrize("digits", [30, 5_000, 100_000])
def test_huge_numbers_are_not_written_out(spec: Any, digits: int) -> None:
    for value in (10**digits, -(10**digits)):
        with pytest.raises(ConfigurationError) as caught:
            limits(spec.name, value)
        assert str(caught.value).endswith("not one of more than 64 bits")


def test_a_value_of_another_type_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Limits(max_frame="secret")
    assert str(caught.value).endswith("not a str")


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(), st.binary()))
def test_takes_a_number_within_bounds_and_nothing_else(value: Any) -> None:
    for spec, kinds in ((COUNTS[0], (int,)), (SECONDS[0], (int, float))):
        good = type(value) in kinds and spec.metadata["minimum"] <= value <= spec.metadata["maximum"]
        try:
            limits(spec.name, value)
        except ConfigurationError:
            assert not good
        else:
            assert good


class TestDefaults:
    """Safe for an open port without any configuration."""

    def test_descriptors(self) -> None:
        default = Limits()
        assert default.max_threads == default.max_connections + default.max_handshakes < 1024

    def test_what_has_proved_nothing_is_not_waited_for_long(self) -> None:
        assert Limits().handshake_timeout <= 10
        assert Limits().handshake_timeout < Limits().frame_timeout < Limits().idle_timeout

    def test_a_message_fits_into_the_memory_for_one(self) -> None:
        assert Limits().max_frame < Limits().max_memory
        assert Limits().max_frame - FRAME_OVERHEAD < Limits().max_string + FRAME_OVERHEAD
        assert Limits().max_nodes <= Limits().max_expanded_nodes

    def test_the_least_frame_is_that_of_a_datagram(self) -> None:
        # 1,280 (the least MTU of IPv6) less 40 and 8 of IPv6 and UDP headers, 37 of DTLS and 4 of length.
        assert MIN_MAX_FRAME <= 1280 - 40 - 8 - 37 - 4
        assert Limits(max_frame=MIN_MAX_FRAME)


def test_the_documentation_has_each_with_its_bounds() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Limits\n")[2]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| ([^|]+) \| (\S+) \| (\S+) \| (.+) \|$", section, re.MULTILINE)
    assert rows == [
        (
            spec.name,
            spec.metadata["unit"],
            spec.metadata.get("shown") or str(spec.default),
            str(spec.metadata["minimum"]),
            str(spec.metadata["maximum"]),
            spec.metadata["why"],
        )
        for spec in SPECS
    ]

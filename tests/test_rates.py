"""An identity has as many requests in a second as it may have, and saves none up."""

from __future__ import annotations

from sealwire import Limits
from sealwire.rates import Rates, rates_for
from support.udp import forked


def test_as_many_in_a_second() -> None:
    rates = Rates(3)
    assert [rates.allow("a", 1.0) for _ in range(4)] == [True, True, True, False]
    assert rates.allow("b", 1.0)
    assert not rates.allow("a", 1.3)
    assert rates.allow("a", 1.4)
    assert not rates.allow("a", 1.4)
    assert [rates.allow("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_silent_ones_are_forgotten_without_a_gift() -> None:
    """There is room for some thousands; those that have been silent longest make room."""
    rates = Rates(1)
    for number in range(30_000):
        assert rates.allow(number, 1.0 + number)
    assert not rates.allow(29_999, 30_000.5)
    assert rates.allow(29_999, 30_001.0)


def test_a_forked_process_counts_with_its_parent() -> None:
    rates = Rates(3)
    assert rates.allow("a", 1.0)
    assert forked(lambda: [rates.allow("a", 1.0) for _ in range(3)] == [True, True, False]) == 0
    assert not rates.allow("a", 1.0)
    assert rates.allow("b", 1.0)


def test_without_a_bound_there_is_nothing_to_count() -> None:
    assert rates_for(Limits()) is None
    assert rates_for(Limits(max_requests_per_second=5)) is not None

"""Exponential back-off."""

from __future__ import annotations

from sealwire.backoff import Backoff


def test_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.05, 1.0)
    assert [backoff.next() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_is_unbounded_by_default() -> None:
    backoff = Backoff(1, factor=10)
    assert [backoff.next() for _ in range(4)] == [1, 10, 100, 1000]


def test_jitter_does_not_affect_the_growth() -> None:
    factors = iter((0.5, 1.0, 0.75, 0.5))
    backoff = Backoff(2, 8, jitter=lambda: next(factors))
    assert [backoff.next() for _ in range(4)] == [1, 4, 6, 4]


def test_reset() -> None:
    backoff = Backoff(1)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert [backoff.next(), backoff.next()] == [1, 2]

from __future__ import annotations

from sealwire.pool.retry_budget import RetryBudget


def spent(budget: RetryBudget, now: float) -> int:
    """Return the number of repetitions that it permits at that moment."""
    count = 0
    while budget.spend(now):
        count += 1
        assert count < 10_000
    return count


def test_a_share_of_the_requests_and_a_reserve() -> None:
    budget = RetryBudget(0.2)
    for _ in range(100):
        budget.earn(1000.0)
    assert spent(budget, 1000.0) == 30


def test_a_client_with_few_requests_may_repeat_one() -> None:
    assert spent(RetryBudget(0.2), 1000.0) == 10


def test_none() -> None:
    budget = RetryBudget(0)
    budget.earn(1000.0)
    assert spent(budget, 1000.0) == 0


def test_what_was_not_used_is_forgotten() -> None:
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.earn(1000.0)
    assert budget.spend(1010.0)  # those of the period before count
    assert spent(budget, 1100.0) == 10


def test_an_outage_is_not_multiplied() -> None:
    """A hundred requests in a second, all of which fail: a fifth of them is repeated, and the reserve now and then."""
    budget = RetryBudget(0.2)
    spent_in_all = 0
    for second in range(1000):
        for _ in range(100):
            budget.earn(float(second))
            spent_in_all += budget.spend(float(second))
    assert 20_000 <= spent_in_all <= 20_000 + 10 * 100

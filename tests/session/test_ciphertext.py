"""Records without data are bounded; records with data never are."""

from __future__ import annotations

from sealwire.session.ciphertext import CiphertextBound

RECORD = 5 + 16_384 + 17


def test_a_flood_of_key_updates_ends() -> None:
    bound = CiphertextBound()
    for _ in range(8192 // 27):
        bound.surplus += 27
        assert not bound.exceeded
    bound.surplus += 27
    assert bound.exceeded


def test_the_largest_records_in_small_segments_do_not() -> None:
    bound = CiphertextBound()
    bound.opened()
    for _ in range(100):
        for _ in range(RECORD // 1024):
            bound.surplus += 1024
            assert not bound.exceeded
        bound.surplus += RECORD % 1024
        bound.data(16_384)
        assert bound.surplus == 0


def test_records_of_one_byte_do_not() -> None:
    bound = CiphertextBound()
    for _ in range(10_000):
        bound.surplus += 23
        bound.data(1)
        assert not bound.exceeded


def test_one_byte_does_not_make_up_for_a_flood() -> None:
    bound = CiphertextBound()
    bound.opened()
    rounds = 0
    while not bound.exceeded:
        bound.surplus += 27 * 1000
        bound.data(1)
        rounds += 1
    assert rounds == 2


def test_the_bound_is_the_last_byte_that_is_let_through() -> None:
    early, opened = CiphertextBound(), CiphertextBound()
    opened.opened()
    for bound, limit in ((early, 8192), (opened, 2 * (5 + 16_384 + 256))):
        assert (bound.surplus, bound.exceeded) == (0, False)
        bound.surplus += limit
        assert not bound.exceeded
        bound.surplus += 1
        assert bound.exceeded
        bound.data(1)
        assert bound.surplus == limit + 1 - 32

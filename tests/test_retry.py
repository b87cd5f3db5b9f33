"""Retries of connections and requests (docs/protocol.md, sections 3 and 5)."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from sealwire import retry
from sealwire.errors import ConnectionClosed, DeadlineExceeded, HandshakeFailed, HandshakeRejected, TransportError
from sealwire.retry import ConnectRetry, Resend, outcome_unknown, shares
from sealwire.security import Security
from sealwire.session.client import ConnectionLost

FIRST, LONGEST = 0.05, 1.0


class Clock:
    """A monotonic clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Random:
    """Draws the same part of each range, and checks that it is the range of the jitter."""

    def __init__(self, part: float) -> None:
        self.part = part

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return low + self.part * (high - low)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "monotonic", clock)
    monkeypatch.setattr(retry, "_random", Random(1.0))
    return clock


def rejected(code: int = 4) -> HandshakeRejected:
    return HandshakeRejected("the server refused", code=code)


REFUSALS = [rejected(3), HandshakeFailed("the server refused this client's certificate")]


class Files:
    """A Security whose certificates and keys are replaced when a test says so."""

    def __init__(self) -> None:
        self.credentials = SimpleNamespace(current=object())
        self.keys = SimpleNamespace(current=object(), let_go=lambda: False)

    def pinned(self) -> Files:
        return self


def retrying(deadline: float, files: Files | None = None) -> ConnectRetry:
    return ConnectRetry(cast(Security, files or Files()), deadline)


class TestConnectRetry:
    @pytest.mark.parametrize(
        ("code", "again"), [(1, False), (2, False), (3, False), (4, True), (5, True), (0, False), (6, False)]
    )
    def test_only_if_the_server_says_that_it_is_for_now(self, clock: Clock, code: int, again: bool) -> None:
        attempts, error = retrying(clock.now + 10), rejected(code)
        if again:
            assert attempts.delay(error) == FIRST
            assert attempts.refused is error
        else:
            with pytest.raises(HandshakeRejected) as raised:
                attempts.delay(error)
            assert raised.value is error
            assert attempts.refused is None

    def test_a_connection_that_is_cut_without_a_reason(self, clock: Clock) -> None:
        attempts, error = retrying(clock.now + 10), HandshakeFailed("reset", transient=True)
        assert not attempts.wants_look(error)
        assert [attempts.delay(error) for _ in range(3)] == [0.05, 0.1, 0.2]
        assert attempts.refused is error

    @pytest.mark.parametrize("refusal", REFUSALS)
    @pytest.mark.parametrize("part", ["credentials", "keys"])
    def test_once_more_if_the_files_have_changed(self, clock: Clock, refusal: TransportError, part: str) -> None:
        files = Files()
        attempts = retrying(clock.now + 10, files)
        assert attempts.wants_look(refusal)
        getattr(files, part).current = object()
        assert attempts.delay(refusal) == 0
        again = rejected(3)
        assert not attempts.wants_look(again)
        with pytest.raises(HandshakeRejected) as raised:
            attempts.delay(again)
        assert raised.value is again

    @pytest.mark.parametrize("refusal", REFUSALS)
    def test_not_if_they_are_the_same(self, clock: Clock, refusal: TransportError) -> None:
        attempts = retrying(clock.now + 10)
        assert attempts.wants_look(refusal)
        with pytest.raises(type(refusal)):
            attempts.delay(refusal)

    def test_once_more_without_a_key_that_the_file_lacks(self, clock: Clock) -> None:
        files = Files()
        files.keys.let_go = lambda: True
        attempts, refusal = retrying(clock.now + 10, files), rejected(3)
        assert attempts.wants_look(refusal)
        assert attempts.delay(refusal) == 0
        with pytest.raises(HandshakeRejected):
            attempts.delay(rejected(3))

    @pytest.mark.parametrize("code", [1, 2, 4, 5])
    def test_other_refusals_are_not_due_to_the_files(self, clock: Clock, code: int) -> None:
        assert not retrying(clock.now + 10).wants_look(rejected(code))

    def test_pauses_grow(self, clock: Clock) -> None:
        attempts = retrying(clock.now + 1000)
        assert [attempts.delay(rejected()) for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]

    @pytest.mark.parametrize(("part", "pauses"), [(0.0, [0.025, 0.05, 0.1]), (0.5, [0.0375, 0.075, 0.15])])
    def test_pauses_vary(self, clock: Clock, monkeypatch: pytest.MonkeyPatch, part: float, pauses: list[float]) -> None:
        """Clients that were refused together do not come back together."""
        monkeypatch.setattr(retry, "_random", Random(part))
        attempts = retrying(clock.now + 1000)
        assert [attempts.delay(rejected()) for _ in range(3)] == pytest.approx(pauses)

    @pytest.mark.parametrize(
        ("remaining", "delay"),
        [(10.0, 0.2), (0.2, 0.2), (0.1, 0.1), (0.06, 0.06), (0.04, None), (0.0, None), (-1.0, None)],
    )
    def test_no_attempt_begins_after_the_deadline(self, clock: Clock, remaining: float, delay: float | None) -> None:
        deadline = clock.now + 100
        attempts = retrying(deadline)
        first = rejected()
        for _ in range(2):
            attempts.delay(first)
        clock.now = deadline - remaining
        last = rejected(5)
        if delay is not None:
            assert attempts.delay(last) == pytest.approx(delay)
            assert attempts.refused is last
        else:
            with pytest.raises(HandshakeRejected) as raised:
                attempts.delay(last)
            assert raised.value is last
            assert attempts.refused is first

    def test_every_attempt_is_before_the_deadline(self, clock: Clock) -> None:
        deadline = clock.now + 5
        attempts = retrying(deadline)
        moments = []
        with suppress(HandshakeRejected):
            while len(moments) < 100:
                clock.now += attempts.delay(rejected())
                moments.append(clock.now)
        assert 5 < len(moments) < 20
        assert moments[-1] <= deadline


def lost(code: int | None, *, unprocessed: bool) -> ConnectionLost:
    return ConnectionLost(ConnectionClosed("the connection ended", code=code, last=7), unprocessed=lambda: unprocessed)


CODES = [(None, True), (0, True), (1, True), (2, True), (3, True), (4, False), (5, False), (99, False)]
"""Codes of CLOSE, None without one, and whether anything may be sent again after them."""


class TestResend:
    @pytest.mark.parametrize(("code", "resendable"), CODES)
    @pytest.mark.parametrize(
        ("unprocessed", "idempotent", "may"),
        [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
    )
    def test_table(
        self, clock: Clock, code: int | None, resendable: bool, unprocessed: bool, idempotent: bool, may: bool
    ) -> None:
        resend, error = Resend(clock.now + 3, idempotent=idempotent), lost(code, unprocessed=unprocessed)
        if may and resendable:
            assert resend.after(error) == 3
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="may or may not have acted on it") as ended:
                resend.after(error)
            assert not isinstance(ended.value, ConnectionLost)  # which is no error for callers
            assert (ended.value.code, ended.value.last) == (code, 7)
            assert ended.value.__suppress_context__

    def test_only_while_the_caller_waits(self, clock: Clock) -> None:
        resend = Resend(clock.now + 3, idempotent=True)
        clock.now += 3
        with pytest.raises(DeadlineExceeded, match="no time is left"):
            resend.after(lost(2, unprocessed=True))

    def test_a_refusal_does_not_count(self, clock: Clock) -> None:
        """Only a request that was really sent again was sent again."""
        resend = Resend(clock.now + 3, idempotent=False)
        with pytest.raises(ConnectionClosed):
            resend.after(lost(0, unprocessed=False))
        resend.after(lost(0, unprocessed=True))


def test_outcome_unknown() -> None:
    error = outcome_unknown(ConnectionClosed("x", code=1, last=3))
    assert type(error) is ConnectionClosed
    assert (error.code, error.last) == (1, 3)
    assert "idempotent=True" in str(error)


def test_addresses_share_the_time(clock: Clock) -> None:
    """What one of them does not use is the others'."""
    found = []
    for address, seconds in shares(["a", "b", "c"], clock.now + 9):
        found.append((address, seconds))
        clock.now += 1
    assert found == [("a", 3), ("b", 4), ("c", 7)]

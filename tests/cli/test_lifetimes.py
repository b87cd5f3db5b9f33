from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sealwire.cli.lifetimes import (
    Lifetime,
    days_left,
    iso,
    key_state,
    missing_keys,
    moment_text,
    signing_next,
    signing_now,
)
from sealwire.cli.report import Severity
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import Keyring, KeyringStatus
from sealwire.wire.keys import Key

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (-HOUR, Severity.CRITICAL),
        (HOUR, Severity.WARNING),
        (14 * 24 * HOUR - HOUR, Severity.WARNING),
        (14 * 24 * HOUR + HOUR, None),
        (None, None),
    ],
)
def test_severity(left: timedelta | None, severity: Severity | None) -> None:
    end = None if left is None else datetime.now(UTC) + left
    lifetime = Lifetime("a.pem", "certificate", None, end, "renew it")
    assert lifetime.severity(14) == lifetime.severity(None) == severity
    assert [finding.severity for finding in lifetime.finding(14)] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("life", "left"),
    [(timedelta(days=90), 14 * 24 * HOUR), (timedelta(days=7), 42 * HOUR), (24 * HOUR, 6 * HOUR), (HOUR, HOUR / 4)],
)
def test_what_lives_shortly_is_soon_later(life: timedelta, left: timedelta) -> None:
    for more, severity in ((timedelta(minutes=1), None), (-timedelta(minutes=1), Severity.WARNING)):
        end = datetime.now(UTC) + left + more
        assert Lifetime("a.pem", "certificate", end - life, end).severity(None) == severity
        assert Lifetime("a.pem", "certificate", end - life, end).severity(90) == Severity.WARNING


@pytest.mark.parametrize(
    ("lives", "severity"),
    [
        ([(-90, 15)], None),
        ([(-90, 13)], Severity.WARNING),
        ([(-90, 5), (4, 50)], None),
        ([(-90, 5), (6, 50)], Severity.WARNING),
        ([(6, 50)], Severity.CRITICAL),
        ([(-9, None), (-90, 5)], None),
        ([(-90, 5), (-9, 5)], Severity.WARNING),
    ],
    ids=str,
)
def test_keys_that_follow_each_other(lives: list[tuple[int, int | None]], severity: Severity | None) -> None:
    now = datetime.now(UTC)
    keys = KeySnapshot(
        Key(
            str(number),
            bytes(32),
            not_before=now + timedelta(days=start),
            not_after=None if end is None else now + timedelta(days=end),
        )
        for number, (start, end) in enumerate(lives)
    )
    found = [finding.severity for finding in missing_keys(KeyringStatus(files={}, file=None, keys=keys), None)]
    assert found == ([] if severity is None else [severity])


def test_findings_say_when() -> None:
    now = datetime.now(UTC)
    (past,) = Lifetime("a.pem", "certificate", None, now - 25 * HOUR, "renew it").finding(14)
    assert past.problem == f"the certificate has expired, at {moment_text(now - 25 * HOUR)}"
    (soon,) = Lifetime("a.pem", "certificate", None, now + 25 * HOUR, "renew it").finding(14)
    assert soon.problem == f"the certificate expires at {moment_text(now + 25 * HOUR)}, in 1 day"
    assert (soon.location, soon.remedy) == ("a.pem", "renew it")


def test_an_unreadable_file_is_critical() -> None:
    assert Lifetime("a.pem", "broken", None, None, readable=False).severity(14) is Severity.CRITICAL


def test_no_end() -> None:
    assert (days_left(None), moment_text(None), moment_text(None, none="any time"), iso(None)) == (
        None, "no end", "any time", None,
    )  # fmt: skip


def test_which_key_signs() -> None:
    now = datetime.now(UTC)
    times = {"old": (-9, -1), "first": (-8, 9), "second": (-7, 9), "next": (1, 9), "last": (2, 9)}
    keys = Keyring(
        Key(name, bytes(32), not_before=now + start * HOUR, not_after=now + end * HOUR)
        for name, (start, end) in times.items()
    )
    assert {key.id: key_state(key, keys) for key in keys} == {
        "old": "expired",
        "first": "verifies",
        "second": "signs",
        "next": "not yet valid",
        "last": "not yet valid",
    }
    assert (signing_now(keys, None), signing_next(keys, "dns:a.example")) == ("second", "next")
    bound = Keyring([Key("bound", bytes(32), identity="dns:a.example")])
    assert (signing_now(bound, None), signing_next(bound, None)) == ("", "")

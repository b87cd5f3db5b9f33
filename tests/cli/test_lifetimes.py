from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sealwire.cli.lifetimes import Lifetime, days_left, iso, key_state, moment_text, signing_next, signing_now
from sealwire.cli.report import Severity
from sealwire.trust.keyring import Keyring
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
    lifetime = Lifetime("a.pem", "certificate", end, "renew it")
    assert lifetime.severity(14) == severity
    assert [finding.severity for finding in lifetime.finding(14)] == ([] if severity is None else [severity])


def test_findings_say_when() -> None:
    now = datetime.now(UTC)
    (past,) = Lifetime("a.pem", "certificate", now - 25 * HOUR, "renew it").finding(14)
    assert past.problem == f"the certificate has expired, at {moment_text(now - 25 * HOUR)}"
    (soon,) = Lifetime("a.pem", "certificate", now + 25 * HOUR, "renew it").finding(14)
    assert soon.problem == f"the certificate expires at {moment_text(now + 25 * HOUR)}, in 1 day"
    assert (soon.location, soon.remedy) == ("a.pem", "renew it")


def test_an_unreadable_file_is_critical() -> None:
    assert Lifetime("a.pem", "broken", None, readable=False).severity(14) is Severity.CRITICAL


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

"""Log records, by logger and event."""

from __future__ import annotations

import logging
from typing import Any

import pytest


def logged(caplog: pytest.LogCaptureFixture, logger: str = "sealwire.server") -> list[logging.LogRecord]:
    return [record for record in list(caplog.records) if record.name == logger]


def audited(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The audit records of an event."""
    found = [record.__dict__["audit"] for record in logged(caplog, "sealwire.audit")]
    return [each for each in found if each["event"] == event]

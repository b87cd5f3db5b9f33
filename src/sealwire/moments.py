"""Moments in messages: date and time in UTC, in one form."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_text(moment: datetime | None, *, none: str = "no end") -> str:
    """Return date and time in UTC for people; ``none`` stands for no limit."""
    return none if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

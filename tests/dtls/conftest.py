"""Fixtures of the tests of UDP."""

from __future__ import annotations

import pytest

from support.datagrams import Bounded
from support.service import Deployment


@pytest.fixture
def made(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Bounded:
    return Bounded(deployment, monkeypatch)

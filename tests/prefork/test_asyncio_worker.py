"""The choice of an event loop; test_supervisor has workers that run one."""

from __future__ import annotations

import asyncio
import sys

import pytest

from sealwire.prefork.asyncio_worker import loop_factory


def test_uvloop_if_it_is_installed() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    assert loop_factory() is uvloop.new_event_loop


def test_asyncio_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop

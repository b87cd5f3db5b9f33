"""Two variants of the model; ``make model`` checks all."""

from __future__ import annotations

import shutil

import pytest

from model.__main__ import BROKEN, HOLDS, check

pytestmark = pytest.mark.skipif(shutil.which("spin") is None, reason="spin, the model checker, is not installed")


def test_holds_while_certificates_are_right() -> None:
    assert not check(HOLDS["the secret of the bound key leaked, certificates are right"]).attacked


def test_attack_is_found_without_the_sequence() -> None:
    assert check(BROKEN["without the sequence"]).attacked

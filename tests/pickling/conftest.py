"""Each message in these tests is vetted by both forms of the vetting pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import twins


@pytest.fixture(scope="package", autouse=True)
def both_forms() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        twins.compare_each(monkeypatch)
        yield

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from remedies.place import Place, fixture


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A directory for the commands of a remedy."""
    yield from fixture(tmp_path, request.function)

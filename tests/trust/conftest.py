"""Fixtures of the tests of credentials: a CA, a leaf, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.certificates import Files, Made, make, make_ca


@pytest.fixture(scope="module")
def ca() -> Made:
    return make_ca()


@pytest.fixture(scope="module")
def leaf(ca: Made) -> Made:
    return make("client.example", issuer=ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def paths(files: Files, ca: Made, leaf: Made) -> dict[str, Any]:
    return {"cert": files.write(leaf.pem), "key": files.write(leaf.key_pem), "ca": files.write(ca.pem)}

"""Seeds and corpora of all targets, without atheris: what was found once is not found again."""

from __future__ import annotations

import pytest

from fuzz import TARGETS
from fuzz.harness import corpus, load, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_no_finding(name: str) -> None:
    target = load(name)
    for number, data in enumerate(seeds(target)):
        try:
            target.one(data)
        except BaseException as error:
            error.add_note(f"seed {number}: {data!r}")
            raise
    for path in corpus(name):
        try:
            target.one(path.read_bytes())
        except BaseException as error:
            error.add_note(str(path))
            raise

"""A call that cannot be made says why."""

from __future__ import annotations

import pytest

from sealwire.errors import InvalidState
from sealwire.session import misuse


@pytest.mark.parametrize(
    ("answered", "text"),
    [(True, "must take its parts before it returns"), (False, "only the thread of its handler takes the parts")],
)
def test_parts_of_a_request_that_cannot_be_taken(answered: bool, text: str) -> None:
    error = misuse.no_part_now(answered=answered)
    assert isinstance(error, InvalidState)
    assert text in str(error)

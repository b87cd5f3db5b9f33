"""The search for the part of a value that cannot be encoded."""

from __future__ import annotations

import pytest

from sealwire.codec import Codec
from sealwire.errors import EncodeError
from sealwire.pickling import Allowlist
from sealwire.pickling.diagnose import find_unencodable


def test_the_faulty_part_among_very_many():
    """By halves: each part by itself would take seconds."""
    tried = []
    value = {"a": [[n] * 10 for n in range(20_000)] + [{"b": object()}] + [0] * 20_000}

    def attempt(part):
        tried.append(part)
        Codec().encode(part)

    path, why = find_unencodable(value, Allowlist(), 100, attempt)
    assert (path, why) == (
        "$.a[20000].b",
        "object is not on the allowlist; send plain data, such as its name, in its place",
    )
    assert len(tried) < 100
    with pytest.raises(EncodeError, match=r"^\$\.a\[20000\]\.b: object is not"):
        Codec().encode(value)


def test_an_attempt_that_fails_otherwise():
    def attempt(part):
        raise ZeroDivisionError

    assert find_unencodable([1], Allowlist(), 100, attempt) == ("$[0]", "cannot be taken apart (ZeroDivisionError)")

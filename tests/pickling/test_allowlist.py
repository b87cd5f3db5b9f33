"""What an allowlist may have."""

from __future__ import annotations

import datetime
import pathlib
import uuid

import pytest

from sealwire.errors import ConfigurationError
from sealwire.pickling import Allowlist


class Order:
    pass


def test_standard_types_need_not_be_named_but_may():
    allowlist = Allowlist(uuid.UUID, datetime.date, int, pathlib.Path, pathlib.PurePath)
    assert uuid.UUID in allowlist
    assert uuid.UUID in Allowlist()
    assert Order not in allowlist
    assert repr(allowlist) == "Allowlist()"


def test_other_types_are_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"test_allowlist\.Order cannot be allowed: only the standard value"):
        Allowlist(uuid.UUID, Order)
    with pytest.raises(ConfigurationError, match=r"^ValueError cannot be allowed"):
        Allowlist(ValueError)
    with pytest.raises(ConfigurationError, match="takes types, not a value of type str"):
        Allowlist("Order")


def test_immutable():
    with pytest.raises(AttributeError):
        Allowlist().types = ()

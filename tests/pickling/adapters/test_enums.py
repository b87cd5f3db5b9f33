"""Enumerations and flags."""

from __future__ import annotations

import enum
import ipaddress
import pickle
from typing import Any

import pytest

from pickling import shop
from pickling.assembler import message, name
from sealwire import Allowlist, Codec, ConfigurationError, InvalidValue
from sealwire.pickling.adapters.enums import MAX_COMBINATIONS, EnumAdapter, FlagAdapter

CODEC = Codec(Allowlist(*shop.TYPES))


def test_members_are_the_members() -> None:
    for member in [*shop.Color, *shop.Size, *shop.Access, shop.Access.READ | shop.Access.RUN]:
        assert CODEC.decode(CODEC.encode([member]))[0] is member


@pytest.mark.parametrize("value", [(True, "two"), [True, 2], [1.0, 2], (1, "two", 3)], ids=repr)
def test_a_value_that_equals_a_member_s_is_none(value: object) -> None:
    """shop.Color has (1, "two") and [1, 2]."""
    with pytest.raises(InvalidValue, match="not the value of a member"):
        CODEC.decode(pickle.dumps(Claim(value), 5))


class Odd(enum.Enum):
    A = 1
    B = (1, {"x": [range(3)]})


def test_a_member_that_can_never_be_sent_is_reported() -> None:
    with pytest.raises(ConfigurationError, match=r"Odd\.B can never be sent: its value has the type range"):
        Codec(Allowlist(Odd))


class Claim:
    """Pickled as a member of shop.Color."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        return shop.Color, (self.value,)


def combination(number: int) -> bytes:
    return message(name(__name__, "many"), b"J", number.to_bytes(4, "little"), b"\x85R")


@pytest.mark.parametrize("kind", [enum.Flag, enum.IntFlag])
def test_no_peer_fills_the_combinations_of_flags(kind: Any) -> None:
    """CPython keeps each for ever, which those in no use are taken out of, and others are never refused."""
    many = kind("many", {f"F{n}": 1 << n for n in range(30)}, module=__name__)
    globals()["many"] = many
    codec = Codec(Allowlist(many))
    start = len(many._value2member_map_)
    kept = [codec.decode(combination(number)) for number in (3, 5, 6)]
    own = many(7)
    for number in range(9, 8 * MAX_COMBINATIONS, 2):
        assert codec.decode(combination(number)).value == number
    assert len(many._value2member_map_) <= start + MAX_COMBINATIONS + len(kept) + 1
    for member, value in zip(kept, (3, 5, 6), strict=True):
        assert member is many(value) is codec.decode(combination(value))
    assert own is many(7) is codec.decode(combination(7))
    assert many.F0 | many.F1 is kept[0]


def test_all_combinations_in_use_are_kept() -> None:
    many = enum.Flag("many", {f"F{n}": 1 << n for n in range(30)}, module=__name__)
    globals()["many"] = many
    codec = Codec(Allowlist(many))
    held = [codec.decode(combination(number)) for number in range(1, 3 * MAX_COMBINATIONS, 2)]
    assert all(member is many(member.value) for member in held)
    del held
    for number in range(1, 20 * MAX_COMBINATIONS, 4):
        codec.decode(combination(number))
    assert len(many._value2member_map_) <= 4 * MAX_COMBINATIONS


def test_members_that_cpython_writes_by_name_are_sent_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CPython 3.11.0 to 3.11.3."""
    monkeypatch.setattr("sealwire.pickling.adapters.enums._WRITTEN_BY_NAME", True)
    for adapter, member in ((EnumAdapter, shop.Color.RED), (FlagAdapter, shop.Access.READ | shop.Access.RUN)):
        cls, arguments = adapter(type(member)).reduce(member)
        assert cls(*arguments) is member


def test_the_scope_of_an_ipv6_address_is_sent() -> None:
    codec = Codec(Allowlist())
    address = ipaddress.IPv6Address("fe80::1%eth0")
    assert codec.decode(codec.encode(address)).scope_id == "eth0"

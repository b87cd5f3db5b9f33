from __future__ import annotations

from typing import Any

import pytest

from sealwire import ConfigurationError
from sealwire.pool.addresses import Address, Lookup, distinct, numeric, parse_addresses


@pytest.mark.parametrize(
    ("value", "host", "port", "path", "text"),
    [
        ("a.example:7443", "a.example", 7443, None, "a.example:7443"),
        (("a.example", 7443), "a.example", 7443, None, "a.example:7443"),
        (["192.0.2.1", 1], "192.0.2.1", 1, None, "192.0.2.1:1"),
        ("[2001:db8::1]:7443", "2001:db8::1", 7443, None, "[2001:db8::1]:7443"),
        (("2001:db8::1", 7443), "2001:db8::1", 7443, None, "[2001:db8::1]:7443"),
        ("unix:/run/orders", "", 0, "/run/orders", "/run/orders"),
    ],
)
def test_forms(value: Any, host: str, port: int, path: str | None, text: str) -> None:
    address = Address.parse(value)
    assert (address.host, address.port, address.path, str(address)) == (host, port, path, text)


@pytest.mark.parametrize(
    "value",
    [
        "", "a.example", "a.example:", ":7443", "a.example:x", "a.example:0", "a.example:65536", "2001:db8::1:7443",
        "[2001:db8::1]", "[a]b:1", "unix:", "a b:1", "https://a.example:1", None, 7443, ("a.example",),
        ("a.example", "7443"), (7443, "a.example"), ("a.example", 7443, 0), b"a.example:7443", ("a.example", True),
    ],
)  # fmt: skip
def test_what_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        Address.parse(value)


@pytest.mark.parametrize("values", ["a.example:1", b"a.example:1", 7, None, [], ["a.example:1", ("a.example", 1)]])
def test_lists_that_cannot_be_used(values: Any) -> None:
    with pytest.raises(ConfigurationError, match="addresses"):
        parse_addresses(values)


def test_ip_addresses_need_no_dns() -> None:
    (found,) = numeric(Address.parse("[::1]:7443")) or []
    assert found[4][:2] == ("::1", 7443)
    assert numeric(Address.parse("a.example:7443")) is None


def test_when_a_host_is_looked_up() -> None:
    lookup = Lookup(Address.parse("a.example:7443"), 30.0)
    assert lookup.begin_if_due(1000.0)
    assert not lookup.begin_if_due(1029.0), "it is under way"
    assert lookup.begin_if_due(1030.0), "and lost by now"
    lookup.end(1031.0)
    assert not lookup.begin_if_due(1060.9)
    assert lookup.begin_if_due(1061.0)
    lookup.end(1061.0)
    lookup.hurry()
    assert not lookup.begin_if_due(1061.9), "however many fail, once in a second"
    assert lookup.begin_if_due(1062.0)


def test_no_more_addresses_than_a_choice_can_look_at() -> None:
    found = [(2, 1, 6, "", (f"192.0.2.{number % 200}", number)) for number in range(5000)]
    assert list(distinct(found + found)) == [each[4] for each in found[:256]]
    assert list(distinct(found[:3] * 2)) == [each[4] for each in found[:3]]

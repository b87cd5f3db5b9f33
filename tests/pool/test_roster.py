"""The servers that a pool knows."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sealwire.pool.addresses import parse_addresses
from sealwire.pool.roster import Roster


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_servers_are_in_the_order_of_the_addresses(order: tuple[int, int]) -> None:
    """Not in that in which their names were found."""
    roster: Any = Roster(parse_addresses(["a.example:7443", "b.example:7443"]), 1, 30.0)
    for number in order:
        found = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{number}", 7443))
        roster.update(roster.lookups[number], [found], 0.0)
    assert [server.address.host for server in roster.servers] == ["a.example", "b.example"]

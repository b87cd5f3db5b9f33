"""The base of both pools: arguments, addresses and the state of their servers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from sealwire.client_base import BaseClient, check_seconds
from sealwire.errors import ConfigurationError
from sealwire.middleware.chain import Middleware
from sealwire.pool.addresses import Address, parse_addresses
from sealwire.pool.retry_budget import RetryBudget
from sealwire.pool.roster import Roster
from sealwire.pool.servers import ServerStatus
from sealwire.security import Security
from sealwire.session.terms import check_client

_MAX_SIZE: Final = 10_000
_K = TypeVar("_K")


class BasePool(BaseClient, Generic[_K]):
    """A client of several servers.

    Args:
        addresses: The servers.
        size: Connections to each server, at most.
        timeout: Seconds for connecting.
        wait: Seconds for one request.
        security: The pool's security configuration.
        retry_budget: Share of the requests that may be repeated.
        lookup_interval: Seconds between two look-ups of a host's name.
        room: Requests in flight on one connection, at most.
        middleware: Functions around each request.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        addresses: Iterable[str | tuple[str, int]],
        size: int,
        timeout: float,
        wait: float,
        security: Security,
        *,
        retry_budget: float,
        lookup_interval: float,
        room: int,
        middleware: Sequence[Middleware],
    ) -> None:
        super().__init__(timeout, wait, security, middleware)
        self._addresses = self._parse(addresses)
        if type(size) is not int or not 1 <= size <= _MAX_SIZE:
            raise ConfigurationError(f"size must be a whole number of connections from 1 to {_MAX_SIZE}")
        if isinstance(retry_budget, bool) or not isinstance(retry_budget, int | float) or not 0 <= retry_budget <= 1:
            raise ConfigurationError("retry_budget must be a number from 0 to 1, a share of the requests")
        self.size = size
        self._room = size * room
        self._lookup_interval = check_seconds("lookup_interval", lookup_interval)
        self._budget = RetryBudget(retry_budget)
        self._roster: Roster[_K] | None = None

    def _parse(self, addresses: Iterable[Any]) -> tuple[Address, ...]:
        """Read the addresses. Raises ConfigurationError."""
        found = parse_addresses(addresses)
        for unix in {address.path is not None for address in found}:
            check_client(self.security, unix=unix)
        return found

    def _new_roster(self) -> Roster[_K]:
        return Roster(self._addresses, self._room, self._lookup_interval)

    @property
    def _address(self) -> str:
        return ", ".join(map(str, self._addresses))

    @property
    def _is_open(self) -> bool:
        return any(each.connections for each in self.status())

    def status(self) -> list[ServerStatus]:
        """Return the state of each server that is known: of all addresses that DNS has for the hosts.

        A host that was not looked up yet, or could not be, has no entry.
        """
        roster: Any = self._roster
        return [] if roster is None else [server.status() for server in list(roster.servers)]

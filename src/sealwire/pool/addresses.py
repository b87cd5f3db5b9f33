"""The addresses of a pool: as the caller writes them, and as DNS resolves them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sealwire.errors import ConfigurationError, TransportError
from sealwire.listeners import address_text, check_port, path_text, socket_path
from sealwire.trust.identity import canonical_host

_UNIX: Final = "unix:"
_BRACKETS: Final = re.compile(r"\[([^\[\]]+)\]:([0-9]{1,5})")
_PLAIN: Final = re.compile(r"([^:\[\]]+):([0-9]{1,5})")
_FORMS: Final = "an address is 'host:port', '[IPv6 address]:port', (host, port) or 'unix:/path'"
_MOST: Final = 256
"""Addresses of one host, at most: each choice of a server looks at all of them, whatever DNS has."""
_AGAIN: Final = 1.0
"""Seconds between two look-ups of one host, at least."""
_LOST: Final = 30.0
"""Seconds after which a look-up is begun again. A signal handler may have interrupted that, so that no thread runs."""


@dataclass(frozen=True)
class Address:
    """An address as configured: a host and a port, or the path of a Unix socket.

    Attributes:
        host: Name or IP address of the host; it is verified against the certificate. Empty for a Unix socket.
        port: Its TCP port; 0 for a Unix socket.
        path: Path of a Unix socket; None on TCP.
    """

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        return address_text((self.host, self.port)) if self.path is None else path_text(self.path)

    @classmethod
    def parse(cls, value: object) -> Address:
        """Read an address. Raises ConfigurationError."""
        if isinstance(value, str) and value.startswith(_UNIX):
            return cls("", 0, socket_path(value.removeprefix(_UNIX)))
        if isinstance(value, str):
            found = _BRACKETS.fullmatch(value) or _PLAIN.fullmatch(value)
            if found is None:
                raise ConfigurationError(f"{value[:300]!a} is not the address of a server: {_FORMS}")
            host: object = found[1]
            port: object = int(found[2])
        elif isinstance(value, tuple | list) and len(value) == 2:
            host, port = value
        else:
            raise ConfigurationError(f"a value of type {type(value).__name__} is not the address of a server: {_FORMS}")
        check_port(port)
        if not isinstance(host, str):
            raise ConfigurationError(f"the host of a server must be a str; {_FORMS}")
        canonical_host(host)
        assert isinstance(port, int)  # it was checked
        return cls(host, port)


def parse_addresses(values: object) -> tuple[Address, ...]:
    """Read the addresses of a pool.

    Raises:
        ConfigurationError: One of them cannot be used or is there twice, or there is none.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigurationError("addresses must be a list of addresses, like ['a.example:7443', 'b.example:7443']")
    found = [Address.parse(value) for value in values]
    if not found:
        raise ConfigurationError("addresses is empty; name at least one server")
    for position, address in enumerate(found):
        if address in found[:position]:
            raise ConfigurationError(f"addresses has {address} twice")
    return tuple(found)


class Lookup:
    """The look-ups of one host: when the next one is due, and the error of the last one.

    Args:
        address: The address with that host.
        interval: Seconds between two look-ups.

    Attributes:
        address: As given.
        running: True while a look-up is under way.
        failure: The error of the last look-up; None if it found addresses.
        failed_at: The time of that error.
    """

    def __init__(self, address: Address, interval: float) -> None:
        self.address = address
        self._interval = interval
        self._due = 0.0
        self._last = -_AGAIN
        self._begun = 0.0
        self.running = False
        self.failure: TransportError | None = None
        self.failed_at = 0.0

    def begin_if_due(self, now: float) -> bool:
        """Return True if the caller must look the host up now, and call :meth:`end` then."""
        if now < (self._begun + _LOST if self.running else self._due):
            return False
        self.running, self._begun = True, now
        return True

    def end(self, now: float, failure: TransportError | None = None) -> None:
        """Note the end of a look-up, and its error."""
        self.running = False
        self.failure, self.failed_at = failure, now
        self._last = now
        self._due = now + (self._interval if failure is None else _AGAIN)

    def hurry(self) -> None:
        """Look the host up again soon, because one of its addresses has failed."""
        self._due = min(self._due, self._last + _AGAIN)


def numeric(address: Address) -> list[Any] | None:
    """Return getaddrinfo's result for an IP address; None for a name, which only DNS can resolve."""
    try:
        return socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError):
        return None


def distinct(found: Sequence[Any]) -> dict[Any, Any]:
    """Return the results of getaddrinfo by their socket addresses, in order, each once; the first 256 of them."""
    return {each[4]: each for each in found[:_MOST]}

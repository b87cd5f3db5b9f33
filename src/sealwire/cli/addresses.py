"""The addresses of servers on the command line: one grammar for all commands."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import click

from sealwire.errors import ConfigurationError
from sealwire.listeners import address_text
from sealwire.trust.identity import canonical_host
from sealwire.wire.frames import escaped

_SUBJECT: Final = re.compile(r"((?:nats|tls)://[^/]+)/([^/]+)")
_USER: Final = re.compile(r"^((?:\w+://)?).*@", re.DOTALL)
_UNIX: Final = "unix:"
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)


class Address(NamedTuple):
    """Host and port of a server on TCP."""

    host: str
    port: int

    def __str__(self) -> str:
        return address_text(self)


class DatagramAddress(NamedTuple):
    """Host and port of a server on UDP."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"udp://{address_text(self)}"


class UnixAddress(NamedTuple):
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


class Subject(NamedTuple):
    """The URL of NATS servers, and a subject."""

    url: str
    subject: str

    def __str__(self) -> str:
        return _without_password(f"{self.url}/{self.subject}")


class Several(NamedTuple):
    """The addresses of a pool."""

    addresses: tuple[Address | UnixAddress, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


ServerAddress = Address | DatagramAddress | UnixAddress | Subject | Several
FORMS: Final[dict[type, str]] = {
    Address: "HOST:PORT like server.example:7443 or [::1]:7443",
    UnixAddress: "unix:PATH",
    DatagramAddress: "udp://HOST:PORT",
    Subject: "nats://HOST:PORT/SUBJECT or tls://HOST:PORT/SUBJECT",
    Several: "several HOST:PORT or unix:PATH with commas between them",
}
"""How each form of address is written."""


def _without_password(text: str) -> str:
    """Return an address without the user and password in a URL."""
    return _USER.sub(r"\1", text)


def parse_address(text: str) -> ServerAddress:
    """Parse an address on the command line. Raises ValueError, which says what is wrong with it."""
    scheme, separator, rest = text.partition("://")
    if separator and "," not in scheme:
        if scheme == "udp":
            return DatagramAddress(*_server(rest.removesuffix("/")))
        if scheme not in ("nats", "tls"):
            raise ValueError(f"there is no scheme {scheme[:20]}://")
        match = _SUBJECT.fullmatch(text)
        if match is None:
            raise ValueError("a URL of NATS ends with one subject")
        return Subject(match[1], match[2])
    if "," in text:
        found = Several(tuple(_in_pool(part) for part in text.split(",")))
        if len(set(found.addresses)) < len(found.addresses):
            raise ValueError("an address is there twice")
        return found
    if text.startswith(_UNIX):
        return UnixAddress(unix_path(text))
    if "/" in text and ":" not in text:
        raise ValueError(f"the path of a Unix socket is written unix:{text}")
    return Address(*_server(text))


def _server(text: str) -> tuple[str, int]:
    host, port = host_and_port(text)
    try:
        canonical_host(host)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return host, port


def _in_pool(text: str) -> Address | UnixAddress:
    if not text:
        raise ValueError("there is no address between two commas, or at an end")
    found = parse_address(text)
    if isinstance(found, Address | UnixAddress):
        return found
    raise ValueError(f"{_without_password(text)} cannot be one of several")


def unix_path(text: str) -> str:
    """Return the path in ``unix:PATH``. Raises ValueError."""
    path = text.removeprefix(_UNIX)
    if not path or "\0" in path:
        raise ValueError("there is no path after unix:")
    return path


def host_and_port(text: str, *, lowest: int = 1) -> tuple[str, int]:
    """Return host and port of an address, with or without the brackets of IPv6. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise ValueError("it has no host" if text.isdigit() else "it has no port")
    if any(character in host for character in "@/ "):
        raise ValueError("its host has a character that no host has")
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets, as in [{host}]:{port}")
    if not host:
        raise ValueError("it has no host")
    if "[" in host or "]" in host:
        raise ValueError("its host has a character that no host has")
    if _PORT.fullmatch(port) is None or not lowest <= int(port) < 65536:
        raise ValueError(f"the port must be a number from {lowest} to 65535")
    return host, int(port)


class AddressType(click.ParamType[Any]):
    """The address of a server, in the forms that the command can use."""

    name = "ADDRESS"

    def __init__(self, kinds: Collection[type], why: str = "this command does not know that form") -> None:
        self._kinds = tuple(kinds)
        self._why = why

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the address, and refuse the forms that this command does not know."""
        reason = self._why
        try:
            found = parse_address(value)
        except ValueError as error:
            reason = str(error)
        else:
            if isinstance(found, self._kinds):
                return found
        forms = [FORMS[kind] for kind in self._kinds]
        expected = f"{', '.join(forms[:-1])}, or {forms[-1]}" if forms[1:] else forms[0]
        return self.fail(escaped(f"{_without_password(value)[:200]!r}: {reason}; expected {expected}"), param, ctx)

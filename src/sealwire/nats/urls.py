"""URLs of NATS servers, subjects, and options of the connection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from sealwire.errors import ConfigurationError
from sealwire.listeners import address_text

_SUBJECT: Final = re.compile(r"[!-)+,/-=?-~-]+(\.[!-)+,/-=?-~-]+)*")
"""Tokens of printable ASCII without ``*``, ``.`` and ``>``."""
_LONGEST: Final = 255
_OURS: Final = frozenset(
    (
        *("servers", "allow_reconnect", "max_reconnect_attempts", "reconnect_time_wait", "verbose", "pedantic"),
        *("error_cb", "disconnected_cb", "closed_cb", "reconnected_cb", "discovered_server_cb", "no_echo"),
    )
)
"""The arguments of nats-py's connect that this package decides."""


def parse_urls(value: object) -> tuple[str, ...]:
    """Return the URLs of the NATS servers. Raises ConfigurationError, with nothing of a URL that may be a password."""
    urls = _split(value) if isinstance(value, str) else value
    if not isinstance(urls, list | tuple) or not urls:
        raise ConfigurationError("url must be the URL of a NATS server, like 'nats://nats.example:4222', or a list")
    for url in urls:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("nats", "tls") and parts.hostname and not (parts.path.strip("/") or parts.query)
            assert parts.port != 0  # like all other errors in a URL
        except (ValueError, AttributeError, TypeError, AssertionError):
            good = False
        if not good:
            raise ConfigurationError("a URL of a NATS server is 'nats://HOST:PORT' or 'tls://HOST:PORT'")
    return tuple(urls)


def _split(url: str) -> list[str]:
    """Return the URLs of several hosts with commas between them."""
    scheme, mark, hosts = url.partition("://")
    return [host if "://" in host else f"{scheme}{mark}{host}" for host in hosts.split(",")] if mark else [url]


def address_of(urls: Sequence[str], subject: str) -> str:
    """Return the URL of a subject for messages, without user and password."""
    hosts = [address_text((parts.hostname, parts.port or 4222)) for parts in map(urlsplit, urls)]
    schemes = {urlsplit(url).scheme for url in urls}
    return f"{schemes.pop() if len(schemes) == 1 else 'nats'}://{','.join(hosts)}/{subject}"


def check_subject(name: str, value: object) -> None:
    """Raise ConfigurationError if this is not a subject without wildcards."""
    if not isinstance(value, str) or len(value) > _LONGEST or _SUBJECT.fullmatch(value) is None:
        raise ConfigurationError(
            f"{name} must be names joined by dots, like 'orders' or 'shop.orders', without wildcards and spaces, and "
            f"of {_LONGEST} characters at most"
        )


def check_options(options: object) -> Mapping[str, Any]:
    """Return the options for nats-py. Raises ConfigurationError if one of them is this package's to decide."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ConfigurationError("options must be a dict of arguments of nats.connect, like {'user': 'worker'}")
    if taken := sorted(_OURS & options.keys()):
        raise ConfigurationError(f"options has {', '.join(taken)}, which Sealwire sets itself; leave it out")
    return dict(options)

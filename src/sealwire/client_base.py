"""Base classes of all clients: arguments, their checks and ``repr``, for every transport, synchronous or not."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

from sealwire.errors import ConfigurationError, DecodeError
from sealwire.listeners import address_text, check_port, path_text, socket_path
from sealwire.middleware.calling import CallContext, check_clients
from sealwire.middleware.chain import Middleware, chained, chained_on_loop
from sealwire.security import Security
from sealwire.session.terms import check_client, check_security
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.wire.frames import VerifiedPayload


class Connection(Protocol):
    """The methods of a connection that a client uses on every transport."""

    def usable(self) -> bool:
        """Return True if the connection can take a request, as far as this end knows."""

    @property
    def peer(self) -> PeerIdentity | None:
        """The server's verified identity."""


class BaseClient(ABC):
    """A client with a Security and default time limits.

    Args:
        timeout: Seconds for connecting.
        wait: Seconds for one request.
        security: The client's security configuration.
        middleware: Functions around each request.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    _runs_coroutines: ClassVar[bool] = False

    def __init__(self, timeout: float, wait: float, security: Security, middleware: Sequence[Middleware] = ()) -> None:
        check_security(security, "client")
        self._middleware = check_clients(middleware, coroutines=self._runs_coroutines)
        self.timeout = check_seconds("timeout", timeout)
        self.wait = check_seconds("wait", wait)
        self.security = security

    keepalive: float | None

    def _set_keepalive(self, seconds: float | None) -> None:
        """Set the seconds after which a client on a stream sends a PING. Raises ConfigurationError."""
        self.keepalive = None if seconds is None else check_seconds("keepalive", seconds)

    @property
    @abstractmethod
    def _address(self) -> str:
        """The server's address, for messages."""

    @property
    @abstractmethod
    def _is_open(self) -> bool:
        """True if the client has a connection."""

    @abstractmethod
    def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        """Send a request and return the reply, within all middleware; on asyncio a coroutine function."""

    def _call(
        self,
        data: Any,
        wait: float | None,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        """Pass a request through the middleware to ``_send``; return the reply, or on asyncio an awaitable for it."""
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        if not self._middleware:
            return self._send(data, seconds, idempotent, metadata, reply_metadata)
        context = CallContext(self._address, seconds, idempotent, metadata, reply_metadata)
        chain = chained_on_loop if self._runs_coroutines else chained
        return chain(self._middleware, partial(context.send, self._send))(context, data)

    def _decode(self, reply: VerifiedPayload, address: str | None = None) -> Any:
        """Return the value of a reply. Raises DecodeError, which names the server."""
        try:
            return self.security.decode(reply)
        except DecodeError as error:
            error.args = (f"{error.args[0]} (in a reply of {address or self._address})",)
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}, {'open' if self._is_open else 'not connected'}>"


class HostClient(BaseClient):
    """A client of a server at a host and a port."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float = 10.0,
        wait: float = 10.0,
        *,
        security: Security,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(timeout, wait, security, middleware)
        check_port(port)
        canonical_host(host)
        check_client(security)
        self.host = host
        self.port = port

    @property
    def _address(self) -> str:
        return address_text((self.host, self.port))


class TCPHostClient(HostClient):
    """A client of a server at a host and a port, on TCP."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float = 10.0,
        wait: float = 10.0,
        *,
        security: Security,
        keepalive: float | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(host, port, timeout, wait, security=security, middleware=middleware)
        self._set_keepalive(keepalive)


class PathClient(BaseClient):
    """A client of a server on this machine that listens on a Unix socket."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        timeout: float = 10.0,
        wait: float = 10.0,
        *,
        security: Security,
        keepalive: float | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(timeout, wait, security, middleware)
        check_client(security, unix=True)
        self.path = socket_path(path)
        self._set_keepalive(keepalive)

    @property
    def _address(self) -> str:
        return path_text(self.path)


def check_seconds(name: str, value: float) -> float:
    """Return a time limit in seconds. Raises ConfigurationError if it is not above 0 and at most one day."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise ConfigurationError(f"{name} must be a number of seconds above 0 and at most 86400")
    return float(value)

"""What all clients have, whatever carries their requests and however they wait."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from random import SystemRandom
from time import monotonic
from typing import Final

from sealwire.channel.connecting import where_text
from sealwire.errors import ConfigurationError, ConnectionClosed, HandshakeRejected
from sealwire.security import Security
from sealwire.tls.identity import canonical_host
from sealwire.wire.frames import CloseCode, RejectCode

_BACK_OFF: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_RESEND_AFTER: Final = (CloseCode.DONE, CloseCode.IDLE, CloseCode.GOING_AWAY)
RESENDABLE: Final = (None, *_RESEND_AFTER, CloseCode.CREDENTIAL)
"""Ends after which anything may be sent again: not after a protocol error, nor a code that is read as one."""
_random = SystemRandom()


class Client(ABC):
    """timeout, wait: seconds. security: a Security. Raises ConfigurationError."""

    def __init__(self, timeout: float, wait: float, security: Security) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError(
                "a client needs security=Security(…); see Security.from_files and Security.from_toml"
            )
        self.timeout = seconds_of("timeout", timeout)
        self.wait = seconds_of("wait", wait)
        self.security = security

    @property
    @abstractmethod
    def _where(self) -> str:
        """The server, for people."""

    @property
    @abstractmethod
    def _is_open(self) -> bool:
        """Whether there is a connection."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}, {'open' if self._is_open else 'not connected'}>"


class AtHost(Client):
    """Of a server at a host and a port."""

    def __init__(self, host: str, port: int, timeout: float = 10.0, wait: float = 10.0, *, security: Security) -> None:
        super().__init__(timeout, wait, security)
        if type(port) is not int or not 0 < port < 65536:
            raise ConfigurationError("port must be a whole number from 1 to 65535")
        canonical_host(host)
        self.host = host
        self.port = port

    @property
    def _where(self) -> str:
        return where_text(self.host, self.port)


class AtPath(Client):
    """Of a server on this machine, which listens on a Unix socket."""

    def __init__(
        self, path: str | os.PathLike[str], timeout: float = 10.0, wait: float = 10.0, *, security: Security
    ) -> None:
        super().__init__(timeout, wait, security)
        security.check_local()
        self.path = os.fspath(path)

    @property
    def _where(self) -> str:
        return self.path


class Attempts:
    """Attempts to connect, until a deadline (of ``time.monotonic()``): REJECT 4 and 5 are no last word."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = _BACK_OFF
        self.refused: HandshakeRejected | None = None
        """What the last one came to, which says more than that there was no time for another one."""

    def after(self, rejected: HandshakeRejected) -> float:
        """Seconds to wait before the next one. Raises ``rejected`` where there is no next one."""
        left = self._deadline - monotonic()
        if rejected.code not in (RejectCode.OVERLOADED, RejectCode.SHUTTING_DOWN) or left < _BACK_OFF:
            raise rejected
        self.refused = rejected
        # Between half and all of the pause, so that clients refused together do not come back together.
        seconds = min(self._pause, left) * _random.uniform(0.5, 1.0)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)
        return seconds


def unknown(closed: Exception) -> ConnectionClosed:
    """What to say of requests of which nobody knows what became."""
    return ConnectionClosed(
        "the connection ended while the request was under way; the server may or may not have acted on it. Requests "
        "for which acting twice does no harm can be sent with idempotent=True",
        code=getattr(closed, "code", None),
        last=getattr(closed, "last", None),
    )


def was_unprocessed(closed: ConnectionClosed, sequence: float, *, renewed: bool) -> bool:
    """Whether the peer's CLOSE says that no handler has seen the request of that number (docs/protocol.md, section 5).
    renewed: whether a new connection would be made with another certificate or key."""
    known = closed.code in _RESEND_AFTER or (closed.code == CloseCode.CREDENTIAL and renewed)
    return known and closed.last is not None and closed.last < sequence


def seconds_of(name: str, value: float) -> float:
    """A number of seconds that can be waited for. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise ConfigurationError(f"{name} must be a number of seconds above 0 and at most 86400")
    return float(value)

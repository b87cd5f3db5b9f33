"""One call's way past servers that fail: when it goes on to another server, and when it ends.

A server that cannot be reached, or refuses the connection for whatever reason, is left out, and the call goes on to the
next. That holds for REJECT 3 and for certificates, too: servers are configured and rotated one after the other, and
what one of them refuses says nothing about the next, which has to prove itself all the same. When a call has tried all
servers and one of them is only overloaded or shutting down, it begins again, with the pauses of
:class:`~sealwire.retry.ConnectRetry`. Whether a request that was lost with its connection is sent again is decided by
:class:`~sealwire.retry.Resend`.
"""

from __future__ import annotations

import copy
from time import monotonic
from typing import Any, Final

from sealwire.errors import (
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    NoServerAvailable,
    RemoteProtocolError,
    SealwireError,
    TransportError,
)
from sealwire.pool.retry_budget import RetryBudget
from sealwire.pool.roster import Roster
from sealwire.pool.servers import Server
from sealwire.retry import ConnectRetry, Resend, is_transient, outcome_unknown
from sealwire.security import Security
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.wire.frames import CloseCode, RejectCode

_SHARES: Final = 3
"""A server gets this part of the remaining time for connecting, at least, however many are left."""
_LEAVING: Final = (None, CloseCode.GOING_AWAY)
"""The ends of a connection, by CLOSE or without one, that say something about the server and not only about itself."""


class Trip:
    """A call's way past the servers of a pool.

    Args:
        roster: The servers.
        security: The pool's Security.
        budget: The pool's budget for repetitions.
        time: The call's time.
        idempotent: True if a server may act on the request twice.

    Attributes:
        time: As given.
        server: The server that was tried last; None before the first.
    """

    def __init__(
        self, roster: Roster[Any], security: Security, budget: RetryBudget, time: CallTime, *, idempotent: bool
    ) -> None:
        self._roster = roster
        self._security = security
        self._budget = budget
        self._idempotent = idempotent
        self._since = monotonic()
        self._tried: set[Server[Any]] = set()
        self._resend: Resend | None = None
        self._retry: ConnectRetry | None = None
        self._connect_by = time.begin_connecting(self._since)
        self._is_lost = self._is_charged = False
        """True if the present connection was lost, and if the budget has paid for repeating what was on it."""
        self.time = time
        self.server: Server[Any] | None = None
        budget.earn(self._since)

    def has_tried(self, server: Server[Any]) -> bool:
        """Return True if the call has no business at a server: it failed there, or another one did meanwhile."""
        return server in self._tried or (server.out_until is not None and server.failed_at > self._since)

    @property
    def until(self) -> float:
        """The time until which the call waits for a place at a server.

        Waiting behind other requests takes the time for the request. Waiting until names are looked up, or until others
        have found out if any server is there, takes that for connecting.
        """
        connecting = self._retry is not None
        if not connecting and (self.time.connected or any(server.serves for server in self._roster.servers)):
            return self.time.deadline
        return max(self._connect_by, self.time.deadline)

    # Connecting

    def begin_connecting(self, now: float) -> float:
        """Return the time by which a connection to the server that was chosen must be complete.

        All servers share the call's time for connecting, so that one without an answer does not use it up.
        """
        if self._retry is None:
            self._connect_by = self.time.begin_connecting(now)
            self._retry = ConnectRetry(self._security, self._connect_by)
        shares = min(max(1, len(self._roster.left(self))), _SHARES)
        return now + max(0.001, (self._connect_by - now) / shares)

    def wants_look(self, error: SealwireError) -> bool:
        """Return True if the caller must check its files (``Security.look``) before :meth:`not_connected`."""
        return self._retry is not None and self._retry.wants_look(error)

    def not_connected(self, server: Server[Any], error: SealwireError, now: float) -> float:
        """Judge a failed attempt to connect.

        Returns:
            The seconds to pause before a server is chosen again.

        Raises:
            SealwireError: The call has failed: the error of the only server, or NoServerAvailable.
        """
        if not is_transient(error) and self._pause(error) is not None:
            return 0.0  # the files have changed, so any server may accept the call now
        self._tried.add(server)
        self._roster.failed(server, error, now)
        pause = 0.0 if self._roster.left(self) else self._pause_after_all()
        if pause is None or now >= self._connect_by or not (_is_free(error) or self._budget.spend(now)):
            raise self.failure() from error
        if pause:
            self._tried.clear()
            self._since = now
        return pause

    def connected(self, now: float) -> None:
        """Note that the call has a connection."""
        self._is_lost = self._is_charged = False
        if self._retry is None:
            self.time.connected = True
        else:
            self.time.end_connecting(now)
            self._retry = None

    def failure(self) -> SealwireError:
        """Return the error of a call that has no server left: of the only one, or with the failures of all."""
        failures = {str(server): server.failure for server in self._roster.servers if server.failure is not None}
        for lookup in self._roster.lookups:
            if lookup.failure is not None and not any(each.address == lookup.address for each in self._roster.servers):
                failures[str(lookup.address)] = lookup.failure
        if len(failures) == 1 and len(self._roster.servers) <= 1:
            return copy.copy(next(iter(failures.values())))
        listed = "; ".join(f"{address}: {error}" for address, error in failures.items())
        return NoServerAvailable(f"none of the {len(failures)} servers can be reached ({listed})", failures=failures)

    def _pause_after_all(self) -> float | None:
        """Return the pause before all servers are tried again; None if they are not."""
        failures = [server.failure for server in self._roster.servers if server.failure is not None]
        transient = next((error for error in failures if is_transient(error)), None)
        return None if transient is None else self._pause(transient)

    def _pause(self, error: SealwireError) -> float | None:
        """Return the pause of the retry policy after an error; None if it has none."""
        if self._retry is None or not isinstance(error, HandshakeFailed | HandshakeRejected):
            return None
        try:
            return self._retry.delay(error)
        except TransportError:
            return None

    # The request

    def wants_look_after(self, lost: ConnectionLost) -> bool:
        """Return True if the caller must check its files before :meth:`lost`."""
        return self._resend_rule().wants_look(lost)

    def judge(self, server: Server[Any], error: SealwireError | None, now: float) -> None:
        """Judge the outcome of a request at a server. Returns if it is done, or is to be sent again.

        Args:
            server: The server.
            error: The request's error; None after a reply.
            now: The present time.

        Raises:
            SealwireError: The error; ConnectionClosed if the request is not sent again after it was lost, and
                DeadlineExceeded if it is too late for that.
        """
        if isinstance(error, ConnectionLost):
            self.lost(server, error, self._resend_rule(), now)
        elif isinstance(error, DeadlineExceeded):
            error.sent = error.sent or self.time.sent
            if server.was_late():
                self._roster.failed(server, error, now)
            raise error
        elif isinstance(error, RemoteProtocolError):
            self._roster.failed(server, error, now)
            raise error
        else:
            server.answered()
            if error is not None:
                raise error

    def lost(self, server: Server[Any] | None, lost: ConnectionLost, resend: Resend, now: float) -> float:
        """Judge the loss of a request with its connection; return the seconds that remain to send it again.

        Raises ConnectionClosed, DeadlineExceeded if it is not sent again.
        """
        if server is not None and lost.code in _LEAVING and not self._is_lost:
            self._roster.failed(server, lost, now)
        self._is_lost = True
        seconds = resend.after(lost)
        if not lost.unprocessed and not self._is_charged and not self._budget.spend(now):
            raise outcome_unknown(lost) from None
        self._is_charged = self._is_charged or not lost.unprocessed
        self.time.sent = not lost.unprocessed
        self._since = now
        self._tried.clear()
        return seconds

    def _resend_rule(self) -> Resend:
        if self._resend is None:
            times = max(1, len(self._roster.servers))
            self._resend = Resend(self.time.deadline, idempotent=self._idempotent, times=times)
        return self._resend

    def out_of_time(self) -> DeadlineExceeded:
        """Return the error of a call that ran out of time before it had a place at a server."""
        if any(server.serves for server in self._roster.servers):
            return DeadlineExceeded(
                "all connections of the pool were in use all the time, and this request was not sent; raise the "
                "pool's size, or send fewer requests at a time"
            )
        return DeadlineExceeded(f"no server could be tried in time ({self.failure()})")


def _is_free(error: SealwireError) -> bool:
    """Return True if going on to another server costs the service nothing: this one is not there, or says so."""
    if isinstance(error, HandshakeRejected):
        return error.code == RejectCode.SHUTTING_DOWN
    return isinstance(error, TransportError) and not isinstance(error, HandshakeFailed)

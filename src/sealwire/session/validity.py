"""Decides when a live connection must end.

Its certificate expired or was revoked, its key was removed, its peer is not on the list any more, what its messages
depend on has another configuration, or it is too old.

A connection is checked every Limits.reload_interval while it is open, even if it is silent, by the thread or task that
serves or uses it. No thread watches all connections, and a forked child checks its own. The check compares snapshots
and clocks; reloading files is left to the pumps.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Final, NamedTuple

from sealwire.errors import ConfigurationError
from sealwire.security import Security
from sealwire.session import terms
from sealwire.trust.certificates import Certificates
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.key_snapshot import KeySnapshot, may_use
from sealwire.trust.known_peers import known_peers
from sealwire.wire.frames import CloseCode

EXPIRY_MARGIN: Final = timedelta(seconds=30)
"""The time before expiry at which a client makes a new connection, to allow for clocks that differ."""
AGE_JITTER: Final = 0.1
"""Random fraction taken off max_connection_age, so that connections made together do not end together."""
_LEAVING: Final = 0.5
"""Part of reload_interval within which clients leave connections that they would make with other credentials now."""
_random = SystemRandom()


class Termination(NamedTuple):
    """The reason for the end of a connection.

    Attributes:
        reason: Text for the log.
        code: Code of CLOSE.
        immediate: True if the replies of requests in progress are dropped.
    """

    reason: str
    code: int = CloseCode.CREDENTIAL
    immediate: bool = False


class Validity:
    """The certificates and the key of one connection, checked against those in use.

    Args:
        security: This end's Security.
        certificates: This end's certificates that TLS used.
        peer: The other end's identity; None without a certificate.
        leaf: The other end's certificate, DER; None without one.
        above: The certificates between it and the root, DER.
        client: The client's identity, at either end.
        now: The time of the caller's monotonic clock.

    Attributes:
        next_check: The time at which :meth:`check` is due.
    """

    def __init__(
        self,
        security: Security,
        certificates: Certificates,
        *,
        peer: PeerIdentity | None,
        leaf: bytes | None,
        above: tuple[bytes, ...] = (),
        client: PeerIdentity | None,
        now: float,
    ) -> None:
        self._security = security
        self._certificates = certificates
        self._peer = peer
        self._client = client
        self._leaf = leaf
        self._chain = above if leaf is None else (leaf, *above)
        self._checked_against = certificates
        self._interval = security.limits.reload_interval
        self._age_end = now + security.limits.max_connection_age * _random.uniform(1 - AGE_JITTER, 1)
        self._made_at = datetime.now(UTC)
        self._keys = security.keys.current
        self._leave_at = math.inf
        self.next_check = now + self._interval
        self.set_key("")

    @property
    def keys(self) -> KeySnapshot:
        """The keys for the handshake: those in use when the connection began, or since :meth:`renew_keys`."""
        return self._keys

    def renew_keys(self) -> None:
        """Take the keys in use now for the handshake."""
        self._keys = self._security.keys.current

    def set_key(self, key_id: str) -> None:
        """Set the key that the handshake agreed on, one of :attr:`keys`."""
        self._key = self._keys.get(key_id)
        self._key_id = key_id

    def remember_peer(self) -> None:
        """Remember what the other end's certificate says: it has proved its key."""
        if self._peer is not None and self._leaf is not None:
            known_peers.remember(self._leaf, self._peer)

    def check(self, now: float) -> Termination | None:
        """Return the reason if the connection must end, or None."""
        self._interval = self._security.latest.limits.reload_interval
        self.next_check = now + self._interval
        if not self._is_allowed():
            return Termination("the peer is not on the list of peers any more", immediate=True)
        certificate, key = self._certificate_termination(), self._key_termination()
        termination = key if certificate is None or (key is not None and key.immediate) else certificate
        if termination is not None:
            return termination
        if self._security.ends():
            return Termination("the configuration has another service, codec or allowlist now", CloseCode.DONE)
        if now >= self._age_end:
            return Termination("it has reached max_connection_age", CloseCode.DONE)
        return None

    def expires_soon(self) -> bool:
        """Return True if a client should make a new connection because a certificate or the key expires soon.

        Returns False if the connection was already made that late and nothing newer is available, since a new one
        would be no better.
        """
        moments = [each.not_after for each in (self._client, self._peer) if each is not None]
        if self._key is not None and self._key.not_after is not None:
            moments.append(self._key.not_after)
        soon = min(moments) - EXPIRY_MARGIN
        return datetime.now(UTC) >= soon and (self._made_at < soon or self.has_newer_credentials())

    def is_replaced(self, due: float, now: float) -> bool:
        """Return True if a client should leave the connection, because it would make a new one with other credentials.

        What has been replaced will be taken out of service soon, and the server will then end the connection with
        requests in progress. Clients leave at random moments, so that they do not make new connections all together.

        Args:
            due: The time at which this check was due.
            now: The current time.
        """
        if not self.has_newer_credentials():
            self._leave_at = math.inf
        elif self._leave_at == math.inf:
            # A connection that was idle meanwhile is left at once.
            self._leave_at = due + self._interval * _LEAVING * _random.random()
            self.next_check = min(self.next_check, self._leave_at)
        return now >= self._leave_at

    def has_newer_credentials(self) -> bool:
        """Return True if a new connection of this client would use another certificate or key."""
        latest = self._security.latest.pinned()
        certificates = latest.credentials.current
        unix = self._client is not None and self._client.uid is not None
        if not unix and certificates.chain != self._certificates.chain:
            return True
        try:
            key = terms.signing_key(latest, self._client)
        except ConfigurationError:
            return False
        return self._key is None or (key.id, key.secret) != (self._key.id, self._key.secret)

    def _is_allowed(self) -> bool:
        peers = self._security.latest.peers
        return peers is None or peers.allows(self._peer)

    def _certificate_termination(self) -> Termination | None:
        """Check revocation and expiry of the peer's certificate."""
        if self._peer is None:
            return None
        current = self._security.latest.credentials.current
        if current is not self._checked_against:
            self._checked_against = current
            if current.revocations.include_any(self._chain):
                return Termination("the certificate of the peer, or of a CA above it, was revoked", immediate=True)
        expired = datetime.now(UTC) > self._peer.not_after
        return Termination("the peer's certificate has expired") if expired else None

    def _key_termination(self) -> Termination | None:
        """Check expiry, removal and the client of the key."""
        key = self._security.latest.keys.current.get(self._key_id)
        if self._key is not None and key is not None and key.secret == self._key.secret:
            self._key = key  # its not_after may have been set since
        end = None if self._key is None else self._key.not_after
        if end is not None and datetime.now(UTC) > end:
            # Before the test for removal: an expired key may be removed, too, but its requests may finish.
            return Termination(f"the key {self._key_id!r} has expired")
        if key is None or key is not self._key:
            return Termination(f"the key {self._key_id!r} was removed from the keyring", immediate=True)
        if not may_use(key, self._client):
            return Termination(f"the key {self._key_id!r} belongs to another client now", immediate=True)
        return None

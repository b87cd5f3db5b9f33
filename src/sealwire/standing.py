"""Whether what a connection was made by still holds: both certificates' lives, revocation, the key, the age.

A connection is looked at every Limits.reload_interval while it is open, also when nothing is said on it, by whoever
serves or uses it. So no thread watches over all of them, and it is the same in a forked child.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import SystemRandom
from time import monotonic
from typing import Final, NamedTuple

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.keyring import may_use
from sealwire.security import Security
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.frames import CloseCode

MARGIN: Final = timedelta(seconds=30)
"""How long before an end of validity a client takes a new connection: for clocks that differ."""
_JITTER: Final = 0.1
"""Part of max_connection_age by which it varies, so that connections made together do not end together."""
_random = SystemRandom()


class Lapse(NamedTuple):
    """Why a connection must end. code: of CLOSE. at_once: whether replies in hand are dropped."""

    reason: str
    code: int = CloseCode.CREDENTIAL
    at_once: bool = False


class Standing:
    """What one connection was made by.

    credentials: the own ones that it was made with. peer, leaf: who is at the other end (None: without a certificate).
    client: who the client is, this end or the other one. next_look: when :meth:`look` is due, a moment of
    ``time.monotonic()``.
    """

    def __init__(
        self,
        security: Security,
        credentials: CredentialSet,
        peer: PeerIdentity | None,
        leaf: bytes | None,
        *,
        client: PeerIdentity | None,
    ) -> None:
        self._security = security
        self._credentials = credentials
        self._peer = peer
        self._client = client
        self._issuer = b"" if leaf is None else x509.load_der_x509_certificate(leaf).issuer.public_bytes()
        self._judged_by = credentials
        self._interval = security.limits.reload_interval
        self._end = monotonic() + security.limits.max_connection_age * _random.uniform(1 - _JITTER, 1)
        self._made = datetime.now(UTC)
        self.next_look = monotonic() + self._interval
        self.agree("")

    def agree(self, key_id: str) -> None:
        """That key was agreed on."""
        self._key = self._security.keys.get(key_id)
        self._key_id = key_id

    def look(self) -> Lapse | None:
        """Why the connection must end, if it must; reads what files have changed."""
        now = monotonic()
        self.next_look = now + self._interval
        lapse = self._certificate_lapse() or self._key_lapse()
        if lapse is None and now >= self._end:
            return Lapse("it has reached its age (max_connection_age)", CloseCode.DONE)
        return lapse

    def stale(self) -> str | None:
        """For a client: why another connection should be made for the next request, while this one still holds."""
        moments = [each.not_after for each in (self._client, self._peer) if each is not None]
        if self._key is not None and self._key.not_after is not None:
            moments.append(self._key.not_after)
        soon = min(moments) - MARGIN
        if datetime.now(UTC) < soon or (self._made >= soon and not self.renewed()):
            return None
        return "a certificate or the key expires soon"

    def renewed(self) -> bool:
        """For a client: whether another certificate or key would be used now than this connection was made with."""
        credentials = self._security.present()
        local = self._client is not None and self._client.uid is not None
        if not local and credentials.chain != self._credentials.chain:
            return True
        try:
            key = self._security.signing_key(self._client if local else credentials.identity)
        except ConfigurationError:
            return False
        return self._key is None or (key.id, key.secret) != (self._key.id, self._key.secret)

    def _certificate_lapse(self) -> Lapse | None:
        current = self._security.present()
        if self._peer is None:
            return None
        if current is not self._judged_by:
            self._judged_by = current
            if self._peer.serial in current.revoked.get(self._issuer, ()):
                return Lapse("the peer's certificate was revoked", at_once=True)
        return Lapse("the peer's certificate has expired") if datetime.now(UTC) > self._peer.not_after else None

    def _key_lapse(self) -> Lapse | None:
        key = self._security.present_keys().get(self._key_id)
        if self._key is not None and key is not None and key.secret == self._key.secret:
            self._key = key  # whose end may have been set since
        end = None if self._key is None else self._key.not_after
        if end is not None and datetime.now(UTC) > end:
            return Lapse(f"the key {self._key_id!r} has expired")  # and may have been taken out for that
        if key is None or key is not self._key:
            return Lapse(f"the key {self._key_id!r} was taken out of the keyring", at_once=True)
        if not may_use(key, self._client):
            return Lapse(f"the key {self._key_id!r} is another client's now", at_once=True)
        return None

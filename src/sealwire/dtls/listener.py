"""Who has answered a cookie: until then nothing is kept of him (RFC 6347, section 4.2.1)."""

from __future__ import annotations

import secrets
from typing import Any, Final

from OpenSSL import SSL

from sealwire.dtls.contexts import facts_of, server_connection
from sealwire.dtls.records import datagrams
from sealwire.security import Security
from sealwire.tls.credential_set import CredentialSet
from sealwire.wire.keys import Mac

_READ: Final = 65_536


class Listener:
    """Asks addresses for cookies, all of them with one connection, which the first to answer takes with him.

    A cookie is the MAC of the address under a secret that only this object knows.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self._mac = Mac(secrets.token_bytes(32))
        self._spare: tuple[CredentialSet, SSL.Connection] | None = None

    def listen(self, datagram: bytes, address: Any) -> tuple[CredentialSet, SSL.Connection] | list[bytes]:
        """A ClientHello from there: a connection for him with the credentials in service, if he has answered a cookie.
        Otherwise what to send back."""
        credentials = self._security.present()
        if self._spare is None or self._spare[0] is not credentials:
            self._spare = credentials, server_connection(self._security, credentials)
        connection = self._spare[1]
        facts_of(connection).cookie = self._mac.tag(repr(address).encode())
        try:
            connection.bio_write(datagram)
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            return _answer(connection)
        except SSL.Error:
            self._spare = None
            return []
        taken, self._spare = self._spare, None
        return taken


def _answer(connection: SSL.Connection) -> list[bytes]:
    try:
        return list(datagrams(connection.bio_read(_READ)))
    except SSL.WantReadError:
        return []

"""The stateless cookie exchange of a server: an address has no state before it returns a cookie (RFC 6347, 4.2.1).

A cookie is the MAC, under a random secret of the server, of the address, of the ClientHello without the cookie, and of
the present period of PERIOD seconds. It is valid in that period and in the next one, for exactly the same ClientHello.
So a party that has seen one can begin no other association with it, and soon none at all.

Zeros make the cookie as long as an answer may be that does not exceed the ClientHello: the client must send them back,
and more may be sent to it in answer to more bytes (see :mod:`sealwire.dtls.flight`).
"""

from __future__ import annotations

import secrets
from hmac import compare_digest
from time import monotonic
from typing import Any, Final

from OpenSSL import SSL

from sealwire.dtls.contexts import callback_state, server_connection
from sealwire.dtls.records import client_offer, datagrams
from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.security import Security
from sealwire.trust.certificates import Certificates
from sealwire.wire.keys import Mac

PERIOD: Final = 30.0
"""Seconds after which cookies are made differently; one is valid for this long to twice as long."""
_READ: Final = 65_536
_MAC: Final = 32
_OVERHEAD: Final = 28
"""Bytes of HelloVerifyRequest beside the cookie."""
_LONGEST: Final = 255


class CookieExchange:
    """The stateless cookie exchange of one server.

    One SSL.Connection serves all addresses until one returns a valid cookie and takes it over.

    Args:
        security: The server's Security.

    Raises:
        ConfigurationError: DTLS cannot use the certificates. Of later ones the log says so, and those before stay in
            use.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self._mac = Mac(secrets.token_bytes(32))
        self._pinned = security.pinned()
        self._seen = self._certificates = self._pinned.credentials.current
        self._spare: SSL.Connection | None = server_connection(security, self._certificates)

    def listen(self, datagram: bytes, address: Any) -> tuple[Certificates, SSL.Connection] | list[bytes]:
        """Process a ClientHello.

        Args:
            datagram: The datagram with the ClientHello.
            address: Its sender.

        Returns:
            If the cookie is valid, the certificates in use and a connection to continue the handshake with. Otherwise
            the datagrams to send back.
        """
        offer = client_offer(datagram)
        if offer is None:
            return []
        pinned = self._security.pinned()
        if pinned is not self._pinned or pinned.credentials.current is not self._seen:
            self._take_certificates(pinned)
        connection = self._spare or server_connection(self._pinned, self._certificates)
        self._spare = connection
        period = int(monotonic() / PERIOD)
        valid = [self._mac.tag(f"{each} {address!r} ".encode() + offer) for each in (period, period - 1)]
        state = callback_state(connection)
        state.cookie = valid[0].ljust(min(len(datagram) - _OVERHEAD - 1, _LONGEST), b"\0")
        state.is_valid = lambda cookie: any(compare_digest(cookie[:_MAC], each) for each in valid)
        try:
            connection.bio_write(datagram)
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            return _answer(connection)
        except SSL.Error:
            self._spare = None
            return []
        self._spare = None
        return self._certificates, connection

    def _take_certificates(self, pinned: Security) -> None:
        self._pinned, certificates = pinned, pinned.credentials.current
        self._seen = certificates
        try:
            self._spare = server_connection(pinned, certificates)
            self._certificates = certificates
        except ConfigurationError as error:
            emit("reload.failed", f"UDP clients are still shown the certificate before: {error}", why=str(error))


def _answer(connection: SSL.Connection) -> list[bytes]:
    try:
        return list(datagrams(connection.bio_read(_READ)))
    except SSL.WantReadError:
        return []

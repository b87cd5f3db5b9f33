"""A server's handshake messages to an address that has proved nothing but a cookie."""

from __future__ import annotations

from typing import Final

from sealwire.dtls.records import HANDSHAKE, client_random

LARGEST: Final = 900
"""Bytes of a datagram of a Flight, within FACTOR times the ClientHello of any client that sends the cookie back."""
FACTOR: Final = 3
"""Bytes that may be sent for each byte received, as in QUIC (RFC 9000, section 8.1)."""


class Flight:
    """The datagrams of one handshake: no more bytes are sent than FACTOR times those received.

    Any party that has seen a cookie can write its address on a datagram, so an answer may go to a victim. Datagrams
    that are not allowed yet wait for more bytes from the client. They are sent again only when the client repeats its
    ClientHello, which every client does when it lacks one, and not when DTLS' own timer is due.
    """

    def __init__(self) -> None:
        self._datagrams: list[bytes] = []
        self._sent = 0
        self._allowance = 0

    def receive(self, datagram: bytes) -> None:
        """Count a datagram of the client; begin again if it asks for what was sent."""
        self._allowance += FACTOR * len(datagram)
        if self._sent == len(self._datagrams) and client_random(datagram) is not None:
            self._sent = 0

    def take(self, made: list[bytes]) -> list[bytes]:
        """Add what DTLS has made, and return the datagrams to send now."""
        if self._datagrams:
            # Handshake messages are repetitions: OpenSSL makes them with any input after its timer was due.
            made = [each for each in made if each[0] != HANDSHAKE]
        self._datagrams += made
        first = self._sent
        while self._sent < len(self._datagrams) and len(self._datagrams[self._sent]) <= self._allowance:
            self._allowance -= len(self._datagrams[self._sent])
            self._sent += 1
        return self._datagrams[first : self._sent]

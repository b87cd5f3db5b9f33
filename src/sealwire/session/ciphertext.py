"""Bounds the TLS records of a connection that carry no data.

A peer may send any number of KeyUpdates and empty records (RFC 8446, sections 4.6.3 and 5.1). Each costs the receiver
as much as a small message, and none of them counts as a frame for any other limit. An honest peer sends next to none.
"""

from __future__ import annotations

from typing import Final

_RECORD: Final = 5 + 16_384 + 256
"""The longest record (RFC 8446, section 5.2)."""
_MAX_SURPLUS: Final = 2 * _RECORD
"""Bytes without data after which a connection ends: a record that is not complete yet, and as much again."""
_EARLY_SURPLUS: Final = 8192
"""The same before the first frame, which has less than 1,100 bytes with its record."""
_PER_BYTE: Final = 32
"""Bytes of ciphertext that one byte of data may bring, with room for a record of its own of 23 bytes."""


class CiphertextBound:
    """Weighs the bytes of ciphertext that arrive against the data in them.

    Attributes:
        surplus: Bytes of ciphertext that brought no data. The caller adds all that arrive.
    """

    def __init__(self) -> None:
        self.surplus = 0
        self._limit = _EARLY_SURPLUS

    def opened(self) -> None:
        """Note that the first frame has arrived."""
        self._limit = _MAX_SURPLUS

    def data(self, count: int) -> None:
        """Note that ``count`` bytes of data have arrived."""
        self.surplus = max(0, self.surplus - _PER_BYTE * count)

    @property
    def exceeded(self) -> bool:
        """True if the connection must end. Ask when all ciphertext that arrived has been processed."""
        return self.surplus > self._limit

"""The article's framing: four bytes of length, then that many bytes (docs/protocol.md, section 2)."""

from __future__ import annotations

from sealwire.errors import PayloadTooLarge, TruncatedFrame

BYTE_COUNT = 4
"""Bytes of the length in front of each message: unsigned, big-endian."""

_MOST = (1 << 8 * BYTE_COUNT) - 1


def len_inbytes(msg: bytes | bytearray | memoryview) -> bytes:
    """The length of ``msg`` as ``BYTE_COUNT`` bytes. Raises PayloadTooLarge where it does not fit."""
    length = msg.nbytes if isinstance(msg, memoryview) else len(msg)
    if length > _MOST:
        raise PayloadTooLarge(
            f"a message of {length} bytes does not fit a length of {BYTE_COUNT} bytes; the most is {_MOST}"
        )
    return length.to_bytes(BYTE_COUNT, "big")


def len_frombytes(bmsg: bytes | bytearray | memoryview) -> int:
    """The length that ``BYTE_COUNT`` bytes stand for. Raises TruncatedFrame for another number of bytes.

    It is the peer's claim, up to 4 GiB: hold it against a cap before anything is read or allocated for it.
    """
    if len(bmsg) != BYTE_COUNT:
        raise TruncatedFrame(f"a length has {BYTE_COUNT} bytes, and {len(bmsg)} are here")
    return int.from_bytes(bmsg, "big")


def add_msg_header(msg: bytes | bytearray | memoryview) -> bytes:
    """``msg`` behind its length. Raises PayloadTooLarge."""
    return b"".join((len_inbytes(msg), msg))

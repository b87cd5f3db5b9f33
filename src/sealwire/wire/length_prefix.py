"""The article's framing: four bytes of length, then that many bytes (docs/protocol.md, section 2)."""

from __future__ import annotations

from sealwire.errors import PayloadTooLarge, TruncatedFrame

BYTE_COUNT = 4
"""The size of the length before each message, an unsigned big-endian number."""

_MAX_LENGTH = (1 << 8 * BYTE_COUNT) - 1


def len_inbytes(msg: bytes | bytearray | memoryview) -> bytes:
    """Return the length of ``msg`` as ``BYTE_COUNT`` bytes.

    Args:
        msg: The message, at most 4 GiB less one byte.

    Raises:
        PayloadTooLarge: The length does not fit.
    """
    length = msg.nbytes if isinstance(msg, memoryview) else len(msg)
    if length > _MAX_LENGTH:
        raise PayloadTooLarge(
            f"a message of {length} bytes does not fit a length of {BYTE_COUNT} bytes; the maximum is {_MAX_LENGTH}"
        )
    return length.to_bytes(BYTE_COUNT, "big")


def len_frombytes(bmsg: bytes | bytearray | memoryview) -> int:
    """Return the length that is encoded in ``BYTE_COUNT`` bytes.

    The peer can claim any length up to 4 GiB. Compare it with a limit before you read or allocate that much.

    Args:
        bmsg: The bytes, as from :func:`len_inbytes`.

    Raises:
        TruncatedFrame: ``bmsg`` does not have ``BYTE_COUNT`` bytes.
    """
    if len(bmsg) != BYTE_COUNT:
        raise TruncatedFrame(f"a length has {BYTE_COUNT} bytes, not {len(bmsg)}")
    return int.from_bytes(bmsg, "big")


def add_msg_header(msg: bytes | bytearray | memoryview) -> bytes:
    """Return ``msg`` after its length.

    Args:
        msg: The message, at most 4 GiB less one byte.

    Raises:
        PayloadTooLarge: The length does not fit.
    """
    return b"".join((len_inbytes(msg), msg))

"""Pickles by hand."""

from __future__ import annotations

from sealwire.pickling import opcodes as op


def text(value: str) -> bytes:
    """A str, without MEMOIZE."""
    data = value.encode("utf-8", "surrogatepass")
    if len(data) < 256:
        return bytes([op.SHORT_BINUNICODE, len(data)]) + data
    return bytes([op.BINUNICODE]) + len(data).to_bytes(4, "little") + data


def name(module: str, qualname: str) -> bytes:
    """Return the opcodes of a name, with STACK_GLOBAL."""
    return text(module) + text(qualname) + bytes([op.STACK_GLOBAL])


def integer(value: int) -> bytes:
    """An int, by LONG1 where it needs more than a byte."""
    if 0 <= value < 256:
        return bytes([op.BININT1, value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return bytes([op.LONG1, len(data)]) + data
    return bytes([op.LONG4]) + len(data).to_bytes(4, "little") + data


def blob(value: bytes) -> bytes:
    """Bytes."""
    return bytes([op.BINBYTES]) + len(value).to_bytes(4, "little") + value


def tuple_(*items: bytes) -> bytes:
    """A tuple by MARK and TUPLE, or EMPTY_TUPLE."""
    if not items:
        return bytes([op.EMPTY_TUPLE])
    return bytes([op.MARK]) + b"".join(items) + bytes([op.TUPLE])


def call(module: str, qualname: str, *arguments: bytes) -> bytes:
    """A name, called by REDUCE."""
    return name(module, qualname) + tuple_(*arguments) + bytes([op.REDUCE])


def instance(module: str, qualname: str, state: bytes | None = None) -> bytes:
    """NEWOBJ without arguments, and BUILD."""
    made = name(module, qualname) + bytes([op.EMPTY_TUPLE, op.NEWOBJ])
    return made if state is None else made + state + bytes([op.BUILD])


def dict_(*pairs: tuple[bytes, bytes]) -> bytes:
    """A dict in one batch."""
    items = b"".join(key + value for key, value in pairs)
    return bytes([op.EMPTY_DICT, op.MARK]) + items + bytes([op.SETITEMS])


def list_(*items: bytes) -> bytes:
    """A list in one batch."""
    return bytes([op.EMPTY_LIST, op.MARK]) + b"".join(items) + bytes([op.APPENDS])


def message(*parts: bytes | int, protocol: int = 4) -> bytes:
    """A whole pickle, without a frame; ints are opcodes."""
    body = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    return bytes([op.PROTO, protocol]) + body + bytes([op.STOP])

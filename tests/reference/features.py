"""Section 9 of docs/protocol.md without any I/O: extensions, metadata and credit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reference import protocol as p
from reference.protocol import Extensions, Frame, demand

METADATA_TYPE, CANCEL_TYPE, PARTS_TYPE = 16, 17, 18
MAX_ENTRIES, MAX_METADATA, MAX_CREDIT, MAX_UPLOADS = 32, 4096, 2**32 - 1, 1024


@dataclass(frozen=True)
class Features:
    """The features that one side announces; without ``window`` there are no parts, and ``at_once`` is the server's."""

    metadata: bool = False
    cancel: bool = False
    window: int = 0
    at_once: int = 0

    def extensions(self) -> Extensions:
        """For HELLO or WELCOME."""
        made: list[tuple[int, bytes]] = []
        if self.metadata:
            made.append((METADATA_TYPE, b""))
        if self.cancel:
            made.append((CANCEL_TYPE, b""))
        if self.window:
            made.append((PARTS_TYPE, p.u(self.window, 4) + p.u(self.at_once, 2)))
        return tuple(made)

    def taken_up(self, offered: Features) -> Features:
        """Return the features that a server with these announces to a client with those."""
        parts = self.window and offered.window
        return Features(
            self.metadata and offered.metadata,
            self.cancel and offered.cancel,
            self.window if parts else 0,
            self.at_once if parts else 0,
        )


NONE = Features()


def parse_features(extensions: Extensions, *, from_client: bool) -> Features:
    """Those among the extensions of HELLO or WELCOME, each with a value as the table has it."""
    values = dict(extensions)
    for kind in (METADATA_TYPE, CANCEL_TYPE):
        demand(not values.get(kind), "9", f"extension {kind} with a value")
    window = at_once = 0
    if PARTS_TYPE in values:
        value = values[PARTS_TYPE]
        demand(len(value) == 6, "9", f"extension {PARTS_TYPE} of {len(value)} bytes")
        window, at_once = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
        demand(window, "9", "a window of 0")
        demand(bool(at_once) != from_client, "9", f"at_once is {at_once}")
    return Features(METADATA_TYPE in values, CANCEL_TYPE in values, window, at_once)


@dataclass(frozen=True)
class Terms:
    """The features that were agreed on, as one side sees them."""

    metadata: bool = False
    cancel: bool = False
    own_window: int = 0
    peer_window: int = 0
    at_once: int = 0

    @classmethod
    def between(cls, own: Features, peer: Features) -> Terms:
        """``own`` and ``peer``: what was announced; the server's is what it took up."""
        parts = own.window and peer.window
        windows = (own.window, peer.window, own.at_once or peer.at_once) if parts else (0, 0, 0)
        return cls(own.metadata and peer.metadata, own.cancel and peer.cancel, *windows)

    def kinds(self, *, of_client: bool) -> set[int]:
        """The kinds of frame that one side may send because of them."""
        kinds = {p.PART, p.CREDIT} if self.own_window else set()
        if of_client:
            kinds |= ({p.END} if self.own_window else set()) | ({p.CANCEL} if self.cancel else set())
        return kinds

    def flags(self, *, of_client: bool) -> int:
        """The flags that a MESSAGE of one side may have."""
        flags = p.METADATA if self.metadata else 0
        return flags | p.PARTS | p.UPLOAD if self.own_window and of_client else flags


PLAIN = Terms()


def entries(pairs: Iterable[tuple[bytes, bytes]], count: int | None = None) -> bytes:
    """Metadata of these entries as they are; nothing is checked, and ``count`` may be wrong."""
    packed = [p.s8(key) + p.u(len(value), 2) + value for key, value in pairs]
    return p.u(len(packed) if count is None else count, 1) + b"".join(packed)


def metadata(values: Mapping[str, str]) -> bytes:
    """Metadata as it ought to be."""
    return entries(sorted((key.encode(), value.encode()) for key, value in values.items()))


def split(got: Frame) -> tuple[dict[str, str] | None, bytes]:
    """The metadata of a MESSAGE, None without the flag, and the application's bytes. Raises Violation."""
    if not got.flags & p.METADATA:
        return None, got.payload
    data, at = got.payload, 1
    demand(data, "9", "METADATA without a count")
    demand(data[0] <= MAX_ENTRIES, "9", f"{data[0]} entries of metadata")
    found: list[tuple[bytes, bytes]] = []
    for _ in range(data[0]):
        key, at = _field(data, at, 1)
        value, at = _field(data, at, 2)
        demand(1 <= len(key) <= 64 and all(0x21 <= byte <= 0x7E for byte in key), "9", "a key out of range")
        demand(not found or found[-1][0] < key, "9", "keys of metadata do not ascend")
        found.append((key, value))
    demand(at <= MAX_METADATA, "9", f"{at} bytes of metadata")
    try:
        return {key.decode(): value.decode() for key, value in found}, data[at:]
    except UnicodeDecodeError:
        raise p.Violation("section 9: a value of metadata is not UTF-8") from None


def _field(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    demand(at + width <= len(data), "9", "metadata is cut short")
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    demand(end <= len(data), "9", "metadata is cut short")
    return data[start:end], end


class Account:
    """The credit of one side for the parts of one request."""

    def __init__(self, window: int) -> None:
        self.window = self.credit = window
        self.processed = 0

    def spend(self, got: Frame) -> None:
        """A PART of the peer."""
        demand(self.credit > 0, "9", "PART without credit")
        self.charge(got)

    def charge(self, sent: Frame) -> None:
        """A PART of our own, right or wrong."""
        self.credit -= len(sent.raw) - 4

    def add(self, got: Frame) -> None:
        """The peer's CREDIT. Beyond the limit, it can have processed no more than it was sent."""
        amount = int.from_bytes(got.payload, "big")
        self.credit += amount
        demand(self.credit <= MAX_CREDIT, "9", f"CREDIT lifts the credit to {self.credit}")
        demand(self.credit <= self.window, "9", f"CREDIT {amount} for more than was sent")
        demand(2 * amount >= self.window, "9", f"CREDIT {amount} is under half of the window {self.window}")

    def to_grant(self, got: Frame) -> int:
        """Having processed a PART: the CREDIT that is due, or 0."""
        self.processed += len(got.raw) - 4
        due, self.processed = (self.processed, 0) if 2 * self.processed >= self.window else (0, self.processed)
        return due

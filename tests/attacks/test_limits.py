"""Each limit: an attack that works without it, and costs next to nothing with it. Each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pickling.assembler import blob, integer, message, text
from sealwire import Limits
from sealwire.pickling import opcodes as op

MIB = 1 << 20
Expense = Callable[[bytes, Any], dict[str, Any] | None]
WIDE = {spec.name: spec.metadata["maximum"] for spec in fields(Limits) if spec.metadata["kind"] is int}
"""As wide as can be."""
PLAIN = "plain"
"""Without any limits: CPython's own unpickler."""


def deep_key(depth: int) -> bytes:
    """A dict with a key of tuples in tuples."""
    return message(op.EMPTY_DICT, op.EMPTY_TUPLE, bytes([op.TUPLE1]) * depth, bytes([0x4E]), op.SETITEM)


def shared_key(doublings: int) -> bytes:
    """A dict whose key is a tuple of twice the same tuple, and so on."""
    steps = b"".join(bytes([op.MEMOIZE, op.BINGET, number, op.TUPLE2]) for number in range(doublings))
    return message(op.EMPTY_DICT, bytes([0x4E, op.TUPLE1]), steps, bytes([0x4E]), op.SETITEM)


def list_of(items: bytes) -> bytes:
    return message(op.EMPTY_LIST, op.MARK, items, op.APPENDS)


class Attack(NamedTuple):
    """An attack on a limit.

    Attributes:
        make: Makes the message.
        without: The Limits as JSON without the limit, or PLAIN.
        limited: The limits that differ from the defaults.
        memory, seconds: The factor by which the message costs more without the limit.
        killed: True if the message kills the process without the limit.
    """

    make: Callable[[], bytes]
    without: Any
    limited: dict[str, int] = {}  # noqa: RUF012 - never changed
    memory: float = 0
    seconds: float = 0
    killed: bool = False


KEYS = b"".join(integer(number * (2**61 - 1)) + b"N" for number in range(1, 45_000))
ATTACKS = {
    "max_frame": Attack(lambda: message(blob(bytes(40 * MIB))), WIDE, memory=10),
    "max_string": Attack(lambda: message(text("x" * 12 * MIB + "\U0001f600")), WIDE, {"max_string": MIB}, memory=4),
    "max_memory": Attack(lambda: list_of(bytes([op.EMPTY_SET]) * 300_000), WIDE, {"max_memory": 20 * MIB}, memory=2),
    "max_nodes": Attack(lambda: list_of(b"N" * 4_000_000), WIDE, {"max_nodes": 300_000}, seconds=4),
    "max_expanded_nodes": Attack(lambda: shared_key(23), WIDE, seconds=10),
    "max_integer_bits": Attack(lambda: message(integer(1 << 500_000)), WIDE, seconds=10),
    "max_depth": Attack(lambda: deep_key(200_000), PLAIN, killed=True),
    "max_probes": Attack(lambda: message(op.EMPTY_DICT, op.MARK, KEYS, op.SETITEMS), PLAIN, killed=True),
}


@pytest.fixture(scope="module")
def expense() -> Iterator[Expense]:
    """Return the cost of a message without the native core, which accepts faster; None if it killed the process."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "expense.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SEALWIRE_NATIVE": "off"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def expense(data: bytes, limits: Any) -> dict[str, Any] | None:
            text = limits if limits == PLAIN else json.dumps(limits)
            stdin.write(b"%s %d\n%s" % (text.encode(), len(data), data))
            stdin.flush()
            found: dict[str, Any] | None = json.loads(stdout.readline())
            return found

        yield expense


@pytest.mark.parametrize(("name", "attack"), ATTACKS.items(), ids=ATTACKS)
def test_the_attack_works_without_it_alone(expense: Expense, name: str, attack: Attack) -> None:
    data = attack.make()
    without = expense(data, attack.without)
    limited = expense(data, attack.limited)
    assert limited is not None
    assert limited["verdict"] == name
    if attack.killed:
        assert without is None
        return
    assert without is not None
    assert without["verdict"] == "accepted"
    if attack.memory:
        assert without["memory"] >= attack.memory * max(limited["memory"], MIB)
    assert without["seconds"] >= attack.seconds * limited["seconds"]


def test_none_is_left_out() -> None:
    """Only limits that do not concern messages are exempt: those of connections, of time and of files."""
    others = {
        "max_crl", "max_connections", "max_handshakes", "max_handshakes_per_source", "max_identity_share",
        "max_in_flight", "max_in_flight_total", "max_requests_per_second", "max_buffered",
        "keepalive_idle", "keepalive_interval", "keepalive_count", "max_streams", "max_parts", "part_window",
    }  # fmt: skip
    assert ATTACKS.keys() == {name for name in WIDE if name not in others}

"""Each limit: an attack that works without it, and costs next to nothing with it. Each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pickling.assembler import blob, integer, message, text
from sealwire import Limits
from sealwire.pickling import opcodes as op

MIB = 1 << 20
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
    """data: the message. without: Limits as JSON, or PLAIN. limited: what is set beside the defaults.
    memory, seconds: so many times as much the message costs without the limit. killed: what it dies of then."""

    data: bytes
    without: Any
    limited: dict[str, int] = {}  # noqa: RUF012 - never changed
    memory: float = 0
    seconds: float = 0
    killed: bool = False


KEYS = b"".join(integer(number * (2**61 - 1)) + b"N" for number in range(1, 45_000))
ATTACKS = {
    "max_frame": Attack(message(blob(bytes(40 * MIB))), WIDE, memory=10),
    "max_string": Attack(message(text("x" * 12 * MIB + "\U0001f600")), WIDE, {"max_string": MIB}, memory=4),
    "max_memory": Attack(list_of(bytes([op.EMPTY_SET]) * 900_000), WIDE, memory=2),
    "max_nodes": Attack(list_of(b"N" * 12_000_000), WIDE, {"max_nodes": 1_000_000}, seconds=4),
    "max_expanded_nodes": Attack(shared_key(24), WIDE, seconds=10),
    "max_integer_bits": Attack(message(integer(1 << 1_000_000)), WIDE, seconds=10),
    "max_depth": Attack(deep_key(200_000), PLAIN, killed=True),
    "max_probes": Attack(message(op.EMPTY_DICT, op.MARK, KEYS, op.SETITEMS), PLAIN, killed=True),
}


def expense(data: bytes, limits: Any) -> dict[str, Any] | None:
    """What it costs without the native core, which accepts faster; None where the process was killed by it."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "expense.py"), limits if limits == PLAIN else json.dumps(limits)],
        input=data,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SEALWIRE_NATIVE": "off"},
    )
    if done.returncode < 0:
        return None
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("name", "attack"), ATTACKS.items(), ids=ATTACKS)
def test_the_attack_works_without_it_alone(name: str, attack: Attack) -> None:
    without = expense(attack.data, attack.without)
    limited = expense(attack.data, attack.limited)
    assert limited is not None
    assert limited["verdict"] == name
    if attack.killed:
        assert without is None
        return
    assert without is not None
    assert without["verdict"] == "accepted"
    assert without["memory"] >= attack.memory * limited["memory"]
    assert without["seconds"] >= attack.seconds * limited["seconds"]


def test_none_is_left_out() -> None:
    """But for those that are no message's: of connections, of time and of files."""
    others = {
        "max_crl", "max_connections", "max_handshakes", "max_handshakes_per_source", "max_identity_share",
        "max_in_flight", "max_in_flight_total", "max_requests_per_second", "max_buffered",
    }  # fmt: skip
    assert ATTACKS.keys() == {name for name in WIDE if name not in others}

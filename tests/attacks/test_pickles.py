"""Hostile pickles, each in a process of its own under limits: on this interpreter, and without the native core, which
is compiled for one interpreter only, on every supported one that is found.

Five seconds of CPU and 200 MB: none may be accepted, crash, run over or change anything. Beside them are harmless
pickles, none of which may be refused, and the same attacks against the recipe of Python's documentation, where they
succeed: an attack that hurts nobody would prove nothing.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import sealwire
from attacks import victims
from pickling.assembler import blob, call, dict_, integer, list_, message, name, text, tuple_
from pickling.dangerous import DANGEROUS
from pickling.test_key_costs import ATTACKS as KEY_ATTACKS
from sealwire.native import NATIVE
from sealwire.pickling import opcodes as op

HERE = Path(__file__).parent
SOURCES = Path(sealwire.__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
NONE = b"N"


def interpreters() -> dict[str, str]:
    """Return supported interpreters by version: this one, those on the path, and pyenv's."""
    found = {"{}.{}".format(*sys.version_info): sys.executable}
    if NATIVE:
        return found
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}")]
        candidates += sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python{version}")))
        for candidate in filter(None, candidates):
            if (
                version not in found
                and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
            ):
                found[version] = candidate
    return found


INTERPRETERS = interpreters()


def victim(cls: str) -> bytes:
    return name("victims", cls)


def new(cls: str, *state: bytes) -> bytes:
    """An instance, and its state."""
    return victim(cls) + b")\x81" + (b"".join(state) + b"b" if state else b"")


def fields(**values: bytes) -> bytes:
    return dict_(*((text(key), value) for key, value in values.items()))


ORDER = fields(item=text("nails"), count=integer(1), tags=b"]")
GET = b"h"
RUN = (
    b"cos\nsystem\n(S'false'\ntR.", b"(S'false'\nios\nsystem\n.", b"(cos\nsystem\nS'false'\no.",
    b"\x80\x04cos\nsystem\n\x8c\x05false\x85R.", b"\x80\x02cposix\nsystem\nU\x05false\x85R.",
    message(name("builtins", "eval"), text("1"), b"\x85", op.REDUCE),
    message(name("builtins", "exec"), text("1"), b"\x85", op.REDUCE),
    message(name("builtins", "__import__"), text("os"), b"\x85", op.REDUCE),
    message(name("os", "popen"), text("false"), b"\x85", op.REDUCE),
    message(name("subprocess", "Popen"), text("false"), b"\x85", op.REDUCE),
    message(name("importlib", "import_module"), text("antigravity"), b"\x85", op.REDUCE),
    message(name("builtins", "getattr"), name("os", "path"), text("system"), b"\x86", op.REDUCE),
    message(name("builtins", "getattr"), victim("Order"), text("delete"), b"\x86", op.REDUCE),
    message(name("builtins", "getattr"), new("Order", ORDER), text("delete"), b"\x86", op.REDUCE),
    message(name("operator", "attrgetter"), text("delete"), b"\x85", op.REDUCE),
    message(name("operator", "methodcaller"), text("delete"), b"\x85", op.REDUCE),
    message(name("functools", "partial"), victim("Order"), b"\x85", op.REDUCE),
    message(name("builtins", "map"), victim("Order"), b"]\x86", op.REDUCE),
    message(name("copyreg", "_reconstructor"), victim("Order"), victim("Order"), NONE, b"\x87", op.REDUCE),
    message(name("copyreg", "__newobj__"), victim("Order"), b"\x85", op.REDUCE),
    message(name("types", "FunctionType"), b")", op.REDUCE),
    message(name("types", "CodeType"), b")", op.REDUCE),
    message(name("builtins", "type"), text("X"), b")}\x87", op.REDUCE),
    message(name("builtins", "object"), b")", op.REDUCE),
    message(name("builtins", "open"), text("/etc/passwd"), b"\x85", op.REDUCE),
    message(name("builtins", "compile"), b")", op.REDUCE),
    message(name("pathlib", "Path.home"), b")", op.REDUCE),
    message(name("pathlib", "PosixPath.cwd"), b")", op.REDUCE),
    message(name("datetime", "datetime.now"), b")", op.REDUCE),
    message(name("victims", "Order.delete"), b")", op.REDUCE),
    message(name("victims", "RAN")),
    message(name("victims", "RAN.append"), text("x"), b"\x85", op.REDUCE),
    message(name("sys", "modules")),
    message(name("victims", "__builtins__")),
    message(name("", "")), message(name("victims", "")), message(name("victims.victims", "Order")),
    message(name("__main__", "Order")), message(name("..", "Order")), message(name("victims\0", "Order")),
)  # fmt: skip

CHANGES = {
    "an attribute of a class": message(victim("Order"), tuple_(NONE, fields(item=text("x"))), b"b"),
    "a method of a class": message(victim("Account"), tuple_(NONE, fields(__eq__=NONE)), b"b"),
    "a member of an enum": message(victim("Color"), tuple_(NONE, fields(_member_map_=b"}")), b"b"),
    "the value of a member": message(call("victims", "Color", integer(1)), fields(_value_=integer(7)), b"b"),
    "append on an instance": message(new("Order", ORDER), text("x"), b"a"),
    "extend on an instance": message(new("Order", ORDER), b"(", text("x"), b"e"),
    "items on an instance": message(new("Order", ORDER), text("x"), NONE, b"s"),
    "more items on an instance": message(new("Order", ORDER), b"(", text("x"), NONE, b"u"),
    "a combination of flags": message(call("victims", "Rights", integer(9))),
}
"""Accepted by the recipe, with an effect."""

HARM = (
    "a deep tuple as a key", "shared tuples as a key", "a memo index", "empty sets", "multiples of 2**61 - 1",
    "a Fraction that computes",
)  # fmt: skip
"""Of DANGEROUS: what the recipe does not survive within the limits."""

STATES = {
    "no state": message(new("Order")),
    "no fields": message(new("Order", b"}")),
    "a field less": message(new("Order", fields(item=text("x"), count=integer(1)))),
    "a field more": message(new("Order", fields(item=text("x"), count=integer(1), tags=b"]", admin=b"\x88"))),
    "a field of another type": message(new("Order", fields(item=integer(1), count=integer(1), tags=b"]"))),
    "an item of another type": message(new("Order", fields(item=text("x"), count=integer(1), tags=list_(b"K\1")))),
    "what __post_init__ refuses": message(new("Order", fields(item=text("x"), count=b"J\xff\xff\xff\xff", tags=b"]"))),
    "a method shadowed": message(new("Order", fields(item=text("x"), count=integer(1), tags=b"]", delete=NONE))),
    "__class__": message(
        new("Order", fields(item=text("x"), count=integer(1), tags=b"]", __class__=victim("Account")))
    ),
    "__dict__": message(new("Order", fields(__dict__=ORDER))),
    "a state of slots": message(new("Order", tuple_(NONE, fields(count=integer(1))))),
    "a state of two dicts": message(new("Order", tuple_(ORDER, fields(admin=b"\x88")))),
    "a state of two equal dicts": message(new("Order", tuple_(ORDER, ORDER))),
    "a state of three": message(new("Order", tuple_(NONE, ORDER, NONE))),
    "a list as state": message(new("Order", list_(text("x"), integer(1), b"]"))),
    "a str as state": message(new("Order", text("x"))),
    "a class as state": message(new("Order", victim("Order"))),
    "state twice": message(new("Order", ORDER), ORDER, b"b"),
    "state after its use": message(new("Order"), b"\x94]", GET, b"\0a0", ORDER, b"b"),
    "an admin by another name": message(new("Account", fields(owner=text("x"), Admin=b"\x88"))),
    "a frozen field of another type": message(
        new("Account", fields(owner=text("x"), admin=text("yes"), since=NONE, balance=NONE))
    ),
    "itself as a field": message(
        victim("Order"), b")\x81\x94", fields(item=GET + b"\1", count=integer(1), tags=b"]"), b"b"
    ),
    "a named tuple, short": message(victim("Point"), integer(1), b"\x85\x81"),
    "a named tuple, long": message(victim("Point"), b"K\1K\1K\1\x87\x81"),
    "a named tuple of text": message(victim("Point"), text("a"), text("b"), b"\x86\x81"),
    "a named tuple called": message(call("victims", "Point", integer(1), integer(2))),
    "a named tuple with state": message(victim("Point"), b"K\1K\1\x86\x81}b"),
    "NEWOBJ_EX": message(victim("Order"), b")}\x92"),
    "a dataclass called": message(call("victims", "Order", text("x"))),
    "an enum by name": message(call("victims", "Color", text("RED"))),
    "an enum by a list": message(call("victims", "Color", b"]")),
    "an enum of two arguments": message(call("victims", "Color", integer(1), integer(2))),
    "an enum made with names": message(call("victims", "Color", text("New"), tuple_(text("A")))),
    "an enum by NEWOBJ": message(victim("Color"), integer(1), b"\x85\x81"),
    "an enum by True": message(call("victims", "Color", b"\x88")),
    "an enum by 1.0": message(call("victims", "Color", b"G?\xf0\0\0\0\0\0\0")),
    "flags unknown": message(call("victims", "Rights", integer(8))),
    "flags negative": message(call("victims", "Rights", b"J\xff\xff\xff\xff")),
    "an exception without arguments": message(call("victims", "Refused")),
    "an exception of text": message(call("victims", "Refused", text("x"))),
    "an exception with attributes": message(call("victims", "Refused", integer(1)), fields(code=integer(2)), b"b"),
    "an exception with a cause": message(
        call("victims", "Refused", integer(1)), fields(code=integer(1), __cause__=NONE), b"b"
    ),
    "an exception that is not listed": message(call("builtins", "KeyError", integer(1))),
    "SystemExit": message(call("builtins", "SystemExit", integer(1))),
}

STANDARD = {
    "datetime of the year 0": message(call("datetime", "datetime", blob(bytes(10)))),
    "datetime by numbers": message(call("datetime", "datetime", b"M\xe8\7", integer(1), integer(1))),
    "datetime of 13 months": message(call("datetime", "datetime", blob(b"\7\xe8\x0d\1\0\0\0\0\0\0"))),
    "datetime with a tz of text": message(call("datetime", "datetime", blob(b"\7\xe8\1\1\0\0\0\0\0\0"), text("UTC"))),
    "a date by text": message(call("datetime", "date", text("\7\x00\1\1"))),
    "a timedelta too large": message(call("datetime", "timedelta", b"J\0\0\0\x7f", integer(0), integer(0))),
    "a timedelta of floats": message(call("datetime", "timedelta", b"G?\xf0\0\0\0\0\0\0")),
    "a UUID of text": message(name("uuid", "UUID"), b")\x81", fields(int=text("x")), b"b"),
    "a UUID too large": message(name("uuid", "UUID"), b")\x81", fields(int=integer(1 << 128)), b"b"),
    "a UUID with a field more": message(name("uuid", "UUID"), b")\x81", fields(int=integer(1), hex=text("0")), b"b"),
    "a UUID by hex": message(call("uuid", "UUID", text("0" * 32))),
    "a Fraction by text": message(call("fractions", "Fraction", text("1/3"))),
    "a Fraction not reduced": message(call("fractions", "Fraction", integer(2), integer(4))),
    "a Fraction over 0": message(call("fractions", "Fraction", integer(2), integer(0))),
    "a Decimal of text": message(call("decimal", "Decimal", text("NaN123x"))),
    "a signalling NaN": message(call("decimal", "Decimal", text("sNaN"))),
    "a Decimal by number": message(call("decimal", "Decimal", integer(1))),
    "a path of bytes": message(call("pathlib", "PurePosixPath", blob(b"/etc"))),
    "an address of text": message(call("ipaddress", "IPv4Address", text("no"))),
    "a time zone by path": message(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), text("_unpickle"), b"\x86R",
        text("../../../etc/passwd"), integer(1), b"\x86R",
    ),
    "a time zone's other method": message(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), text("clear_cache"), b"\x86R", b")R"
    ),
    "a factory with an effect": message(call("collections", "defaultdict", victim("Order"))),
    "a deque with a long memory": message(call("collections", "deque", tuple_(), integer(1 << 62))),
    "a Counter of a list": message(call("collections", "Counter", b"]")),
    "a codec": message(call("_codecs", "encode", text("x"), text("zip"))),
    "NaN as a key": message(dict_((b"G\x7f\xf8\0\0\0\0\0\0", NONE))),
    "a key twice": message(dict_((integer(1), NONE), (integer(1), NONE))),
    "a key twice, equal": message(dict_((integer(1), NONE), (b"\x88", NONE))),
    "a list as a key": message(dict_((b"]", NONE))),
    "a cycle": message(b"]\x94h\0a"),
    "a cycle through a tuple": message(b"]\x94h\0\x85a"),
    "a change after use": message(b"]\x94", GET, b"\0\x85\x94", GET, b"\0", NONE, b"a"),
    "a surrogate": message(b"\x8c\3\xed\xa0\x80"),
    "no UTF-8": message(b"\x8c\1\xff"),
    "bytes after the end": message(NONE) + b"N",
    "two messages": message(NONE) + message(NONE),
    "a left-over": message(NONE, NONE),
    "nothing": b"",
    "no end": b"\x80\4N",
    "no value": message(),
    "an open mark": message(b"(", NONE),
    "a frame beyond the end": b"\x80\4\x95\xff\0\0\0\0\0\0\0N.",
    "a frame in a frame": b"\x80\4\x95\x0b\0\0\0\0\0\0\0\x95\2\0\0\0\0\0\0\0N.",
    "a frame that ends inside": b"\x80\4\x95\1\0\0\0\0\0\0\0K\1.",
    "protocol 0": b"I1\n.",
    "protocol 1": b"K\1.",
    "protocol 6": message(NONE, protocol=6),
    "PROTO twice": message(b"\x80\4", NONE),
    "POP": message(NONE, NONE, b"0"),
    "DUP": message(b"]2\x86"),
    "POP_MARK": message(NONE, b"(", NONE, b"1"),
    "a persistent id": message(b"Pos\n"),
    "a binary persistent id": message(NONE, b"Q"),
    "an extension": message(b"\x82\1"),
    "NEXT_BUFFER": message(b"\x97"),
    "READONLY_BUFFER": message(NONE, b"\x98"),
    "a memo entry that is not there": message(b"h\0"),
    "a memo index skipped": message(NONE, b"q\1"),
    "a memo index again": message(NONE, b"q\0", b"q\0"),
    "text integers": message(b"I1\n"), "text str": message(b"S'x'\n"), "text floats": message(b"F1\n"),
    "text unicode": message(b"Vx\n"), "LONG": message(b"L1L\n"), "a Python 2 str": message(b"U\1x"),
    "a long integer with a negative length": message(b"\x8b\xff\xff\xff\xff"),
    "bytes with a negative length": message(b"B\xff\xff\xff\xff"),
    "bytes with a huge length": message(b"\x8e" + b"\xff" * 8),
    "a bytearray with a huge length": message(b"\x96" + b"\xff" * 7 + b"\x7f"),
}  # fmt: skip

COLLISIONS: dict[str, Callable[[], bytes]] = {
    "keys of a frozen dataclass": lambda: message(
        dict_(*((new("Key", list_(integer(n * (2**61 - 1)))), NONE) for n in range(1, 9000)))
    ),
    "keys of a named tuple": lambda: message(
        dict_(*((victim("Point") + integer(n * (2**61 - 1)) + b"K\1\x86\x81", NONE) for n in range(1, 20_000)))
    ),
    "Fractions that meet in the table of hashes": lambda: message(
        list_(
            *(
                b"(" + call("fractions", "Fraction", integer(3 + (2**61 - 1) * 7 * n), integer(7)) + b"\x85\x91"
                for n in range(10_000)
            )
        )
    ),
    "many instances": lambda: message(list_(*[new("Order", ORDER)] * 100_000)),
    "one instance in many places": lambda: message(
        new("Order", ORDER), b"\x94", *[tuple_(*[GET + bytes([n])] * 8) + b"\x94" for n in range(20)]
    ),
    "deep instances": lambda: message(*[victim("Order") + b")\x81}" + text("tags") for _ in range(500)], b"N"),
}


@cache
def attacks() -> dict[str, bytes]:
    return {
        **{f"run {number}": data for number, data in enumerate(RUN)},
        **CHANGES, **STATES, **STANDARD,
        **{title: make() for title, make in COLLISIONS.items()},
    }  # fmt: skip


@cache
def costly() -> dict[str, bytes]:
    """The cases of tests/pickling that this interpreter refuses, with the reasons."""
    return {**KEY_ATTACKS, **{title: make() for title, (make, _) in DANGEROUS.items()}}


def protocols(value: Any) -> list[bytes]:
    # Our `attacks.victims` is `victims` where the pickles are read.
    picklers: list[Callable[..., bytes]] = [pickle.dumps, pickle._dumps]  # the Python one
    return [dumps(value, protocol) for dumps in picklers for protocol in range(2, 6)]


BENIGN: list[Any] = [
    None, True, 0, -1, 2**100, 1.5, float("nan"), 1j, "text", "é\u1234\U0001f600", b"bytes", bytearray(b"x"),
    [], (), {}, set(), frozenset(), [1, [2, (3,)]], {"a": {"b": [1]}}, {1: 2, (3, "4"): 5, None: 6}, {1, "2"},
    frozenset({(1, 2)}), list(range(3000)), {n: str(n) for n in range(3000)}, {f"k{n}" for n in range(3000)},
    "x" * 100_000, bytes(100_000), datetime(2024, 2, 29, 1, 2, 3, 4, timezone(timedelta(hours=1))),
    date(2024, 1, 1), timedelta(-1, 2, 3), Decimal("1.50"), Fraction(1, 3), UUID(int=7), [Decimal(1)] * 2,
    {UUID(int=1): Decimal("NaN")}, {n * 7919: None for n in range(10_000)},
    [{"id": n, "name": f"n{n}"} for n in range(2000)],
    {Fraction(-1, 3), Fraction(-2, 3)}, {(Decimal(-1), 0): 1, (Decimal(-2), 0): 2}, deque([1, 2, 3], 3),
]  # fmt: skip


@cache
def benign() -> dict[str, bytes]:
    """Each value in each protocol."""
    return {f"{value!r:.50} {number}": data for value in BENIGN for number, data in enumerate(protocols(value))}


def verdicts(interpreter: str, cases: dict[str, bytes], reader: str = "sealwire") -> dict[str, str]:
    """Return the verdict on each pickle. Keys are the cases' names."""
    lines = [
        json.dumps({"name": title, "data": base64.b64encode(data).decode(), "reader": reader})
        for title, data in cases.items()
    ]
    done = subprocess.run(
        [interpreter, "-I", str(HERE / "cell.py"), str(SOURCES)],
        input="\n".join(lines), capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.keys() == cases.keys()
    return found


@pytest.mark.parametrize("version", INTERPRETERS)
def test_attacks(version: str) -> None:
    interpreter = INTERPRETERS[version]
    found = verdicts(interpreter, attacks() | (costly() if interpreter != sys.executable else {}))
    assert {title: verdict for title, verdict in found.items() if not verdict.startswith("refused ")} == {}


@pytest.mark.parametrize("version", INTERPRETERS)
def test_benign(version: str) -> None:
    found = verdicts(INTERPRETERS[version], benign())
    assert {title: verdict for title, verdict in found.items() if verdict != "accepted"} == {}


@pytest.mark.parametrize("version", INTERPRETERS)
def test_nothing_remains_that_a_peer_could_fill(version: str) -> None:
    """Interned str, caches of the standard library, combinations of flags: of these others would have fewer."""
    done = subprocess.run(
        [INTERPRETERS[version], "-I", str(HERE / "remains.py"), str(SOURCES)],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {what for what, remains in json.loads(done.stdout).items() if remains} == set()


def test_the_same_instances_are_accepted_with_good_state() -> None:
    """The parts that the attacks are made of are right: it is what is wrong in them that is refused."""
    good = {
        "order": message(new("Order", ORDER)),
        "key": message(new("Key", list_(integer(7)))),
        "point": message(victim("Point"), b"K\1K\1\x86\x81"),
        "color": message(call("victims", "Color", integer(1))),
        "flags": message(call("victims", "Rights", integer(3))),
        "refused": message(call("victims", "Refused", integer(1)), fields(code=integer(1)), b"b"),
    }
    assert set(verdicts(sys.executable, good).values()) == {"accepted"}


def test_the_recipe_of_the_documentation_falls_for_them() -> None:
    found = verdicts(sys.executable, CHANGES, "recipe")
    assert set(found.values()) == {"changed"}
    found = verdicts(sys.executable, {title: DANGEROUS[title][0]() for title in HARM}, "recipe")
    assert {
        title: verdict for title, verdict in found.items() if not verdict.startswith(("killed", "failed Mem"))
    } == {}


def test_there_is_something_to_protect() -> None:
    assert victims.RAN == []

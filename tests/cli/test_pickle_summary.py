"""A pickle's names and actions are found by its opcodes; hostile bytes neither run nor hang the summary."""

from __future__ import annotations

import os
import pickle
import random
import time
from typing import Any

import pytest

from pickling import shop
from pickling.assembler import call, instance, integer, message, name, text, tuple_
from sealwire.cli.pickle_summary import MAX_NAME, MAX_NAMES, MAX_OPCODES, summarize
from sealwire.pickling import opcodes as op


class Hostile:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
def test_names_at_every_protocol(protocol: int) -> None:
    value = [shop.order(), shop.Outer.Inner(1), shop.OutOfStock("a"), Hostile(os.getpid)]
    found = summarize(pickle.dumps(value, protocol))
    names = {".".join(each) for each in found.names}
    assert {f"pickling.shop.{cls}" for cls in ("Order", "Point", "Color", "Outer.Inner", "OutOfStock")} <= names
    assert f"{os.getpid.__module__}.getpid" in names
    assert found.protocol == (None if protocol < 2 else protocol)
    assert (found.error, found.remarks) == ("", {})
    assert found.end == found.size


def test_what_is_done_with_a_name() -> None:
    found = summarize(
        message(
            op.EMPTY_LIST, op.MARK,
            call("a", "called", integer(1)),
            instance("a", "Made", b"}"), instance("a", "Bare"), name("a", "named"),
            name("a", "changed"), b"}", op.BUILD,
            call("builtins", "getattr", name("a", "Outer"), text("Inner")),
            call("a", "maker"), tuple_(), op.REDUCE,
            op.APPENDS,
        )
    )  # fmt: skip
    assert {each: uses - {"imported"} for (_, each), uses in found.names.items()} == {
        "called": {"called"},
        "Made": {"instantiated", "instance given state"},
        "Bare": {"instantiated"},
        "named": set(),
        "changed": {"changed for the whole process"},
        "getattr": {"called"},
        "Outer": {"attribute read"},
        "Outer.Inner": set(),
        "maker": {"called", "result called"},
    }


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"(ios\nsystem\n.", {("os", "system")}),
        (b"(cos\nsystem\nVls\no.", {("os", "system")}),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", {("os", "system")}),
        (b"\x80\x04\x8c\x02os2\x8c\x06system\x930.", {("os", "system")}),
        (b"\x80\x04(0\x8c\x02os\x8c\x06system\x93.", {("os", "system")}),
        (b"\x80\x04(K\x011\x8c\x02os\x8c\x06system\x93.", {("os", "system")}),
        (b"\x80\x02\x82\x05.", {("copyreg", "_inverted_registry[5]")}),
        (b"\x80\x04K\x01K\x02\x93.", {("?", "?")}),
        (b"co\\x73\nsystem\n.", {("o\\x73", "system")}),
    ],
)
def test_other_ways_to_name_something(data: bytes, names: set[tuple[str, str]]) -> None:
    assert set(summarize(data).names) == names


def test_sizes_and_depth() -> None:
    found = summarize(pickle.dumps({"key": [b"12345", b"1", {"a": [[]]}], "longer": 1}))
    assert (found.strings.count, found.strings.total, found.strings.longest) == (3, 10, 6)
    assert (found.blobs.count, found.blobs.total, found.blobs.longest) == (2, 6, 5)
    assert found.depth == 5


def test_what_else_is_said() -> None:
    assert "persistent" in next(iter(summarize(b"Pid\n.").remarks))
    assert "persistent" in next(iter(summarize(b"\x80\x02K\x01Q.").remarks))
    assert "3 bytes after its end" in next(iter(summarize(b"N.N..").remarks))
    assert "did not import" in next(iter(summarize(b"\x80\x02K\x01)R.").remarks))


BOMBS = {
    "empty": b"",
    "garbage": b"\x1b[31m",
    "truncated": pickle.dumps(shop.order())[:-20],
    "a giant str": b"\x80\x04\x8d" + b"\xff" * 8,
    "giant bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f",
    "a giant frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "a giant memo index": b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7f.",
    "a huge integer": b"I" + b"9" * 1_000_000 + b"\n.",
    "a bad escape": b"S'\\d'\n.",
    "a str that is no UTF-8": b"\x80\x04\x8c\x01\xff.",
    "an empty stack": b"\x80\x04\x93R\x81b0021\x85su.",
    "deep lists": b"\x80\x04" + b"]" * 60_000 + b"a" * 59_999 + b".",
    "deep tuples": b"\x80\x04K\x01" + b"\x85" * 100_000 + b".",
    "deep pairs": b"\x80\x04K\x01" + b"2\x86" * 60_000 + b".",
    "marks": b"\x80\x04" + b"(" * (MAX_OPCODES + 1),
    "names": b"\x80\x04" + b"".join(b"c%d\nx\n" % i for i in range(2 * MAX_NAMES)) + b".",
    "changed names": b"\x80\x04" + b"".join(b"c%d\nx\n}b" % i for i in range(2 * MAX_NAMES)) + b".",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_hostile_bytes(data: bytes) -> None:
    start = time.process_time()
    found = summarize(data)
    assert time.process_time() - start < 20
    assert found.opcodes <= MAX_OPCODES
    assert len(found.names) <= MAX_NAMES
    assert len(found.remarks) < 10


def test_names_are_bounded() -> None:
    ((module, attribute),) = summarize(message(name("a" * 10_000, "b" * 10_000))).names
    assert len(module) == len(attribute) == MAX_NAME + 1


def test_mutants_raise_nothing() -> None:
    rng = random.Random(7)
    bases = [pickle.dumps([shop.order(), shop.noted(), {1, 2}], protocol) for protocol in range(6)]
    for _ in range(1000):
        data = bytearray(rng.choice(bases))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        summarize(bytes(data))
        summarize(rng.randbytes(50))

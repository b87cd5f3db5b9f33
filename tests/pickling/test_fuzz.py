"""Bytes that nobody wrote: a value or a DecodeError, and both passes read them alike."""

from __future__ import annotations

import datetime
import decimal
import pickle
import pickletools
import random
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from zoneinfo import ZoneInfo

import pytest

from pickling.values import PROTOCOLS, same
from sealwire.errors import DecodeError, EncodeError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder, Encoder
from sealwire.pickling import opcodes as op

DECODER = Decoder(Allowlist(), Limits(max_depth=20, max_nodes=5000, max_memory=1 << 22, max_expanded_nodes=20_000))
ENCODER = Encoder(Allowlist(), DECODER._limits, DECODER)

shared = [1, "two", (3.0, b"four")]
SEEDS = [
    {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5, "none": None},
    [shared, shared, {"x": shared}, (shared,)],
    {1: {2, 3}, (4, frozenset([5])): bytearray(b"six"), b"k": 2**70, -1.5: "é\u1234"},
    [datetime.datetime(2024, 2, 29, 12, 30, tzinfo=ZoneInfo("Europe/Paris")), datetime.timedelta(1, 2, 3)],
    {uuid.UUID(int=7): decimal.Decimal("1.50"), datetime.date(2024, 1, 1): 1j},
    [OrderedDict(a=1, b=2), Counter("aab"), deque([1, 2], 5), defaultdict(list, x=[1])],
    [{"id": n, "name": f"n{n}"} for n in range(5)],
    ["x" * 300, b"y" * 300, set(), frozenset([1, 2])],
]
PICKLES = [pickle.dumps(value, protocol) for value in SEEDS for protocol in PROTOCOLS]
OPCODES = bytes(op.OPCODE_NAMES)
SPLICES = [data[a:b] for data in PICKLES for a, b in [(2, 20), (10, 40), (-30, -1)]]


def mutant(source):
    data = bytearray(source.choice(PICKLES))
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        at = source.randrange(len(data))
        kind = source.randrange(6)
        if kind == 0:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[at] = source.choice(OPCODES)
        elif kind == 2:
            data.insert(at, source.choice(OPCODES))
        elif kind == 3:
            del data[at : at + source.randint(1, 4)]
        elif kind == 4:
            data[at:at] = source.choice(SPLICES)
        else:
            data[at : at + 1] = bytes([source.randrange(256)])
        if not data:
            break
    if data[2:3] == b"\x95" and source.random() < 0.9:
        # A right frame, so that more than the frame is tried.
        data[3:11] = max(0, len(data) - 11).to_bytes(8, "little")
    return bytes(data)


def check(data):
    """Return True if the message is accepted; raise anything that must not be raised."""
    try:
        DECODER.check(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            DECODER.decode(data)
        return False
    try:
        value = DECODER.decode(data)
    except DecodeError:
        # After vetting only UTF-8, hashing and constructors can fail.
        return False
    # What is accepted CPython reads, and both read it alike.
    assert same(value, pickle.loads(data))
    # What was decoded can be sent again, if it is not too large for it now.
    try:
        again = ENCODER.encode(value)
    except EncodeError as error:
        if "max_" not in str(error):
            raise
    else:
        assert same(DECODER.decode(again), value)
    return True


def test_mutants():
    source = random.Random(20_261_124)
    accepted = 0
    for _ in range(5000):
        data = mutant(source)
        try:
            accepted += check(data)
        except BaseException:
            print(data)
            raise
    assert accepted > 50


def test_programs_of_random_opcodes():
    source = random.Random(7)
    pieces = [bytes([code]) for code in b"N)](}tea\x85\x86\x87\x8f\x90\x91us\x94R\x81b"]
    pieces += [
        b"K\1", b"K\2", b"h\0", b"h\1", b"\x8c\1x", b"C\1y", b"q\0", b"cdecimal\nDecimal\n", b"ccollections\ndeque\n",
        b"ccollections\nOrderedDict\n", b"cuuid\nUUID\n", b"cbuiltins\nset\n", b"](K\1K\2e", b"}(K\1N\x8c\1xNu",
        b"(K\1t",
    ]  # fmt: skip
    accepted = 0
    for _ in range(10_000):
        body = b"".join(source.choices(pieces, k=source.randint(1, 9)))
        accepted += check(b"\x80\x05" + body + b".")
    assert accepted > 30


def test_every_prefix_and_every_flipped_bit():
    for data in PICKLES[3::4]:
        for end in range(len(data)):
            with pytest.raises(DecodeError):
                DECODER.decode(data[:end])
        for at in range(len(data)):
            check(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])


def test_the_set_of_opcodes_is_that_of_the_picklers():
    """The set has all that CPython's picklers write for the seeds, and nothing that is unknown to pickletools."""
    known = {ord(each.code): each.name for each in pickletools.opcodes}
    assert all(known[code] == name for code, name in op.OPCODE_NAMES.items())
    for value in SEEDS:
        for protocol in PROTOCOLS:
            for dumps in (pickle.dumps, pickle._dumps):
                assert {ord(each.code) for each, _, _ in pickletools.genops(dumps(value, protocol))} <= set(
                    op.OPCODE_NAMES
                )

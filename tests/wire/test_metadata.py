"""Metadata, as bytes before the payload."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError, RemoteProtocolError
from sealwire.wire.metadata import MAX_ENTRIES, MAX_SIZE, checked, pack, unpack

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
METADATA = st.dictionaries(KEYS, st.text(max_size=30), max_size=8)


def entry(key: bytes, value: bytes = b"") -> bytes:
    return bytes((len(key),)) + key + len(value).to_bytes(2, "big") + value


def entries(*packed: bytes) -> bytes:
    return bytes((len(packed),)) + b"".join(packed)


@given(METADATA, st.binary(max_size=50))
def test_it_comes_back_and_the_payload_follows(metadata: dict[str, str], payload: bytes) -> None:
    packed = pack(metadata)
    for whole in (packed + payload, memoryview(packed + payload)):
        assert unpack(whole) == (metadata, len(packed))


def test_its_bytes() -> None:
    packed = pack(OrderedDict({"b": "Ä", "ab": "", "a": "1"}))
    assert packed == b"\3" + b"\1a\0\x011" + b"\2ab\0\0" + b"\1b\0\2\xc3\x84"
    assert pack({}) == b"\0"
    assert unpack(b"\0rest") == ({}, 1)


def test_the_largest() -> None:
    widest = {f"{number:064}": "" for number in range(MAX_ENTRIES)}
    assert unpack(pack(widest))[0] == widest
    value = "x" * (MAX_SIZE - 1 - 1 - 1 - 2)
    assert len(pack({"k": value})) == MAX_SIZE
    assert unpack(pack({"k": value}) + b"payload") == ({"k": value}, MAX_SIZE)


WRONG = {
    "nothing": b"",
    "a count and no entry": b"\1",
    "a key longer than the rest": b"\1\5abc",
    "no length of the value": b"\1\1a",
    "half a length of the value": b"\1\1a\0",
    "a value longer than the rest": b"\1\1a\0\2x",
    "fewer entries than counted": b"\2" + entry(b"a", b"x"),
    "an empty key": entries(entry(b"", b"x")),
    "an empty key that is not first": entries(entry(b"a"), entry(b"")),
    "a key of 65 bytes": entries(entry(b"k" * 65)),
    "a key of 255 bytes": entries(entry(b"k" * 255)),
    "a key with a space": entries(entry(b"a b")),
    "a key with a newline": entries(entry(b"a\n")),
    "a key with 0x7f": entries(entry(b"\x7f")),
    "a key in UTF-8": entries(entry("ä".encode())),
    "a key twice": entries(entry(b"a", b"1"), entry(b"a", b"2")),
    "keys that descend": entries(entry(b"b"), entry(b"a")),
    "a prefix after what it begins": entries(entry(b"ab"), entry(b"a")),
    "a value that is not UTF-8": entries(entry(b"a", b"\xff")),
    "a value cut in a character": entries(entry(b"a", b"\xc3")),
    "a value with a surrogate": entries(entry(b"a", b"\xed\xa0\x80")),
    "a value with an overlong form": entries(entry(b"a", b"\xc0\x80")),
    "33 entries": entries(*(entry(b"%02d" % number) for number in range(33))),
    "255 entries": entries(*(entry(b"%03d" % number) for number in range(255))),
    "4,097 bytes": entries(entry(b"a", b"x" * 4000), entry(b"b", b"x" * 88)),
}


def test_the_longest_wrong_one_is_one_byte_too_long() -> None:
    wrong = WRONG["4,097 bytes"]
    assert len(wrong) == MAX_SIZE + 1
    right = wrong.replace(b"\1b\0\x58", b"\1b\0\x57")[:-1]
    assert unpack(right) == ({"a": "x" * 4000, "b": "x" * 87}, MAX_SIZE)


@pytest.mark.parametrize("packed", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_malformed(packed: bytes, kind: type) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed or too long"):
        unpack(kind(packed))


@given(METADATA)
def test_every_truncation_is_refused(metadata: dict[str, str]) -> None:
    packed = pack(metadata)
    for size in range(len(packed)):
        with pytest.raises(RemoteProtocolError):
            unpack(packed[:size])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_have_one_meaning(data: bytes) -> None:
    try:
        metadata, size = unpack(data)
    except RemoteProtocolError:
        return
    assert pack(metadata) == data[:size]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ([("a", "b")], "a mapping of str to str"),
        ({"a": 1}, "a mapping of str to str"),
        ({b"a": "b"}, "a mapping of str to str"),
        ({str(number): "" for number in range(33)}, "has 33 entries; 32 are allowed"),
        ({"": ""}, "1 to 64 printable ASCII"),
        ({"a b": ""}, "1 to 64 printable ASCII"),
        ({"a\n": ""}, "1 to 64 printable ASCII"),
        ({"ä": ""}, "1 to 64 printable ASCII"),
        ({"k" * 65: ""}, "1 to 64 printable ASCII"),
        ({"a": "secret\ud800"}, "the metadata of a has a lone surrogate"),
        ({"a": "x" * 4092}, "more than 4096 bytes"),
        ({"a": "x" * 4000, "b": "x" * 88}, "more than 4096 bytes"),
        ({"a": "x" * 70_000}, "more than 4096 bytes"),
    ],
)
def test_what_is_not_acceptable(metadata: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        pack(metadata)
    assert "secret" not in str(refused.value)


def test_metadata_is_checked_before_it_is_kept() -> None:
    metadata = {"a": "b"}
    assert checked(metadata) is metadata
    assert checked({}) is None
    with pytest.raises(ConfigurationError):
        checked({"a b": ""})

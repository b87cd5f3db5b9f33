"""Leaves that are used as keys: the vetting pass gives each the value that the unpickler will build."""

from __future__ import annotations

import pytest

from pickling.assembler import blob, dict_, integer, message, text
from sealwire import Codec, MalformedPickle

CODEC = Codec()
KEYS = {
    "LONG1": (integer(2**70), 2**70),
    "LONG4": (integer(2**3000), 2**3000),
    "BINUNICODE": (text("x" * 300), "x" * 300),
    "BINBYTES": (blob(b"x"), b"x"),
}


@pytest.mark.parametrize(("key", "value"), KEYS.values(), ids=KEYS)
def test_keys(key: bytes, value: object) -> None:
    assert CODEC.decode(message(dict_((key, b"N"), (integer(1), b"N")))) == {value: None, 1: None}
    with pytest.raises(MalformedPickle, match="a key occurs twice"):
        CODEC.decode(message(dict_((key, b"N"), (key, b"N"))))

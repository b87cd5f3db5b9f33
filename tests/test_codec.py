"""The public face: codecs, and the functions of the default one."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from sealwire.codec import Allowlist, Codec, RawCodec, decode, encode
from sealwire.errors import DecodeError, EncodeError, LimitExceeded, SealwireError, TypeNotAllowed
from sealwire.limits import Limits

MESSAGE = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}


def test_encode_gives_an_ordinary_pickle_of_protocol_5():
    data = encode(MESSAGE)
    assert data == pickle.dumps(MESSAGE, 5)
    assert decode(data) == MESSAGE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("codec", [Codec(), RawCodec()], ids=["pickle", "raw"])
def test_every_form_of_bytes(codec, kind):
    value = b"payload" if codec.name == "raw" else MESSAGE
    decoded = codec.decode(kind(codec.encode(value)))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("data", [None, "text", 5, [b""]])
@pytest.mark.parametrize("codec", [Codec(), RawCodec()], ids=["pickle", "raw"])
def test_what_is_not_bytes_is_the_callers_mistake(codec, data):
    with pytest.raises(TypeError, match="bytes") as error:
        codec.decode(data)
    assert not isinstance(error.value, SealwireError)


def test_raw_takes_bytes_only():
    for value in (b"x", bytearray(b"x"), memoryview(b"x")):
        assert RawCodec().encode(value) == b"x"
    with pytest.raises(EncodeError, match=r"not dict$"):
        RawCodec().encode({})
    assert repr(RawCodec()) == "RawCodec()"


def test_names_of_the_handshake():
    assert (Codec.name, RawCodec.name) == ("pickle-5", "raw")


def test_a_codec_of_its_own():
    codec = Codec(Allowlist(), limits=Limits(max_depth=2))
    assert codec.decode(codec.encode([[1]])) == [[1]]
    with pytest.raises(LimitExceeded):
        codec.decode(pickle.dumps([[[1]]]))
    assert codec.limits.max_depth == 2
    assert repr(codec) == "Codec(Allowlist())"


def test_immutable():
    with pytest.raises(AttributeError):
        Codec().other = 1


def test_errors():
    with pytest.raises(TypeNotAllowed):
        decode(pickle.dumps(Codec))
    with pytest.raises(DecodeError):
        decode(b"")
    with pytest.raises(EncodeError):
        encode(Codec())


def test_nothing_outside_of_pickling_imports_pickle():
    """Of this package's own modules; the standard library may."""
    code = """
import sys, builtins
original = builtins.__import__
importers = set()
def recording(name, globals=None, *rest):
    if name.partition(".")[0] in ("pickle", "_pickle", "marshal", "shelve"):
        importers.add((globals or {}).get("__name__", ""))
    return original(name, globals, *rest)
builtins.__import__ = recording
import sealwire.codec
print(sorted(name for name in importers if name.startswith("sealwire")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    names = eval(done.stdout)
    assert names
    assert all(name.startswith("sealwire.pickling.") for name in names)

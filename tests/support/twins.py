"""Holds the native vetting pass against the reference, on each message that a test decodes.

What the twin accepts the reference accepts, with the same findings; and it is in doubt only about what the reference
refuses.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sealwire import Codec
from sealwire.errors import DecodeError, LimitExceeded
from sealwire.native import NATIVE
from sealwire.pickling import Decoder
from sealwire.pickling.elide import elide
from sealwire.pickling.unpickler import _readable
from sealwire.pickling.vet import Vetting


def compare(decoder: Decoder, data: bytes | memoryview, large_buffers: dict[int, Any] | None = None) -> int:
    """Return what both find, or -1 if the twin is in doubt and the reference refuses."""
    if not isinstance(data, bytes):
        data, large_buffers = elide(data, decoder._limits.max_string)
    frames: list[int] = []
    expected_frames: list[int] = []
    found = decoder._vet(data, large_buffers, frames)
    try:
        expected = Vetting(data, decoder._rules, large_buffers).run(expected_frames)
        assert frames == expected_frames
    except (DecodeError, BytesWarning, RecursionError, MemoryError):
        expected = -1
    assert found == expected, f"twin {found}, reference {expected}: {data[:2000]!r}"
    return found


def compare_each(monkeypatch: Any) -> None:
    """From now on compare whatever is decoded or checked."""
    if not NATIVE:
        return
    check, decode, decode_by_codec = Decoder.check, Decoder.decode, Codec.decode

    def compare_readable(decoder: Decoder, data: Any) -> None:
        if isinstance(data, bytes | bytearray | memoryview) and memoryview(data).nbytes <= decoder._max_size:
            with suppress(LimitExceeded):  # by elide, before either
                compare(decoder, _readable(data))

    def compare_and_decode(self: Decoder, data: Any) -> Any:
        compare_readable(self, data)
        return decode(self, data)

    def compare_and_decode_by_codec(self: Codec, data: Any) -> Any:
        compare_readable(self._decoder, data)
        return decode_by_codec(self, data)

    def compare_and_check(self: Decoder, data: Any, large_buffers: Any = None, frames: Any = None) -> int:
        found = check(self, data, large_buffers, frames)
        assert compare(self, data, large_buffers) == found
        return found

    monkeypatch.setattr(Decoder, "check", compare_and_check)
    monkeypatch.setattr(Decoder, "decode", compare_and_decode)
    monkeypatch.setattr(Codec, "decode", compare_and_decode_by_codec)

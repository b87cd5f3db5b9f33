import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import PayloadTooLarge, TruncatedFrame
from sealwire.wire.length_prefix import BYTE_COUNT, add_msg_header, len_frombytes, len_inbytes


def test_four_bytes_big_endian():
    assert BYTE_COUNT == 4
    assert len_inbytes(b"x" * 258) == b"\x00\x00\x01\x02"
    assert len_frombytes(b"\x00\x00\x01\x02") == 258
    assert add_msg_header(b"hello") == b"\x00\x00\x00\x05hello"
    assert add_msg_header(b"") == bytes(4)


@given(st.binary(max_size=300))
def test_header_and_message_come_back(message):
    framed = add_msg_header(message)
    assert framed[BYTE_COUNT:] == message
    assert len_frombytes(framed[:BYTE_COUNT]) == len(message)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like(kind):
    assert add_msg_header(kind(b"abc")) == b"\x00\x00\x00\x03abc"
    assert len_frombytes(kind(b"\x00\x00\x00\x03")) == 3


def test_length_of_a_view_is_in_bytes():
    assert len_inbytes(memoryview(b"12345678").cast("I")) == b"\x00\x00\x00\x08"


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_length_of_other_than_four_bytes_is_refused(count):
    with pytest.raises(TruncatedFrame, match=f"not {count}"):
        len_frombytes(bytes(count))


def test_a_message_over_four_gib_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 1 << 32

    class Largest(bytes):
        def __len__(self):
            return (1 << 32) - 1

    assert len_inbytes(Largest()) == b"\xff\xff\xff\xff"
    with pytest.raises(PayloadTooLarge, match="4294967296"):
        len_inbytes(Huge())

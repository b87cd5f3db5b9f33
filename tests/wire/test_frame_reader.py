import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire.errors import BadTag, FrameTooLarge, InvalidState, RemoteProtocolError, TruncatedFrame
from sealwire.native import NATIVE
from sealwire.wire.frame_reader import FIRST_BODY, STAGING, Reader
from sealwire.wire.frames import Kind
from sealwire.wire.keys import Mac
from sealwire.wire.sealing import PIECE, Sealer

MAC = Mac(b"k" * 32)
CAP = 1 << 21


def reader():
    made = Reader()
    made.establish(MAC, CAP, from_client=True)
    return made


def stream(*payloads):
    sealer = Sealer(MAC, max_frame=CAP, sequence=0)
    return b"".join(b"".join(sealer.seal(Kind.MESSAGE, payload)) for payload in payloads)


def read(made, data, sizes=None):
    """Everything that comes out of ``data`` put in by pieces of these sizes, again and again."""
    payloads, view, turn = [], memoryview(data), 0
    while True:
        while (frame := made.next_frame()) is not None:
            payloads.append(bytes(frame.payload))
        if not view:
            return payloads
        buffer = made.get_buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(view), sizes[turn % len(sizes)] if sizes else 1 << 30)
        buffer[:count] = view[:count]
        del buffer
        made.buffer_updated(count)
        view, turn = view[count:], turn + 1


def test_an_empty_buffer_that_was_not_written_to_is_given_again():
    made = reader()
    assert made.get_buffer() == made.get_buffer()
    assert read(made, stream(b"then")) == [b"then"]


@pytest.mark.skipif(not NATIVE, reason="the native core is not there")
@pytest.mark.parametrize("lacking", [0, 1, 3000])
def test_a_frame_of_two_records_that_the_native_core_is_in_doubt_about_is_read_here(lacking):
    made, data = reader(), stream(b"p" * 20_000)
    made.opener.feed(data[: len(data) - lacking])
    assert made.opener.next(5) is None
    assert made.next_kind == Kind.MESSAGE
    with pytest.raises(InvalidState):
        made.get_buffer()
    frame = made.next_frame()
    if lacking:
        assert frame is None
        made.get_buffer()[:lacking] = data[-lacking:]
        made.buffer_updated(lacking)
        frame = made.next_frame()
    assert bytes(frame.payload) == b"p" * 20_000
    assert made.empty
    assert len(made.get_buffer()) == STAGING
    assert read(made, stream(b"then")) == [b"then"]
    made.opener.feed(data)
    made.discard()
    assert made.empty


@pytest.mark.skipif(not NATIVE, reason="the native core is not there")
def test_what_the_native_core_is_in_doubt_about_is_read_here():
    made, data = reader(), stream(b"first", b"second", b"third")
    made.opener.feed(data[:-5])
    assert (made.pending, made.empty, made.room) == (len(data) - 5, False, STAGING - len(data) + 5)
    assert made.opener.next(0).payload == b"first"
    assert made.opener.next(5) is None
    assert made.next_kind == Kind.MESSAGE
    assert made.next_message(1).payload == b"second"
    assert made.next_message(2) is None
    assert read(made, data[-5:]) == [b"third"]
    made.opener.feed(data)
    assert read(made, b"") == [b"first", b"second", b"third"]
    made.opener.feed(data)
    made.discard()
    assert made.empty


def test_what_is_dropped_before_the_handshake_and_in_the_middle_of_a_large_frame():
    made = Reader()
    made.get_buffer()[:3] = b"abc"
    made.buffer_updated(3)
    made.discard()
    assert made.empty
    made = reader()
    assert read(made, stream(b"x" * FIRST_BODY)[:-1]) == []
    assert made.has_body
    made.discard()
    assert (made.has_body, made.empty) == (False, True)


EDGES = [0, 1, STAGING - 57, STAGING - 56, STAGING - 55, PIECE - 1, PIECE, PIECE + 1, FIRST_BODY - 32, FIRST_BODY + 1]


@pytest.mark.parametrize("size", [*EDGES, 2 * FIRST_BODY, 300_000])
@pytest.mark.parametrize("step", [1 << 30, 1000, 16_384])
def test_sizes_around_every_edge(size, step):
    payloads = [os.urandom(size), b"between", os.urandom(size)]
    assert read(reader(), stream(*payloads), [step]) == payloads


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(EDGES).map(bytes)), max_size=6),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=8),
)
def test_any_split_gives_the_same_frames(payloads, sizes):
    assert read(reader(), stream(*payloads), sizes) == payloads


def test_byte_by_byte():
    payloads = [b"", b"x", os.urandom(STAGING)]
    assert read(reader(), stream(*payloads), [1]) == payloads


def test_a_length_is_judged_as_soon_as_it_is_there():
    made = reader()
    with pytest.raises(FrameTooLarge, match=f"maximum is {CAP}"):
        read(made, (CAP + 1).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match="the minimum is 52"):
        read(reader(), (51).to_bytes(4, "big"))
    with pytest.raises(FrameTooLarge, match="maximum is 1024"):
        read(Reader(), (1025).to_bytes(4, "big"))


def test_memory_grows_with_the_bytes_and_not_with_the_length():
    made = reader()
    data = stream(bytes(CAP - 52))
    read(made, data[:1000], [1000])
    assert len(made._body._buffer) == FIRST_BODY
    read(made, data[1000:200_000])
    assert len(made._body._buffer) <= 2 * 200_000


@pytest.mark.parametrize("size", [10, STAGING, 200_000])
def test_every_flipped_byte_is_a_bad_tag(size):
    data = stream(bytes(size))
    for position in {4, 5, 6, 23, 24, len(data) // 2, len(data) - 33, len(data) - 32, len(data) - 1}:
        altered = bytearray(data)
        altered[position] ^= 1
        with pytest.raises(BadTag):
            read(reader(), bytes(altered))


@pytest.mark.parametrize("size", [10, STAGING])
def test_the_end_inside_a_frame_is_reported(size):
    data = stream(bytes(size))
    for cut in (1, 3, 4, 23, 24, 30, len(data) - 1):
        made = reader()
        read(made, data[:cut])
        assert not made.empty
        with pytest.raises(TruncatedFrame):
            made.eof()
    made = reader()
    read(made, data)
    assert made.empty
    made.eof()


def test_reading_before_taking_cannot_look_like_an_end():
    made = reader()
    data = stream(*[b"x" * 1000] * 20)
    made.get_buffer()[:] = data[:STAGING]
    made.buffer_updated(STAGING)
    with pytest.raises(InvalidState, match="call next_frame until"):
        made.get_buffer()
    made.discard()
    assert len(made.get_buffer()) == STAGING


def test_a_staging_area_is_there_only_while_it_has_bytes():
    made, data = reader(), stream(b"first", bytes(2 * STAGING))

    def memory():
        return len(made._staging)

    assert memory() == 0
    made.get_buffer()
    assert memory() == STAGING
    made.buffer_updated(0)
    assert memory() == 0, "nothing came"
    put(made, data[:10])
    made.get_buffer()
    made.buffer_updated(0)
    assert made.next_frame() is None
    assert memory() == STAGING, "a part of a frame is there"
    put(made, data[10:STAGING])
    assert made.next_frame().payload == b"first"
    assert memory() == STAGING, "a part of another frame is there"
    assert made.next_frame() is None
    assert memory() == 0, "the large frame has a buffer of its own"
    put(made, data[STAGING:])
    assert len(made.next_frame().payload) == 2 * STAGING
    made.buffer_updated(0)
    for size in (0, 9):
        put(made, stream(bytes(size)))
        assert made.next_frame() is not None
        assert memory() == 0, "the last frame was taken"


def test_payloads_outlive_what_comes_after_them():
    made = reader()
    data = stream(b"first", b"second")
    made.get_buffer()[: len(data)] = data
    made.buffer_updated(len(data))
    first = made.next_frame()
    made.get_buffer()[:10] = b"overwrites"
    assert first.payload == b"first"


def test_a_large_payload_is_not_copied_and_cannot_be_written():
    made = reader()
    data = stream(os.urandom(100_000))
    half = len(data) // 2
    read(made, data[:half])
    buffer = made._body._buffer
    view = memoryview(data)[half:]
    while view:
        target = made.get_buffer()
        count = min(len(target), len(view))
        target[:count] = view[:count]
        del target
        made.buffer_updated(count)
        view = view[count:]
    frame = made.next_frame()
    assert frame.payload.obj is buffer
    assert frame.payload.readonly


def put(made, data):
    view = made.get_buffer()
    view[: len(data)] = data
    del view
    made.buffer_updated(len(data))


def test_what_is_pending_and_how_much_room_there_is():
    made, first, second = reader(), *(len(stream(payload)) for payload in (b"one", b"seconds"))
    assert (made.pending, made.room) == (0, STAGING)
    put(made, stream(b"one", b"seconds")[:-1])
    assert (made.pending, made.room) == (first + second - 1, STAGING - first - second + 1)
    assert made.next_frame() is not None
    assert made.pending == second - 1
    large = reader()
    put(large, stream(bytes(2 * STAGING))[:STAGING])
    assert large.next_frame() is None
    assert (large.pending, large.room) == (0, 0), "a large frame has a buffer of its own"


def test_how_much_a_large_frame_lacks():
    made, data = reader(), stream(bytes(3 * STAGING), b"small")
    large = len(stream(bytes(3 * STAGING)))
    assert made.missing == 0
    put(made, data[:STAGING])
    assert made.missing == 0, "it is not known yet"
    assert made.next_frame() is None
    assert made.missing == large - STAGING
    put(made, data[STAGING : large - 1])
    assert made.missing == 1
    put(made, data[large - 1 : large])
    assert made.missing == 0
    assert made.next_frame() is not None
    put(made, data[large:-1])
    assert made.next_frame() is None
    assert made.missing == 0, "a small one is no large one"


def test_no_reader_gets_what_another_has_read():
    """However the other one was left; and no two of them have one buffer."""
    data = stream(*[os.urandom(3000)] * 6)

    def leave(made, count):
        put(made, data[:STAGING])
        for _ in range(count):
            assert made.next_frame() is not None
        if count == 5:
            put(made, data[STAGING:])  # the rest of a frame was moved to the front
            assert made.next_frame() is not None
        elif count == 3:
            made.discard()

    for count in (5, 3, 0, 5):
        others = [reader() for _ in range(12)]
        for other in others:
            leave(other, count)
        fresh = [reader() for _ in range(24)]
        views = [made.get_buffer() for made in fresh]
        assert all(bytes(view) == bytes(STAGING) for view in views)
        held = [made._staging.obj for made in fresh] + [other._staging.obj for other in others if other._staging]
        assert len({id(each) for each in held}) == len(held)
        for made in fresh:
            made.buffer_updated(0)

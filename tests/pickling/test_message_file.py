"""Long messages are built from pieces, whatever their frames, and give the values that pickle.loads gives."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest

import sealwire.pickling.unpickler
from sealwire import Codec, MalformedPickle
from sealwire.pickling import message_file
from sealwire.pickling.message_file import LONG_MESSAGE, PIECE, MessageFile, with_large_buffers
from sealwire.pickling.opcodes import FRAME, PROTO

LARGE = bytes(range(256)) * 300
VALUES = {
    "small objects": [{"key": (number, str(number))} for number in range(5_000)],
    "long texts": ["x" * size for size in (10, PIECE - 1, PIECE, PIECE + 1, 70_000, 200_000, 3)],
    "large bytes": [LARGE, "a" * 300, bytearray(LARGE), ["b"] * 9_000, LARGE[1:], "c" * 20_000],
    "one large bytes": LARGE,
    "objects": [datetime.timedelta(number) for number in range(3_000)],
    "large bytes among objects": [datetime.timedelta(1), LARGE, {"k": datetime.timedelta(2)}, LARGE[2:]] * 3,
}
CODEC = Codec()


@pytest.mark.parametrize(
    ("name", "protocol"),
    [(name, protocol) for name in VALUES for protocol in (2, 3, 4, 5) if protocol > 2 or "bytes" not in name],
)
@pytest.mark.parametrize("form", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
def test_values(name: str, protocol: int, form: Any) -> None:
    data = pickle.dumps(VALUES[name], protocol)
    assert len(data) > LONG_MESSAGE
    assert CODEC.decode(form(data)) == VALUES[name]


@pytest.mark.parametrize("waits", [False, True])
def test_a_server_has_it_wait_between_pieces(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    """For threads that go first; without a server nothing waits."""
    times: list[None] = []
    monkeypatch.setattr(message_file, "give_way", (lambda: times.append(None)) if waits else None)
    data = pickle.dumps(VALUES["small objects"])
    assert CODEC.decode(data) == VALUES["small objects"]
    assert len(times) >= (len(data) // (2 * PIECE) if waits else 0)


def frame(content: bytes) -> bytes:
    return bytes((FRAME,)) + len(content).to_bytes(8, "little") + content


def items(count: int) -> bytes:
    return b"K\x01" * count


HEAD = bytes((PROTO, 4))
TAIL = b"e."
OPEN = b"](" + b""
FRAMES = {
    "none": HEAD + OPEN + items(20_000) + TAIL,
    "one": HEAD + frame(OPEN + items(20_000) + TAIL),
    "many short": HEAD + frame(OPEN) + frame(items(2)) * 10_000 + frame(TAIL),
    "long after many opcodes outside of frames": HEAD + OPEN + items(5_000) + frame(items(15_000) + TAIL),
    "long, short, outside, long": (
        HEAD + frame(OPEN + items(5_000)) + frame(items(2)) + items(4_998) + frame(items(10_000)) + TAIL
    ),
    "exactly a piece": HEAD + frame(OPEN + items(PIECE // 2 - 1)) + frame(items(PIECE // 2)) * 3 + items(3617) + TAIL,
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("form", [bytes, bytearray])
def test_frames(name: str, form: Any) -> None:
    expected = pickle.loads(FRAMES[name])
    assert expected == [1] * len(expected)
    assert CODEC.decode(form(FRAMES[name])) == expected


def test_frames_between_large_bytes_of_both_opcodes() -> None:
    short = b"B" + len(LARGE).to_bytes(4, "little") + LARGE
    long = b"\x8e" + len(LARGE).to_bytes(8, "little") + LARGE
    data = HEAD + frame(OPEN + items(9_000)) + short + frame(items(9_000)) + long + frame(items(9_000) + TAIL)
    for form in (bytes, bytearray):
        assert CODEC.decode(form(data)) == [1] * 9_000 + [LARGE] + [1] * 9_000 + [LARGE] + [1] * 9_000


def test_frames_move_by_the_large_bytes_before_them() -> None:
    sizes = {70: 10, 30: 100, 60: 1_000, 95: 10_000}
    buffers = {at: bytes(size) for at, size in sizes.items()}
    assert with_large_buffers([2, 40, 50, 90], buffers) == [2, 140, 150, 1_200]
    assert with_large_buffers([2, 40], {}) == [2, 40]


def test_a_frame_inside_a_long_one_is_refused() -> None:
    with pytest.raises(MalformedPickle, match="a frame out of place"):
        CODEC.decode(HEAD + frame(OPEN + items(10_000) + frame(items(10_000)) + TAIL))


def test_the_unpickler_reads_no_more_than_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    longest: list[int] = []

    class Watched(MessageFile):
        def peek(self, size: int) -> bytes:
            piece = super().peek(size)
            longest.append(len(piece))
            return piece

        def read(self, size: int) -> bytes:
            longest.append(size)
            return super().read(size)

    monkeypatch.setattr(sealwire.pickling.unpickler, "MessageFile", Watched)
    for data in (*FRAMES.values(), pickle.dumps(VALUES["small objects"]), pickle.dumps(VALUES["objects"])):
        longest.clear()
        CODEC.decode(data)
        assert max(longest) <= PIECE
        assert len(longest) >= len(data) // PIECE


@pytest.mark.parametrize(("size", "files"), [(LONG_MESSAGE, 0), (LONG_MESSAGE + 1, 1)])
def test_the_shortest_message_that_is_read_in_pieces(size: int, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MessageFile] = []

    def noted(*arguments: Any) -> MessageFile:
        made.append(MessageFile(*arguments))
        return made[-1]

    monkeypatch.setattr(sealwire.pickling.unpickler, "MessageFile", noted)
    content = bytes(size - 8)
    assert CODEC.decode(HEAD + b"B" + len(content).to_bytes(4, "little") + content + b".") == content
    assert CODEC.decode(pickle.dumps(datetime.timedelta(1))) == datetime.timedelta(1)
    assert len(made) == files


def test_it_reads_like_a_file() -> None:
    file = MessageFile(memoryview(b"abc\ndef\nrest"))
    assert file.readline() == b"abc\n"
    assert file.peek(1) == b"def\nrest"
    assert file.read(2) == b"de"
    buffer = bytearray(20)
    assert file.readinto(memoryview(buffer)) == 6
    assert buffer[:6] == b"f\nrest"
    assert file.readline() == file.read(1) == b""


def test_it_fills_a_large_buffer_in_steps() -> None:
    content = bytes(range(251)) * 2_500
    file = MessageFile(b"head" + content + b"tail")
    assert file.read(4) == b"head"
    buffer = bytearray(len(content))
    assert file.readinto(memoryview(buffer)) == len(content) > 1 << 19
    assert buffer == content
    assert file.read(5) == b"tail"


@pytest.mark.parametrize(("size", "line"), [(511, b"x" * 511 + b"\n"), (512, b"")])
def test_a_line_has_512_bytes_at_most(size: int, line: bytes) -> None:
    file = MessageFile(b"x" * size + b"\nrest")
    assert file.readline() == line
    assert file.peek(1) == (b"rest" if line else b"x" * size + b"\nrest")

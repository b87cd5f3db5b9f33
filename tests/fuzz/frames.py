"""The frame reader: any pieces give the frames that a plain reading of the format finds, at bounded cost."""

from __future__ import annotations

from functools import partial

from fuzz.harness import Source, refusal
from sealwire.errors import BadTag, FrameTooLarge, RemoteProtocolError
from sealwire.wire.features import Features
from sealwire.wire.frame_reader import FIRST_BODY, STAGING, Frame, Reader
from sealwire.wire.frames import HANDSHAKE_CAP, HEAD, MIN_LENGTH, TAG
from sealwire.wire.keys import Mac
from sealwire.wire.sequence import HeaderChecker

RUNS = 5_000
MAC = Mac(bytes(range(32)))
CAPS = (52, 1024, 20_000, 1 << 18)
FEATURES = (Features(), Features(metadata=True, cancel=True, window=1000, at_once=8))

Fields = tuple[int, int, int, int, int, bytes]


def sealed(source: Source) -> bytes:
    """Frames of a peer that has the key, each with fields of its choice; their payloads are repeated to be long."""
    stream = b""
    for number in range(20):
        if not source:
            break
        kind, flags, wait = source.number(13), source.number(255), source.number(0xFFFF, 2)
        reply_to = source.number(2**64 - 1, source.choice(0, 1, 8))
        sequence = number + source.choice(0, 0, 0, 0, 0, 0, 0, 1)
        payload = source.block() * source.choice(1, 1, 2, 100, 400)
        signed = HEAD.pack(len(payload) + MIN_LENGTH, kind, flags, wait, sequence, reply_to) + payload
        stream += signed + MAC.tag(signed)
    return stream


def plain(
    stream: bytes, cap: int, checker: HeaderChecker, *, tagged: bool
) -> tuple[list[Fields], type[Exception] | None, int]:
    """Return the frames, the error after them, and the position of the frame that is wrong."""
    frames: list[Fields] = []
    at = 0
    while len(stream) - at >= 4:
        length = int.from_bytes(stream[at : at + 4])
        if length > cap:
            return frames, FrameTooLarge, at
        if length < MIN_LENGTH:
            return frames, RemoteProtocolError, at
        frame = stream[at : at + 4 + length]
        if len(frame) < 4 + length:
            break
        if tagged and MAC.tag(frame[:-TAG]) != frame[-TAG:]:
            return frames, BadTag, at
        _, *fields = HEAD.unpack_from(frame)
        frames.append((*fields, frame[HEAD.size : -TAG]))
        if tagged and (error := refusal(RemoteProtocolError, of=partial(checker.check, Frame(*frames[-1], b"")))):
            return frames, type(error), at
        at += len(frame)
    return frames, None, at


class Reading:
    """Feeds a reader, and keeps what comes out of it until something is wrong."""

    def __init__(self, cap: int, checker: HeaderChecker, *, tagged: bool, from_client: bool) -> None:
        self.reader = Reader()
        self.tagged = tagged
        if tagged:
            self.reader.establish(MAC, cap, from_client=from_client)
        self.checker = checker
        self.found: list[Fields] = []
        self.fed = 0
        self.before = 0
        """Bytes that were fed before the last ones."""

    def next(self) -> Frame | None:
        """Return the next frame, by the short cuts for small messages if those are sure."""
        opener, sequence = self.reader.opener, self.checker.sequence
        frame: Frame | None = None if opener is None else opener.next(sequence)
        frame = frame or self.reader.next_message(sequence) or self.reader.next_frame()
        if frame is not None:
            self.found.append((*frame[:5], bytes(frame.payload)))
            if self.tagged:
                self.checker.check(frame)
        return frame

    def feed(self, stream: bytes, steps: list[int]) -> None:
        while True:
            while self.next() is not None:
                pass
            assert self.reader.buffered <= max(FIRST_BODY, 2 * self.fed), "memory for bytes that did not come"
            assert self.reader.pending <= STAGING
            if self.fed == len(stream):
                return
            step = steps[len(self.found) % len(steps)]
            # As carriers do: with the native core, what came in one record goes past the buffer.
            if self.reader.opener is not None and self.reader.empty and step <= STAGING:
                piece = stream[self.fed :][:step]
                self.reader.opener.feed(piece)
            else:
                buffer = self.reader.get_buffer()
                piece = stream[self.fed :][: min(len(buffer), step)]
                buffer[: len(piece)] = piece
                del buffer
                self.reader.buffer_updated(len(piece))
            self.before, self.fed = self.fed, self.fed + len(piece)


def one(data: bytes) -> None:
    source = Source(data)
    tagged, own, from_client = (source.choice(True, False) for _ in range(3))
    cap, features = source.choice(*CAPS), source.choice(*FEATURES)
    sizes = [1 + source.number(0xFFFF, 2) for _ in range(3)]
    stream = sealed(source) if own else source.rest()
    steps = [max(size, len(stream) // 500) for size in sizes]  # so that it does not take too long
    if not tagged:
        cap = HANDSHAKE_CAP
    reading = Reading(cap, checker_of(features, from_client), tagged=tagged, from_client=from_client)
    error = refusal(RemoteProtocolError, of=lambda: reading.feed(stream, steps))
    frames, expected, at = plain(stream, cap, checker_of(features, from_client), tagged=tagged)
    assert reading.found == frames
    assert (None if error is None else type(error)) is expected
    if expected is FrameTooLarge:
        assert reading.before < at + 4, "bytes were read behind a length over the cap"


def checker_of(features: Features, from_client: bool) -> HeaderChecker:
    checker = HeaderChecker(from_client=from_client)
    checker.allow(features)
    return checker


def SEEDS() -> list[bytes]:
    steps = [bytes(6), b"\0\x63" * 3, b"\xff\xff" * 3]
    frame = b"\x03\0\0\0\0\0\0\5hello\0"
    long = b"\x03\0\0\0\0\0\0\xff" + bytes(255) + b"\4"
    made = [
        head + step + body
        for head in (b"\0\0\0\2\1", b"\0\0\1\3\0")
        for step in steps
        for body in (frame * 3, long + frame)
    ]
    whole = (70).to_bytes(4) + bytes(70)
    return [
        *made,
        b"\1\1\0\1\0" + steps[1] + whole,
        b"\0\1\0\1\0" + steps[1] + whole,
        b"\0\1\0\0\0" + steps[0] + b"\0\0\0\x35" + bytes(100),
    ]

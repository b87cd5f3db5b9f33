"""The native core passes small frames through TLS as the reference does, and otherwise leaves the socket to it."""

from __future__ import annotations

import pickle
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sealwire.native import NATIVE
from sealwire.sync.tls_socket import TLSSocket
from sealwire.wire.frame_reader import Reader
from sealwire.wire.frames import Kind
from sealwire.wire.keys import Mac
from sealwire.wire.sealing import Sealer
from support.service import Deployment
from support.tls_peer import connected

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

MAC = Mac(b"k" * 32)
CAP = 1 << 20


def frames(*sizes: int, first: int = 0) -> bytes:
    sealer = Sealer(MAC, max_frame=CAP, sequence=first)
    return b"".join(b"".join(sealer.seal(Kind.MESSAGE, b"p" * size)) for size in sizes)


ONE, TWO = frames(70), frames(70, 0)
STREAMS: dict[str, list[bytes]] = {
    "one": [ONE],
    "two in a record": [TWO],
    "two records": [ONE, TWO[len(ONE) :]],
    "a part": [ONE[:30], ONE[30:]],
    "a part of the second": [TWO[:-9], TWO[-9:]],
    "one of a full record": [frames(16_384 - 56), frames(5, first=1)],
    "one of a full record and more": [frames(16_384 - 56) + frames(5, first=1)],
    "a large one between": [frames(9, 60_000, 9)],
    "another kind": [Sealer(MAC, max_frame=CAP, sequence=0).seal(Kind.PING, b"p")[0]],  # type: ignore[index]  # a tuple
    "a wrong tag": [ONE[:-1] + bytes([ONE[-1] ^ 1])],
    "another sequence": [frames(5, first=3)],
    "too long": [b"\xff" * 40],
}


def took(sock: TLSSocket, reader: Reader, read: Callable[[], int]) -> list[Any]:
    """What comes out of a socket, up to the end or an error, and what is left in it."""
    found: list[Any] = []
    sequence = 0
    while True:
        try:
            count = read()
        except ssl.SSLWantReadError:
            break
        except OSError as error:
            found.append((type(error), str(error)))
            break
        found.append(count)
        if not count:
            break
        try:
            while True:
                frame = reader.opener.next(sequence) or reader.next_message(sequence) or reader.next_frame()
                if frame is None:
                    break
                found.append((frame[:5], bytes(frame.payload)))
                sequence += 1
        except Exception as error:
            found.append((type(error), str(error)))
            break
    return [*found, sock.buffered, sock._ciphertext.surplus, sock.flooded, reader.empty, reader.reads]


def outcome(deployment: Deployment, stream: list[bytes], end: str, *, native: bool) -> list[Any]:
    with connected(deployment) as (sock, peer):
        reader = Reader()
        reader.establish(MAC, CAP, from_client=True)
        records = sock.records()

        def read() -> int:
            taken = records.read(reader, False) if native else 0
            if not taken:
                buffer = reader.get_buffer()
                taken = sock.read(len(buffer), buffer)
                reader.buffer_updated(taken)
            return int(taken)

        data = b"".join(peer.record(piece) for piece in stream)
        if end == "spoilt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if end == "close_notify":
            data += peer.close_notify()
        peer.sock.sendall(data)
        if end:
            peer.sock.shutdown(socket.SHUT_WR)
        return took(sock, reader, read)


@pytest.mark.parametrize("end", ["", "close_notify", "cut", "spoilt"])
@pytest.mark.parametrize("name", STREAMS)
def test_it_reads_the_same(deployment: Deployment, name: str, end: str) -> None:
    native, reference = (outcome(deployment, STREAMS[name], end, native=native) for native in (True, False))
    assert native == reference


def test_it_takes_what_is_usual(deployment: Deployment) -> None:
    """Or it would be of no use."""
    with connected(deployment) as (sock, peer):
        reader = Reader()
        reader.establish(MAC, CAP, from_client=True)
        records = sock.records()
        peer.sock.sendall(peer.record(ONE))
        assert records.read(reader, False) == len(ONE)
        assert reader.opener.next(0).payload == b"p" * 70
        assert reader.empty


LARGE, EXACT = frames(20_000), frames(2 * 16_384 - 56)
IN_TWO_RECORDS: dict[str, list[bytes]] = {
    "one": [LARGE],
    "one of two full records": [EXACT],
    "of full records and more": [EXACT + frames(5, first=1)],
    "one and a small one": [frames(20_000, 5)],
    "one and a part": [LARGE + ONE[:9]],
    "two": [frames(16_400, 16_000)],
    "short records": [LARGE[:16_384], LARGE[16_384:16_400], LARGE[16_400:]],
    "without its end": [LARGE[:-10]],
    "of three records": [frames(40_000)],
    "another sequence": [frames(20_000, first=3)],
    "another kind": [LARGE[:4] + bytes([Kind.PART]) + LARGE[5:]],
    "a wrong tag": [LARGE[:-1] + bytes([LARGE[-1] ^ 1])],
    "over the cap": [b"\0\x10" + LARGE[2:]],
    "too long": [b"\xff" * 4 + LARGE[4:]],
}


@pytest.mark.parametrize("end", ["", "close_notify", "cut", "spoilt"])
@pytest.mark.parametrize("name", IN_TWO_RECORDS)
def test_it_reads_frames_in_two_records_the_same(deployment: Deployment, name: str, end: str) -> None:
    """In other steps."""

    def found(*, native: bool) -> list[Any]:
        *steps, is_buffered, surplus, is_flooded, is_empty, _ = outcome(
            deployment, IN_TWO_RECORDS[name], end, native=native
        )
        return [
            *(step for step in steps if not step or type(step) is tuple),
            is_buffered,
            surplus,
            is_flooded,
            is_empty,
        ]

    assert found(native=True) == found(native=False)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_it_takes_a_frame_in_two_records_at_once(deployment: Deployment, is_ahead: bool) -> None:
    """But not ahead of time, when it stays in the reader."""
    with connected(deployment) as (sock, peer):
        reader = Reader()
        reader.establish(MAC, CAP, from_client=True)
        peer.sock.sendall(peer.record(frames(20_000, 5)))
        assert sock.records().read(reader, is_ahead) == (16_384 if is_ahead else len(LARGE))
        assert (reader.opener.next(0) is None) is is_ahead
        assert sock.buffered


def test_one_frame_goes_at_once(deployment: Deployment) -> None:
    with connected(deployment) as (sock, peer):
        queued: list[Any] = [(LARGE,)]
        assert sock.records().write(queued)
        assert queued == []
        assert peer.read_all(len(LARGE)) == LARGE


def test_small_frames_go_in_one_record(deployment: Deployment) -> None:
    with connected(deployment) as (sock, peer):
        queued: list[Any] = [(frames(5),), (frames(6, first=1),)]
        assert sock.records().write(queued)
        assert queued == []
        peer.incoming.write(peer.sock.recv(65_536))
        assert peer.tls.read(65_536) == frames(5, 6)


@pytest.mark.parametrize("queued", [[], [iter([b"piece"])], [(b"a", b"b")], [(bytearray(b"x"),)], [(b"x" * 9000,)] * 2])
def test_it_leaves_other_frames_as_they_are(deployment: Deployment, queued: list[Any]) -> None:
    with connected(deployment) as (sock, _):
        before = list(queued)
        assert not sock.records().write(queued)
        assert queued == before


def test_it_leaves_what_the_kernel_does_not_take(deployment: Deployment) -> None:
    with connected(deployment) as (sock, peer):
        records, frame, sent = sock.records(), b"x" * 16_000, 0
        queued: list[Any] = [(frame,)]
        while records.write(queued):
            sent += len(frame)
            queued = [(frame,)]
        assert queued == [(frame,)]
        assert not records.write(queued)
        thread = threading.Thread(target=lambda: taken.append(peer.read_all(sent + 16_000)))
        taken: list[bytes] = []
        thread.start()
        sock.setblocking(True)
        assert sock.write(frame) == 16_000
        thread.join()
        assert taken == [b"x" * (sent + 16_000)]


def test_a_broken_connection_raises(deployment: Deployment) -> None:
    with connected(deployment) as (sock, peer):
        peer.sock.close()
        with pytest.raises(OSError, match="Broken pipe"):
            sock.records().write([(b"x",)])


def test_it_cannot_be_pickled(deployment: Deployment) -> None:
    with connected(deployment) as (sock, _), pytest.raises(TypeError):
        pickle.dumps(sock.records())

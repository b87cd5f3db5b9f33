"""The pump of both ends: whatever the sizes of TLS records and of reads, no frame stays behind."""

from __future__ import annotations

import pytest

from reference import protocol as p
from reference.peer import RefClient
from sealwire import ThreadingTCPServer
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")

RECORD = 16_384


def several(client: RefClient, sizes: list[int]) -> bytes:
    """The frames of so many requests, of such sizes with all that belongs to them, to be sent by hand."""
    data = b""
    for size in sizes:
        data += p.frame(p.MESSAGE, bytes(size - 56), client.next_sequence, 0, client.key_out)
        client.incoming.unanswered[client.next_sequence] = (p.MESSAGE, b"")
        client.incoming.requests.add(client.next_sequence)
        client.next_sequence += 1
    return data


@pytest.mark.parametrize(
    "sizes",
    [
        *([RECORD + more] for more in (-1, 0, 1)),
        *([RECORD + more, 56] for more in (-57, -56, -55, -1, 0, 1)),
        *([56, RECORD * 4 + more, 56, 56] for more in (-113, -112, -111, 0)),
        [100] * 1000,
        [65_536 + 56, 65_536 + 57, 56, 200_000, 56],
    ],
    ids=repr,
)
def test_frames_across_records(deployment: Deployment, sizes: list[int]) -> None:
    """In one write, so that records and frames end at different places; then silence, so that a rest would show."""
    server = ThreadingTCPServer(
        ("127.0.0.1", 0), lambda message: b"%d" % len(message), deployment.server_security(raw=True)
    )
    with running(server) as port, deployment.ref_client(port, timeout=4) as client:
        client.send_raw(several(client, sizes))
        replies = [client.read_frame().payload for _ in sizes]
        assert replies == [b"%d" % (size - 56) for size in sizes]
        client.send_close()
        client.expect_end()


@pytest.mark.parametrize(
    "size", [0, 1, *range(RECORD - 60, RECORD - 50), RECORD, 65_535, 65_536, 65_537, 262_144, 3_000_000]
)
def test_sizes_of_replies(deployment: Deployment, size: int) -> None:
    with (
        deployment.ref_server(handler=lambda payload: bytes(size), max_frame=2**23) as server,
        deployment.client(server.port, raw=True, wait=4) as client,
    ):
        for _ in range(3):
            assert len(client.send_request(b"x" * (size // 2))) == size

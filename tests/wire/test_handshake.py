"""HELLO, WELCOME and REJECT, without a protocol around them."""

from __future__ import annotations

from typing import Any

import pytest

from sealwire.errors import AuthenticationError, BadTag, BadVersion, RemoteProtocolError, UnknownKey
from sealwire.wire.frame_reader import Frame, Reader
from sealwire.wire.frames import HEAD, TAG, Kind, RejectCode, unpack_reject
from sealwire.wire.handshake import (
    ClientHandshake,
    HandshakeResult,
    Rejection,
    ServerHandshake,
    ServerParameters,
    reject,
)
from sealwire.wire.keys import Binding, Key
from support.wire import BINDING, KEY

OTHER = Binding.of(server=b"server leaf", client=b"another leaf")


def parsed(raw: bytes) -> Frame:
    reader = Reader()
    reader.get_buffer()[: len(raw)] = raw
    reader.buffer_updated(len(raw))
    frame = reader.next_frame()
    assert frame is not None
    return frame


def client(**changes: Any) -> ClientHandshake:
    parameters = {
        "key": KEY, "binding": BINDING, "codec": "raw", "server_name": "localhost", "max_frame": 4096, "nonce": None,
    }  # fmt: skip
    return ClientHandshake(**(parameters | changes))


def server(**changes: Any) -> ServerHandshake:
    parameters: dict[str, Any] = {
        "find_key": {"k1": KEY}.get, "accepts_name": "localhost".__eq__, "binding": BINDING, "codec": "raw",
        "max_frame": 8192,
    }  # fmt: skip
    return ServerHandshake(ServerParameters(**(parameters | changes)))


def answer(ours: ClientHandshake, theirs: ServerHandshake) -> tuple[bytes, HandshakeResult]:
    outcome = theirs.check_hello(parsed(ours.hello))
    assert not isinstance(outcome, Rejection)
    return outcome


def test_both_sides_derive_the_same_keys() -> None:
    ours = client()
    welcome, theirs = answer(ours, server())
    result = ours.complete(parsed(welcome))
    assert (result.key, result.max_frame) == (KEY, 8192)
    assert (theirs.key, theirs.max_frame) == (KEY, 4096)
    for one, other in zip(result.traffic, theirs.traffic, strict=True):
        assert one.tag(b"x") == other.tag(b"x")
    up, down = result.traffic
    assert up.tag(b"x") != down.tag(b"x")


def test_keys_differ_from_connection_to_connection() -> None:
    results = [answer(client(), server())[1] for _ in range(2)]
    results.append(answer(client(binding=OTHER), server(binding=OTHER))[1])
    assert len({mac.tag(b"x") for result in results for mac in result.traffic}) == 6


@pytest.mark.parametrize(
    ("ours", "theirs", "code", "error"),
    [
        ({}, {"find_key": {}.get}, RejectCode.NOT_AUTHORISED, UnknownKey),
        ({"key": Key("k1", b"x" * 32)}, {}, RejectCode.NOT_AUTHORISED, BadTag),
        ({"binding": OTHER}, {}, RejectCode.NOT_AUTHORISED, BadTag),
        ({"server_name": "other"}, {}, RejectCode.NOT_AUTHORISED, AuthenticationError),
        ({}, {"peer_problem": "not on the list"}, RejectCode.NOT_AUTHORISED, AuthenticationError),
        ({"codec": "other"}, {}, RejectCode.CODEC, RemoteProtocolError),
        ({}, {"busy": lambda: RejectCode.OVERLOADED}, RejectCode.OVERLOADED, None),
    ],
)
def test_rejections(ours: dict[str, Any], theirs: dict[str, Any], code: int, error: type[Exception] | None) -> None:
    outcome = server(**theirs).check_hello(parsed(client(**ours).hello))
    assert isinstance(outcome, Rejection)
    assert outcome.code == code
    assert type(outcome.error) is (error or type(None))


def test_another_version_is_rejected_unread() -> None:
    frame = parsed(client().hello)._replace(payload=b"\x02")
    outcome = server(find_key=pytest.fail).check_hello(frame)
    assert isinstance(outcome, Rejection)
    assert outcome.code == RejectCode.VERSION
    assert isinstance(outcome.error, BadVersion)


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_malformed_hello(length: int) -> None:
    frame = parsed(client().hello)
    with pytest.raises(RemoteProtocolError):
        server().check_hello(frame._replace(payload=bytes(frame.payload)[:length]))


def test_a_welcome_for_another_hello() -> None:
    ours, others = client(), client()
    welcome, _ = answer(others, server())
    with pytest.raises(BadTag):
        ours.complete(parsed(welcome))


def test_reject_has_a_zero_tag() -> None:
    raw = reject(RejectCode.OVERLOADED)
    frame = parsed(raw)
    assert (frame.kind, frame.sequence) == (Kind.REJECT, 0)
    assert unpack_reject(frame.payload) == RejectCode.OVERLOADED
    assert raw[-TAG:] == bytes(TAG)
    assert len(raw) == HEAD.size + 2 + TAG

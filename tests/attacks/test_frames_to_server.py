"""Attacks by the network, or by a holder of a certificate, on frames on their way to a server: none is delivered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from reference import protocol as p
from reference.peer import End, Ended, Frame, RefClient, Rejected
from support.aio import KINDS, served_by
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")

PAYLOAD = b"transfer"
VERSION = range(24 * 8, 25 * 8)
"""The bits of HELLO with the version."""


class Target:
    """A server that counts what its handler sees."""

    def __init__(self, deployment: Deployment, port: int, delivered: list[bytes], kind: str) -> None:
        self.deployment, self.port, self.delivered, self.kind = deployment, port, delivered, kind

    def delivers(self, message: bytes) -> None:
        """Wait for a message that was handed over before its connection ended.

        On asyncio it is not run if its handler still waited for a thread, since nobody waits for the reply.
        """
        eventually(lambda: self.delivered == [message] or self.kind == "asyncio")
        assert self.delivered in ([message], [])

    def connect(self, **options: object) -> RefClient:
        return self.deployment.ref_client(self.port, **options)

    def serves(self) -> None:
        """The next client is served as if nothing had been."""
        before = len(self.delivered)
        with self.connect() as client:
            assert client.request(b"honest") == (p.MESSAGE, b"honest", 1)
            client.send_close()
            assert client.expect_end().code == 0
        assert self.delivered[before:] == [b"honest"]


@pytest.fixture(params=KINDS)
def target(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[Target]:
    delivered: list[bytes] = []

    def respond(message: bytes) -> bytes:
        delivered.append(message)
        return message

    caplog.set_level(logging.DEBUG, "sealwire")
    with served_by(request.param, respond, deployment.server_security(raw=True)) as port:
        target = Target(deployment, port, delivered, request.param)
        yield target
        target.serves()
    assert PAYLOAD.decode() not in caplog.text


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


def sample(size: int) -> list[int]:
    """Return the bits of a frame to flip: all of its length and of HELLO's version, which decide how it ends, and one
    of each other byte. Every bit is tried, and every cut, in tests/wire/test_protocol.py.
    """
    return sorted({*range(32), *VERSION, *(byte * 8 + byte % 8 for byte in range(size))})


def hello(client: RefClient, **fields: object) -> bytes:
    return p.frame(
        p.HELLO, client.hello_payload(**fields), 0, 0, p.k_hello(client.psk, client.server_der, client.client_der)
    )


def message(client: RefClient, sequence: int = 1, payload: bytes = PAYLOAD) -> bytes:
    return p.frame(p.MESSAGE, payload, sequence, 0, client.key_out)


def finish(client: RefClient) -> End:
    """End our side, so that a server that still waits for a rest sees that there is none."""
    client.link.close_notify()
    return client.expect_end()


def test_another_connection_of_the_same_client_goes_on(target: Target) -> None:
    """Before, while and after one of its connections is ended for what it sent."""
    with target.connect() as good, target.connect() as bad:
        good.send_message(b"before")
        bad.send_raw(flipped(message(bad), 300))
        assert finish(bad).code == 4
        good.send_message(b"after")
        assert [good.receive(number).payload for number in (1, 2)] == [b"before", b"after"]
    assert target.delivered == [b"before", b"after"]


def test_bits_of_hello(target: Target) -> None:
    def attack(bit: int) -> tuple[int, int | None, list[Frame]]:
        with target.connect(until="tls") as client:
            client.send_hello(flipped(hello(client), bit))
            client.link.close_notify()
            try:
                client.read_welcome()
            except Rejected as rejected:
                return bit, rejected.code, client.expect_end().frames
            except Ended:
                return bit, None, []
        pytest.fail(f"bit {bit} made no difference")

    with target.connect(until="tls") as client:
        size = len(hello(client))
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attack, sample(size)))
    assert {code for _, code, _ in outcomes} == {None, 1, 3}
    # Only the version's eight bits may say so.
    assert [bit for bit, code, _ in outcomes if code == 1] == list(VERSION)
    assert not any(frames for _, _, frames in outcomes)
    assert target.delivered == []


def test_bits_of_a_message(target: Target) -> None:
    def attack(bit: int) -> tuple[int | None, int | None, list[int]]:
        with target.connect() as client:
            client.send_raw(flipped(message(client), bit))
            end = finish(client)
            return end.code, end.last, [frame.kind for frame in end.frames]

    with ThreadPoolExecutor(4) as pool:
        outcomes = set(map(repr, pool.map(attack, sample(56 + len(PAYLOAD)))))
    assert outcomes == {repr((4, 0, [p.CLOSE]))}
    assert target.delivered == []


@pytest.mark.parametrize("established", [False, True], ids=["HELLO", "MESSAGE"])
def test_cut_short(target: Target, established: bool) -> None:
    def attack(size: int) -> tuple[int | None, list[int]]:
        with target.connect(until="welcome" if established else "tls") as client:
            whole = message(client) if established else hello(client)
            if not established:
                client.send_hello(whole[:size])
            else:
                client.send_raw(whole[:size])
            if size % 2:
                client.link.close_notify()
            else:
                client.link.sock.shutdown(1)
            try:
                end = client.expect_end()
            except Ended:
                end = client.link.end
            return end.code, [frame.kind for frame in end.frames]

    with target.connect() as client:
        size = len(message(client)) if established else len(hello(client))
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attack, range(0, size, 5)))  # an odd step, for both ways to end
    # A server that the TLS stream was cut under cannot say anything any more; where TLS ended properly it does.
    assert {(code, tuple(kinds)) for code, kinds in outcomes} <= {(None, ()), (4, (p.CLOSE,))}
    assert target.delivered == []


def test_replayed(target: Target) -> None:
    with target.connect() as client:
        frame = message(client)
        client.send_raw(frame + frame)
        client.incoming.unanswered[1] = (p.MESSAGE, PAYLOAD)
        client.incoming.requests.add(1)
        client.next_sequence = 3
        end = finish(client)
    assert (end.code, end.last) == (4, 1)
    target.delivers(PAYLOAD)


@pytest.mark.parametrize("sequences", [(2, 1), (2,), (0,), (2**64 - 1,)], ids=repr)
def test_out_of_order(target: Target, sequences: tuple[int, ...]) -> None:
    with target.connect() as client:
        client.send_raw(b"".join(message(client, sequence) for sequence in sequences))
        end = finish(client)
    assert (end.code, end.last) == (4, 0)
    assert target.delivered == []


def test_reflected(target: Target) -> None:
    """The server's own frames come back to it."""
    with target.connect() as client:
        client.send_message(b"one")
        reply = client.read_frame()
        client.send_raw(reply.raw)
        end = finish(client)
    assert end.code == 4
    with target.connect(until="hello") as client:
        welcome = client.read_welcome()
        client.send_raw(welcome.raw)
        assert finish(client).code == 4
    with target.connect(until="tls") as client:
        client.send_hello(welcome.raw)
        with pytest.raises(Ended):
            client.read_welcome()
    assert target.delivered == [b"one"]


def test_spliced_from_another_connection(target: Target) -> None:
    with target.connect() as first, target.connect() as second:
        second.send_raw(message(first))
        end = finish(second)
    assert (end.code, end.last) == (4, 0)
    assert target.delivered == []


def test_a_connection_replayed_whole(target: Target) -> None:
    """HELLO again, on TLS with the same certificates, is welcomed; what followed it is worth nothing."""
    with target.connect() as recorded:
        again = message(recorded)
    with target.connect(until="tls") as client:
        client.send_hello(recorded.hello_frame)
        client.read_welcome()
        client.send_raw(again)
        end = finish(client)
    assert (end.code, end.last) == (4, 0)
    assert target.delivered == []


def test_hello_on_other_certificates(target: Target, deployment: Deployment) -> None:
    """A relay with a certificate of its own, and one that the server would take."""
    deployment.files["twin"] = deployment.place.leaf("twin", "client.example")
    with target.connect(until="tls") as recorded, target.connect(role="twin", until="tls") as relay:
        relay.send_hello(hello(recorded))
        with pytest.raises(Rejected) as rejected:
            relay.read_welcome()
    assert rejected.value.code == 3
    assert target.delivered == []


@pytest.mark.parametrize(
    ("kind", "payload", "header"),
    [
        (p.HELLO, b"", {}),
        (p.WELCOME, b"", {}),
        (p.FAULT, p.fault_payload(19), {}),
        (p.PONG, b"", {}),
        (p.REJECT, p.u(3, 2), {}),
        (0, b"", {}),
        (9, b"", {}),
        (255, b"", {}),
        (p.MESSAGE, PAYLOAD, {"flags": 1}),
        (p.MESSAGE, PAYLOAD, {"flags": 128}),
        (p.MESSAGE, PAYLOAD, {"reply_to": 1}),
        (p.PING, b"", {"wait": 1}),
        (p.PING, b"x" * 126, {}),
        (p.CLOSE, b"", {}),
        (p.CLOSE, p.close_payload(0, 0) + b"x", {}),
        (p.CLOSE, p.close_payload(0, 1), {}),
    ],
    ids=repr,
)
def test_forbidden(target: Target, kind: int, payload: bytes, header: dict[str, int]) -> None:
    """Properly signed, and against the rules."""
    with target.connect() as client:
        client.send(kind, payload, **header)
        end = client.expect_end()
    assert (end.code, end.last) == (4, 0)
    assert target.delivered == []


@pytest.mark.parametrize("length", [0, 51, 1025, 2**24 + 1, 2**31, 2**32 - 1])
def test_length_before_hello(target: Target, length: int) -> None:
    """Refused when its four bytes are there: the client keeps its side open and sends nothing more."""
    with target.connect(until="tls") as client:
        client.send_hello(p.u(length, 4))
        end = client.expect_end(3)
    assert end.how == "fin"
    assert end.frames == []


@pytest.mark.parametrize("length", [0, 51, 2**24 + 1, 2**31, 2**32 - 1])
def test_length_after_the_handshake(target: Target, length: int) -> None:
    with target.connect() as client:
        client.send_raw(p.u(length, 4))
        end = client.expect_end(3)
    assert (end.code, end.last) == (4, 0)


@pytest.mark.parametrize("target", ["asyncio"], indirect=True)
def test_requests_in_progress_at_a_bad_frame(target: Target) -> None:
    """Its reply is dropped, if it was not sent before; CLOSE says that it was handed over."""
    with target.connect() as client:
        client.send_message(b"good")
        client.send_raw(flipped(message(client, 2), 300))
        client.next_sequence = 3
        end = finish(client)
    assert end.frames[-1].kind == p.CLOSE
    assert (end.code, end.last) == (4, 1)
    target.delivers(b"good")


@pytest.mark.parametrize("target", ["threads"], indirect=True)
def test_good_requests_before_a_bad_frame_are_answered(target: Target) -> None:
    with target.connect() as client:
        client.send_message(b"good")
        client.send_raw(flipped(message(client, 2), 300))
        client.next_sequence = 3
        end = finish(client)
    assert [frame.kind for frame in end.frames] == [p.MESSAGE, p.CLOSE]
    assert (end.code, end.last) == (4, 1)
    assert target.delivered == [b"good"]

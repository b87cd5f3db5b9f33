"""Sessions as docs/nats.md has them, by ends that have nothing of Sealwire's."""

from __future__ import annotations

import asyncio
import secrets
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from nats.aio.msg import Msg

from reference.nats import ACCEPT, DATA, END, OPEN, PROBE, RESET, WINDOW, Bridge, RawNATS, Session, message
from sealwire import ConnectionClosed, HandshakeFailed
from sealwire.nats import AsyncNATSClient, session
from sealwire.nats.link import Link
from support.service import Deployment


async def echo(data: bytes) -> bytes:
    return data


def test_the_reference_implementation(worker: Any, deployment: Deployment, url: str, subject: str, clean: None) -> None:
    """Its client is understood: more than a window each way, and the end."""
    with worker(echo, raw=True), Bridge(url, subject) as bridge, deployment.ref_client(bridge.port) as client:
        for size in (0, 1, 5000, 900_000):
            assert client.request(bytes(size))[1] == bytes(size)


@pytest.fixture
def opened(worker: Any, url: str, subject: str) -> Any:
    """A session that is accepted, with a worker whose window it knows."""
    with worker(echo, raw=True, limits={"handshake_timeout": 60.0}):
        session = Session(url, subject)
        session.open()
        assert session.worker
        with session.nats:
            yield session


def outcome(session: Session) -> Any:
    while session.over is None:
        session.take()
    return session.over


BREACHES = {
    "nothing": lambda s: b"",
    "shorter than a header": lambda s: message(DATA, 0, WINDOW)[:17],
    "another version": lambda s: b"\2" + message(DATA, 0, WINDOW)[1:],
    "an unknown kind": lambda s: message(6, 0, WINDOW),
    "data of PROBE": lambda s: message(PROBE, 0, WINDOW, b"x"),
    "data of END": lambda s: message(END, 0, WINDOW, b"x"),
    "a second OPEN": lambda s: message(OPEN, 0, WINDOW),
    "ACCEPT of a client": lambda s: message(ACCEPT, 0, WINDOW),
    "bytes that were left out": lambda s: message(DATA, 1, WINDOW, b"x"),
    "a limit after bytes that were left out": lambda s: message(DATA, 1, WINDOW),
    "beyond the limit": lambda s: message(DATA, 0, WINDOW, bytes(s.allowed + 1)),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_what_ends_a_session(opened: Session, breach: str, url: str, subject: str, deployment: Deployment) -> None:
    """Of a client; the worker says so, and serves others."""
    opened.nats.publish(opened.worker, BREACHES[breach](opened), opened.inbox if breach == "ACCEPT of a client" else "")
    assert outcome(opened) == RESET
    with Bridge(url, subject) as bridge, deployment.ref_client(bridge.port) as client:
        assert client.request(b"other")[1] == b"other"


def test_data_after_the_end(opened: Session) -> None:
    opened.publish(END)
    opened.publish(PROBE)
    opened.publish(DATA, b"x")
    assert outcome(opened) in (END, RESET)


def test_a_probe_is_answered(opened: Session) -> None:
    opened.publish(PROBE)
    assert opened.take() == DATA


def test_garbage_in_tls(opened: Session) -> None:
    """It ends with an alert and the end of the stream, as on TCP."""
    opened.publish(DATA, b"\x16\x03\x01\x00\x04" + bytes(4))
    assert outcome(opened) in (END, RESET)
    assert opened.received[:1] == b"\x15"


def test_a_client_that_has_gone(worker: Any, url: str, subject: str) -> None:
    """No client subscribes to its inbox: ACCEPT comes back, and the place is free at once."""
    with worker(echo, raw=True, limits={"handshake_timeout": 60.0}) as one, RawNATS(url) as nats:
        for _ in range(40):
            nats.publish(subject, message(OPEN, 0, WINDOW), "_INBOX.gone.x")
        with Session(url, subject).nats:
            pass
        session = Session(url, subject)
        with session.nats:
            session.open()
            assert session.worker
            for _ in range(200):
                session.publish(PROBE)
                session.take()
                if one.server.statistics().handshaking == 1:
                    return
        pytest.fail("40 sessions with nobody are still there")


@pytest.mark.parametrize(
    "garbage", [b"", b"x", message(DATA, 0, 1), message(ACCEPT, 0, 1), b"\0" * 18, message(OPEN, 7, 1), b"\xff" * 4000]
)
def test_what_is_no_open_on_the_subject(
    garbage: bytes, worker: Any, url: str, subject: str, deployment: Deployment
) -> None:
    with worker(echo, raw=True) as one, RawNATS(url) as nats:
        for reply in ("", "_INBOX.a", subject):
            nats.publish(subject, garbage, reply)
        with Bridge(url, subject) as bridge, deployment.ref_client(bridge.port) as client:
            assert client.request(b"other")[1] == b"other"
        assert one.unseen == []


class Impostor:
    """Serves a subject, and says to each OPEN what it is told to; no worker."""

    def __init__(self, url: str, subject: str) -> None:
        self.nats = RawNATS(url)
        self.nats.subscribe(subject)

    def answer(self, *answers: tuple[bytes, str]) -> None:
        _, inbox, _ = self.nats.next()
        for payload, reply in answers:
            self.nats.publish(inbox, payload, reply)
        self.nats.settle()


ANSWERS = {
    "two workers": [(message(ACCEPT, 0, 50_000), "_INBOX.w.1"), (message(ACCEPT, 0, 50_000), "_INBOX.w.2")],
    "data without ACCEPT": [(message(DATA, 0, 50_000, b"x"), "")],
    "ACCEPT without an inbox": [(message(ACCEPT, 0, 50_000), "")],
    "an inbox that is none": [(message(ACCEPT, 0, 50_000), "w"), (message(DATA, 0, 50_000, b"x"), "")],
    "a beginning that is lost": [(message(ACCEPT, 0, 50_000), "_INBOX.w.1"), (message(DATA, 9, 50_000, b"x"), "")],
    "no room": [(message(RESET, 0, 0), "")],
    "garbage": [(b"\xff" * 40, "")],
}


def test_nobody_reads_what_a_session_carries(worker: Any, url: str, subject: str, deployment: Deployment) -> None:
    """Neither the NATS server, which sees what this spy does, nor a client of it: no value and no name.

    A key id is too short to look for among so many bytes.
    """
    security = deployment.security("client", peers=["dns:localhost"])
    text = "Hunter2" * 1000

    async def ask() -> None:
        async with AsyncNATSClient(url, subject, sessions=1, security=security) as client:
            assert await client.send_request(text) == text

    with worker(lambda value: value), RawNATS(url) as spy:
        spy.subscribe(">")
        asyncio.run(ask())
        spy.settle()
        carried = b"".join(payload for _, _, payload in spy.messages)
    assert len(carried) > 2 * len(text)
    for secret in (b"Hunter2", b"client.example"):
        assert secret not in carried


@pytest.mark.parametrize("answers", ANSWERS)
def test_impostors(answers: str, url: str, subject: str, deployment: Deployment) -> None:
    """A client says that the handshake failed, in its time and with no request sent."""
    security = deployment.security("client", peers=["dns:localhost"])
    impostor = Impostor(url, subject)

    async def ask() -> None:
        async with AsyncNATSClient(url, subject, sessions=1, timeout=0.5, security=security) as client:
            asking = asyncio.create_task(client.send_request("x"))
            answering = asyncio.to_thread(impostor.answer, *ANSWERS[answers])
            await answering
            with pytest.raises((HandshakeFailed, TimeoutError)):
                await asking

    with impostor.nats:
        asyncio.run(ask())


def test_nobody_can_put_anything_into_a_session(worker: Any, url: str, subject: str, deployment: Deployment) -> None:
    """A stranger that knows the inboxes, and all positions, ends it at most; nothing is processed twice."""
    security = deployment.security("client", peers=["dns:localhost"])
    seen: list[Any] = []

    async def count(data: Any) -> Any:
        seen.append(data)
        await asyncio.sleep(0)
        return data

    with worker(count), RawNATS(url) as spy:
        spy.subscribe(">")

        async def replayed() -> None:
            async with AsyncNATSClient(url, subject, sessions=1, security=security) as client:
                assert await client.send_request(1) == 1
                heard = [await asyncio.to_thread(spy.next) for _ in range(8)]
                worker_inbox = next(reply for _, reply, payload in heard if payload[1:2] == bytes((ACCEPT,)))
                to_worker = [payload for to, _, payload in heard if to == worker_inbox and len(payload) > 18]
                replay = to_worker[-1]
                position = int.from_bytes(replay[2:10], "big") + len(replay) - 18
                spy.publish(worker_inbox, message(DATA, position, 1 << 20, replay[18:]))
                for number in range(2, 6):
                    with suppress(ConnectionClosed):
                        assert await client.send_request(number) == number
                assert seen == sorted(set(seen))

        asyncio.run(replayed())


class Slow(asyncio.BufferedProtocol):
    """Reads nothing before it is told to."""

    def __init__(self) -> None:
        self.buffer, self.received = bytearray(1000), b""

    def connection_made(self, transport: Any) -> None:
        transport.pause_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]


def test_a_window_of_single_bytes_takes_no_more_memory_than_one_of_a_message(url: str, deployment: Deployment) -> None:
    """Of an end that does not read: each message would take some hundred bytes."""
    sent = secrets.token_bytes(100_000)

    async def run() -> int:
        security = deployment.security("client", peers=["dns:localhost"])
        link = await Link.open([url], "nats", security, {}, 10.0)
        try:
            end, slow = session.Session(link, link.new_inbox(), "nobody", interval=60.0, is_client=False), Slow()
            await link.join(end)
            end.begin(slow)  # as much of a ByteStream as it needs
            tracemalloc.start()
            for position in range(len(sent)):
                kind = DATA if position else OPEN
                await end.receive(Msg(None, "", "", message(kind, position, 0, sent[position : position + 1])))
            held = tracemalloc.get_traced_memory()[0]
            end.resume_reading()
            while slow.received != sent:
                await asyncio.sleep(0)
            return held
        finally:
            tracemalloc.stop()
            await link.close()

    assert asyncio.run(run()) < 3 * len(sent)

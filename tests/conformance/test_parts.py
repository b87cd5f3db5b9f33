"""Requests and replies in parts, cancellation, and metadata."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.combinations import Running, in_parts
from conformance.conftest import IN_TURN, Case
from conformance.given import SERVICE
from conformance.handlers import Secret
from reference import protocol as p
from reference.features import Features, split
from reference.peer import Closed, RefClient
from sealwire import ConfigurationError, DeadlineExceeded, RemoteError, TypeNotAllowed, decode, encode
from support.service import eventually
from support.sides import SECRETS

SERVERS_OF_STREAMS = pytest.mark.pairs(
    lambda server, client: client.name in ("SynchronousTCPClient", "SynchronousUnixClient")
)
ALL = Features(metadata=True, cancel=True, window=20_000)


@contextmanager
def reference(case: Case, running: Running, features: Features = ALL) -> Iterator[RefClient]:
    """The reference client."""
    local = case.server.transport.local
    files = {name: None if local else str(case.ends.client.path(name)) for name in ("cert", "key")}
    where = (running.address, None) if local else ("127.0.0.1", running.address[1])
    with RefClient(
        *where,
        ca=str(case.ends.client.path("ca")),
        **files,
        psk=SECRETS["k1"],
        key_id="k1",
        codec="pickle-5",
        server_name=f"/{SERVICE}" if local else f"localhost/{SERVICE}",
        features=features,
    ) as client:
        yield client


def close_code(client: RefClient) -> int:
    """The code of the CLOSE that comes."""
    while True:
        try:
            client.read_one()
        except Closed as closed:
            return int(closed.frame.code)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


STREAMS = pytest.mark.pairs(lambda server, client: server.transport.stream and (server, client) in IN_TURN)


@STREAMS
def test_stream(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        for number, size in ((0, 0), (1, 0), (500, 10), (30, 100_000), (2, 3_000_000)):
            stream = client.stream(["count", number, size])
            assert [(each, len(data)) for each, data in stream] == [(each, size) for each in range(number)]
            assert stream.result == ("counted" if way == "in parts" else None)
            assert list(stream) == []
        assert client.request("after") == "after"


@STREAMS
def test_a_reply_without_parts(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        stream = case.client(running).stream(["zeros", 100])
        assert list(stream) == []
        assert stream.result == bytes(100)


@STREAMS
def test_parts_that_were_not_asked_for(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        if way == "in parts":
            assert client.request(["count", 3, 10]) == "counted"
        else:
            with pytest.raises(RemoteError, match=r"stream\(\)") as caught:
                client.request(["count", 3, 10])
            assert caught.value.code == 23
        assert client.request(["count", 0, 0]) == ("counted" if way == "in parts" else None)


@STREAMS
def test_a_stream_that_fails(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        stream, found = client.stream(["fail", 3]), []
        with pytest.raises(RemoteError, match="no more") as caught:
            found.extend(stream)
        assert (found, caught.value.code) == ([], 64) or caught.value.code == 64
        assert list(stream) == []
        assert client.request("after") == "after"


@STREAMS
def test_an_early_end(case: Case, way: str, tmp_path: Path) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        with client.stream(["endless", str(tmp_path / "notes")]) as stream:
            assert [next(stream) for _ in range(3)] == [0, 1, 2]
        assert list(stream) == []
        assert eventually(lambda: lines(tmp_path / "notes"))[0].startswith("closed ")
        assert client.request("after") == "after"


@STREAMS
def test_a_slow_consumer_holds_up_nobody_else(case: Case, way: str) -> None:
    if case.server.one_at_a_time:
        pytest.skip("the server has one connection at a time, and works on one request of it")
    if case.client_kind.name.startswith("ClientPool"):
        pytest.skip("the pool has one connection, and a stream has that to itself")
    with case.start(handler=way, limits={"part_window": 50_000}) as running:
        client = case.client(running)
        with client.stream(["count", 100, 10_000]) as stream:
            assert next(stream)[0] == 0
            assert [client.request(number) for number in range(20)] == list(range(20))
            assert len(list(stream)) == 99
        assert client.request("after") == "after"


@STREAMS
def test_a_part_that_the_client_refuses(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running, allow=[])
        stream = client.stream(["orders", 1000])
        with pytest.raises(TypeNotAllowed):
            next(stream)
        assert list(stream) == []
        assert client.request("after") == "after"


@STREAMS
def test_upload(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        for number, size in ((0, 0), (1, 1), (500, 10), (30, 100_000), (2, 3_000_000)):
            assert client.send_parts(bytes(size) for _ in range(number)) == number * size
        assert client.request("after") == "after"


@STREAMS
def test_an_early_answer(case: Case, way: str) -> None:
    sent = []

    def endless() -> Iterator[Any]:
        yield b"x"
        yield "enough"
        while True:
            sent.append(1)
            yield bytes(10_000)

    with case.start(handler=way) as running:
        client = case.client(running)
        assert client.send_parts(endless()) == ["early", 1]
        assert client.send_parts([b"x"]) == 1


@STREAMS
def test_an_upload_whose_parts_fail(case: Case, way: str) -> None:
    def failing() -> Iterator[Any]:
        yield b"x"
        raise KeyError("on purpose")

    with case.start(handler=way) as running:
        client = case.client(running)
        with pytest.raises(KeyError, match="on purpose"):
            client.send_parts(failing())
        assert client.send_parts([b"x"]) == 1


@STREAMS
def test_a_part_that_the_server_refuses(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        with pytest.raises(RemoteError, match="allowlist") as caught:
            client.send_parts([b"x", Secret("x"), b"y"])
        assert caught.value.code == 17
        assert client.send_parts([b"x"]) == 1


@STREAMS
def test_a_request_whose_time_is_over_is_cancelled(case: Case, way: str, tmp_path: Path) -> None:
    """The connection goes on: its state is the same."""
    with case.start(handler=way) as running:
        client = case.client(running)
        in_parts(client._client, "stream")
        assert client.request(["state"]) == 1
        with pytest.raises(DeadlineExceeded):
            client.request(["wait", str(tmp_path / "notes")], wait=0.5)
        assert eventually(lambda: lines(tmp_path / "notes")[1:]) == ["cancelled True"]
        assert client.request(["state"]) == 2


@STREAMS
def test_the_time_of_each_part(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        assert list(client.stream(["slow", 3, 0.8], wait=2)) == [0, 1, 2]
        with pytest.raises(DeadlineExceeded):
            list(client.stream(["slow", 1, 3], wait=0.3))


@pytest.mark.pairs(lambda server, client: (server, client) in IN_TURN)
def test_metadata(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        found: dict[str, str] = {}
        reply = client.request(["metadata"], metadata={"a": "1", "request-id": "mine"}, reply_metadata=found)
        assert reply == [{"a": "1", "request-id": "mine"}, "mine"]
        assert found == {"a": "1", "request-id": "mine", "seen": "yes"}
        if case.server.transport.stream:
            with client.stream(["metadata"], metadata={"b": "2"}) as stream:
                assert list(stream) == []
                assert (stream.result[0], stream.metadata) == ({"b": "2"}, {"b": "2", "seen": "yes"})
        with pytest.raises(ConfigurationError, match="key of metadata"):
            client.request(1, metadata={"a key": ""})
        with pytest.raises(RemoteError):
            client.request(["bad metadata"])
        assert client.request("after", metadata={}) == "after"


@SERVERS_OF_STREAMS
def test_the_reference_client(case: Case, way: str, tmp_path: Path) -> None:
    """Streams, early ends, uploads, early answers, cancellation, metadata, in one conversation."""
    with case.start(handler=way) as running, reference(case, running) as client:
        request = client.send_message(encode(["count", 100, 500]), wait=5, flags=p.PARTS)
        assert decode(client.receive(request).payload) == ("counted" if way == "in parts" else None)
        assert [decode(each)[0] for each in client.parts[request]] == list(range(100))
        request = client.send_message(encode(["endless", str(tmp_path / "endless")]), flags=p.PARTS)
        while request not in client.parts:
            client.read_one()
        client.cancel(request)
        assert client.receive(request).code == 22
        eventually(lambda: lines(tmp_path / "endless"))
        request = client.send_message(encode(["fail", 3]), flags=p.PARTS)
        assert client.receive(request).code == 64
        assert len(client.parts[request]) == 3
        request = client.upload([encode(bytes(1000))] * 100)
        assert decode(client.receive(request).payload) == 100_000
        request = client.upload([encode(b"x"), encode("enough"), *[encode(bytes(1000))] * 100])
        assert decode(client.receive(request).payload) == ["early", 1]
        request = client.upload([encode(b"x"), b"nonsense"])
        assert client.receive(request).code == 16
        request = client.send_message(encode(["metadata"]), values={"a": "1", "request-id": "mine"})
        values, payload = split(client.receive(request))
        assert values == {"a": "1", "request-id": "mine", "seen": "yes"}
        assert decode(payload) == [{"a": "1", "request-id": "mine"}, "mine"]
        request = client.send_message(encode(["metadata"]))
        assert decode(split(client.receive(request))[1]) == [{}, f"{client.identity}-{request}"]
        assert client.receive(client.send_message(encode(["bad metadata"]))).code == 19
        assert [decode(client.request(encode(["state"]))[1]) for _ in range(3)] == [1, 2, 3]
        request = client.send_message(encode(["wait", str(tmp_path / "wait")]))
        eventually(lambda: lines(tmp_path / "wait"))
        client.cancel(request)
        client.receive(request)
        assert eventually(lambda: lines(tmp_path / "wait")[1:]) == ["cancelled True"]


@STREAMS
def test_a_nested_call_takes_no_longer_than_its_caller_waits(case: Case, way: str) -> None:
    with case.start(handler=way) as running:
        client = case.client(running)
        assert 0 < client.request(["nested"], wait=20) <= 20
        stream = client.stream(["nested"], wait=30)
        assert list(stream) == []
        assert 20 < stream.result <= 30


# Attacks


@SERVERS_OF_STREAMS
def test_a_client_without_credit(case: Case, way: str, tmp_path: Path) -> None:
    """It gets no more than its window, is given up in time, and holds up no other client."""
    if case.server.one_at_a_time:
        pytest.skip("the server has one connection at a time")
    with (
        case.start(handler=way, limits={"part_timeout": 1.0}) as running,
        reference(case, running, Features(window=5000)) as client,
    ):
        request = client.send_message(encode(["count", 1000, 1000]), flags=p.PARTS)
        size = 0
        while size < 5000:
            size += len(client.read_frame().raw) - 4
        other = case.client(running)
        assert other.request(1) == 1
        got = client.read_frame()
        assert (got.kind, got.reply_to, got.code) == (p.FAULT, request, 20)
        assert client.request(encode(2))[1] == encode(2)


@SERVERS_OF_STREAMS
@pytest.mark.parametrize("crime", ["ended", "cancelled twice", "too eager", "credit for nothing", "unknown"])
def test_what_ends_a_connection(case: Case, way: str, crime: str, tmp_path: Path) -> None:
    with case.start(handler=way, limits={"part_window": 10_000}) as running:
        with reference(case, running) as client:
            if crime == "cancelled twice":
                request = client.send_message(encode(["wait", str(tmp_path / "notes")]))
                eventually(lambda: lines(tmp_path / "notes"))
                client.send_raw(
                    b"".join(
                        p.frame(p.CANCEL, b"", client.next_sequence + each, request, client.key_out) for each in (0, 1)
                    )
                )
            elif crime == "ended":
                request = client.upload([encode(b"x")])
                client.send(p.PART, encode(b"x"), reply_to=request)
            elif crime == "too eager":
                request = client.send_message(b"", flags=p.UPLOAD)
                client.send(p.PART, encode("enough"), reply_to=request)
                client.receive(request)  # from here on, nothing is granted
                for _ in range(2):
                    client.send(p.PART, encode(bytes(20_000)), reply_to=request)
            elif crime == "credit for nothing":
                client.send(p.CREDIT, p.u(0, 4), reply_to=client.send_message(encode(1)))
            else:
                client.send(p.PART, encode(b"x"), reply_to=7)
            assert close_code(client) == 4
        with reference(case, running) as client:
            assert client.request(encode(1))[1] == encode(1)


@SERVERS_OF_STREAMS
def test_an_upload_that_stalls(case: Case, way: str) -> None:
    """It is answered in time, and the connection goes on."""
    with case.start(handler=way, limits={"part_timeout": 0.5}) as running, reference(case, running) as client:
        request = client.send_message(b"", flags=p.UPLOAD)
        assert client.receive(request).code == 20
        client.end(request)
        assert client.request(encode(1))[1] == encode(1)


@SERVERS_OF_STREAMS
def test_the_end_of_a_connection_ends_its_streams(case: Case, way: str, tmp_path: Path) -> None:
    with case.start(handler=way) as running:
        with reference(case, running) as client:
            request = client.send_message(encode(["endless", str(tmp_path / "notes")]), flags=p.PARTS)
            while request not in client.parts:
                client.read_one()
            client.link.abort(reset=True)
        assert eventually(lambda: lines(tmp_path / "notes"))[0].startswith("closed ")
        assert case.client(running).request(1) == 1


@SERVERS_OF_STREAMS
def test_a_flood_of_cancelled_requests(case: Case, way: str) -> None:
    """Each is answered once, and the connection goes on."""
    with case.start(handler=way) as running, reference(case, running) as client:
        for _ in range(5):
            requests = [client.send_message(encode(each), flags=p.PARTS * (each % 2)) for each in range(40)]
            for request in requests:
                client.cancel(request)
            for request in requests:
                got = client.receive(request)
                assert got.kind == p.MESSAGE or got.code in (21, 22)
        assert client.request(encode(1))[1] == encode(1)


@SERVERS_OF_STREAMS
def test_too_many_streams(case: Case, way: str, tmp_path: Path) -> None:
    if case.server.one_at_a_time or not case.server.runs_coroutines:
        pytest.skip("the server works on one request of a connection at a time")
    with (
        case.start(handler=way, limits={"max_streams": 2, "max_in_flight": 1}) as running,
        reference(case, running) as client,
    ):
        first = [client.send_message(b"", flags=p.UPLOAD) for _ in range(2)]
        assert client.receive(client.send_message(b"", flags=p.UPLOAD)).code == 21
        assert client.request(encode(1))[1] == encode(1)
        for request in first:
            client.end(request)
            assert decode(client.receive(request).payload) == 0


@SERVERS_OF_STREAMS
def test_too_many_parts(case: Case, way: str) -> None:
    with case.start(handler=way, limits={"max_parts": 5}) as running, reference(case, running) as client:
        request = client.send_message(encode(["count", 6, 10]), flags=p.PARTS)
        assert client.receive(request).code == 19
        assert len(client.parts[request]) == 5
        assert client.receive(client.upload([encode(b"x")] * 6)).code == 18
        assert decode(client.receive(client.upload([encode(b"x")] * 5)).payload) == 5


@SERVERS_OF_STREAMS
def test_the_shutdown_ends_streams(case: Case, way: str, tmp_path: Path) -> None:
    """A client that waits for more is told so."""
    with case.start(handler=way) as running:
        with reference(case, running) as client:
            request = client.send_message(encode(["endless", str(tmp_path / "notes")]), flags=p.PARTS)
            while request not in client.parts:
                client.read_one()
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            try:
                got = client.receive(request)
                assert (got.kind, got.code) == (p.FAULT, 21)
                assert close_code(client) == 2
            finally:
                stopping.join()
        assert eventually(lambda: lines(tmp_path / "notes"))[0].startswith("closed ")

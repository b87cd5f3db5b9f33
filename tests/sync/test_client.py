"""The synchronous client, against the reference server's scripts and against our own servers."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import Fault, RefServer, answer, answer_partly, close, do, drop, hold, nothing, reject
from sealwire import (
    Allowlist,
    Codec,
    ConfigurationError,
    Key,
    Keyring,
    PeerPolicy,
    SynchronousTCPClient,
    ThreadingTCPServer,
    encode,
)
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    HandshakeFailed,
    HandshakeRejected,
    PayloadTooLarge,
    PeerNotAllowed,
    RemoteError,
    RemoteProtocolError,
    TransportError,
)
from support.service import KEY_ID, SECRET, Deployment, running
from support.udp import forked

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)


def closed(code: int, *, last: int | None = None, answered: bool = False) -> Callable[..., Any]:
    return do(answer(), close(code, last)) if answered else close(code, last)


# The connection


def test_lazy_and_reused(deployment: Deployment) -> None:
    with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
        assert server.connections == []
        assert client.peer is None
        assert "not connected" in repr(client)
        for number in range(5):
            assert client.send_request(b"%d" % number) == b"%d" % number
        assert client.peer is not None
        assert "localhost" in client.peer.dns
        assert "open" in repr(client)
        assert len(server.connections) == 1
    assert server.payloads(p.CLOSE) == [p.close_payload(0, 5)]


def test_close_and_again(deployment: Deployment) -> None:
    with deployment.ref_server() as server:
        client = deployment.client(server.port, raw=True)
        client.close()
        for number in range(3):
            client.connect()
            client.connect()
            assert client.send_request(b"x") == b"x"
            client.close()
            client.close()
            assert len(server.connections) == number + 1


@pytest.mark.parametrize("value", [0, {}, "", None, False, b"", [], (), 0.0, set()], ids=repr)
def test_falsy_replies(deployment: Deployment, value: Any) -> None:
    with (
        running(ThreadingTCPServer(ADDRESS, lambda message: value, deployment.server_security())) as port,
        deployment.client(port) as client,
    ):
        for _ in range(2):
            reply = client.send_request(value)
            assert reply == value
            assert type(reply) is type(value)


def test_eight_threads(deployment: Deployment) -> None:
    wrong: list[Any] = []
    with (
        running(ThreadingTCPServer(ADDRESS, lambda message: message, deployment.server_security())) as port,
        deployment.client(port, wait=30) as client,
    ):

        def ask(name: int) -> None:
            for number in range(40):
                value = [name, number, "x" * (number * 97 % 3000)]
                if client.send_request(value) != value:
                    wrong.append(value)

        threads = [threading.Thread(target=ask, args=[name]) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("how", ["fin", "notify", "reset"])
def test_server_went_away_between_requests(deployment: Deployment, how: str) -> None:
    with (
        deployment.ref_server({1: do(answer(), drop(how))}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        assert client.send_request(b"one") == b"one"
        server.wait_end(0)
        assert client.send_request(b"two") == b"two"
        assert server.payloads() == [b"one", b"two"]
        assert len(server.connections) == 2


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_server_closed_between_requests(deployment: Deployment, code: int) -> None:
    """CLOSE waits to be read: with nothing unanswered the client connects again in silence."""
    closing = threading.Event()

    def said(connection: Any, frame: Any) -> None:
        close(code)(connection, frame)
        closing.set()

    with (
        deployment.ref_server({1: do(answer(), said)}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        assert client.send_request(b"one") == b"one"
        assert closing.wait(5)
        assert client.send_request(b"two") == b"two"
        assert server.payloads() == [b"one", b"two"]


# What is sent again


@pytest.mark.parametrize(
    ("code", "last", "again"),
    [(0, 0, True), (1, 0, True), (2, 0, True), (3, 0, False), (4, 0, False)]
    + [(code, 1, False) for code in range(5)]
    + [(99, 0, False)],
)
def test_closed_instead_of_a_reply(deployment: Deployment, code: int, last: int, again: bool) -> None:
    with (
        deployment.ref_server({1: close(code, last)}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        if again:
            assert client.send_request(b"ask") == b"ask"
        else:
            with pytest.raises(ConnectionClosed, match=r"may or may not have acted on it.*idempotent=True") as caught:
                client.send_request(b"ask")
            assert (caught.value.code, caught.value.last) == (4 if code == 99 else code, last)
        assert server.payloads() == [b"ask"] * (2 if again else 1)
        assert client.send_request(b"next") == b"next"


@pytest.mark.parametrize("code", [0, 1, 2])
def test_last_is_of_this_connection(deployment: Deployment, code: int) -> None:
    """The second request, above and at ``last``."""
    script = {2: close(code, 1)}, {2: close(code, 2)}
    with deployment.ref_server(*script) as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"1") == b"1"
        assert client.send_request(b"2") == b"2"  # sent again, as the first on the second connection
        with pytest.raises(ConnectionClosed):
            client.send_request(b"3")
        assert server.payloads() == [b"1", b"2", b"2", b"3"]


@pytest.mark.parametrize("how", ["fin", "notify", "reset"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_dropped_instead_of_a_reply(deployment: Deployment, how: str, idempotent: bool) -> None:
    with (
        deployment.ref_server({1: drop(how)}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        if idempotent:
            assert client.send_request(b"ask", idempotent=True) == b"ask"
        else:
            with pytest.raises(ConnectionClosed) as caught:
                client.send_request(b"ask")
            assert caught.value.code is None
        assert server.payloads() == [b"ask"] * (1 + idempotent)


def arrival(connection: Any, frame: Any) -> None:
    """Wait until there is something to read, and do not read it."""
    assert select.select([connection.link.sock], [], [], 10)[0]


def test_dropped_before_the_request_was_read(deployment: Deployment) -> None:
    """The client cannot know, so it does not ask twice: what was handed to TLS may have arrived."""
    with (
        deployment.ref_server({"welcomed": do(arrival, drop("reset"))}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        client.connect()
        with pytest.raises(ConnectionClosed):
            client.send_request(b"ask")
        assert server.payloads() == []


def test_failed_send_is_sent_again(deployment: Deployment) -> None:
    """The connection breaks while a large request goes out: its end never left, so no handler can have it."""
    large = b"x" * 8_000_000
    with (
        deployment.ref_server({"welcomed": do(arrival, drop("reset"))}, max_frame=2**24) as server,
        deployment.client(server.port, raw=True, wait=20) as client,
    ):
        client.connect()
        assert client.send_request(large) == large
        assert server.payloads() == [large]


@pytest.mark.parametrize("action", [close(2, 0), drop("fin")], ids=["CLOSE", "FIN"])
def test_once_at_most(deployment: Deployment, action: Any) -> None:
    with deployment.ref_server(*[{1: action}] * 5) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(ConnectionClosed):
            client.send_request(b"ask", idempotent=True)
        assert server.payloads() == [b"ask"] * 2


def test_not_again_when_the_time_is_over(deployment: Deployment) -> None:
    over = threading.Event()
    late = do(hold(over), drop("fin"))
    with deployment.ref_server({1: late}) as server, deployment.client(server.port, raw=True) as client:
        client.connect()
        with pytest.raises(DeadlineExceeded):
            client.send_request(b"ask", wait=0.3, idempotent=True)
        over.set()
        server.wait_end(0)
        assert server.payloads() == [b"ask"]


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("size", [2, 30])
def test_truncated_reply_is_an_end_like_any_other(deployment: Deployment, how: str, size: int) -> None:
    with deployment.ref_server({1: do(answer_partly(size), drop(how))}) as server:
        with (
            deployment.client(server.port, raw=True) as client,
            pytest.raises(ConnectionClosed, match="may or may not"),
        ):
            client.send_request(b"ask")
        assert server.payloads() == [b"ask"]
    with (
        deployment.ref_server({1: do(answer_partly(size), drop(how))}, {1: answer()}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        assert client.send_request(b"ask", idempotent=True) == b"ask"
        assert server.payloads() == [b"ask", b"ask"]


@pytest.mark.parametrize("code", [4, 5, 9999])
@pytest.mark.parametrize("idempotent", [False, True])
def test_nothing_is_sent_again_after_a_protocol_error(deployment: Deployment, code: int, idempotent: bool) -> None:
    """The same holds for an unknown code, which is read as a protocol error."""
    with deployment.ref_server({1: close(code, 0)}, {1: answer()}) as server:
        with deployment.client(server.port, raw=True) as client, pytest.raises(ConnectionClosed):
            client.send_request(b"ask", idempotent=idempotent)
        assert server.payloads() == [b"ask"]


def test_a_server_that_lingers_does_not_use_up_the_wait(deployment: Deployment) -> None:
    go = threading.Event()
    with (
        deployment.ref_server({1: do(close(2, 0), hold(go))}, {1: answer()}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        start = monotonic()
        assert client.send_request(b"ask", wait=9) == b"ask"
        assert monotonic() - start < 1.8  # less than the linger of a close that nothing waits for
        go.set()


# Time


def test_late_reply_is_nobody_elses(deployment: Deployment) -> None:
    go = threading.Event()
    with (
        deployment.ref_server({1: do(hold(go), answer())}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        start = monotonic()
        with pytest.raises(DeadlineExceeded):
            client.send_request(b"slow", wait=0.15)
        assert 0.1 < monotonic() - start < 1.8
        go.set()
        assert client.send_request(b"next") == b"next"
        assert len(server.connections) == 2
        server.wait_end(0)


def test_wait_is_told_to_the_server(deployment: Deployment) -> None:
    with deployment.ref_server() as server, deployment.client(server.port, raw=True, wait=3) as client:
        client.send_request(b"a")
        client.send_request(b"b", wait=0.5)
        client.send_request(b"c", wait=1000)
        waits = [got.wait for got in server.received if got.kind == p.MESSAGE]
    assert 100 <= waits[0] <= 300
    assert 10 <= waits[1] <= 50
    assert waits[2] == 0


@pytest.mark.parametrize("point", ["accept", "tls", "hello"])
def test_timeout_of_connecting(deployment: Deployment, point: str) -> None:
    over = threading.Event()
    with deployment.ref_server({point: hold(over)}) as server:
        client = deployment.client(server.port, raw=True, timeout=0.2, wait=30)
        start = monotonic()
        with pytest.raises(DeadlineExceeded, match=r"localhost:\d+ did not"):
            client.send_request(b"ask")
        assert 0.1 < monotonic() - start < 2
        over.set()
        assert server.payloads() == []


def test_dripping_server(deployment: Deployment) -> None:
    """``wait`` bounds the whole reply, not each byte of it."""

    def drip(connection: Any, frame: Any) -> None:
        whole = p.frame(p.MESSAGE, bytes(1000), connection.next_sequence, frame.sequence, connection.key_out)
        for byte in whole:
            try:
                connection.send_raw(bytes([byte]))
            except OSError:
                break
            threading.Event().wait(0.01)
        connection.drop("fin")

    with deployment.ref_server({1: drip}) as server, deployment.client(server.port, raw=True) as client:
        start = monotonic()
        with pytest.raises(DeadlineExceeded):
            client.send_request(b"ask", wait=0.3)
        assert monotonic() - start < 3  # all of it takes more than ten
        server.wait_end(0)


def test_a_server_that_breaks_the_protocol_and_stays(deployment: Deployment) -> None:
    go = threading.Event()
    with (
        deployment.ref_server({1: do(answer(flags=1), hold(go))}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        client.connect()
        start = monotonic()
        with pytest.raises(RemoteProtocolError):
            client.send_request(b"ask", wait=9)
        seconds = monotonic() - start
        go.set()
        assert seconds < 1.8


def test_part_of_a_tls_record_between_requests(deployment: Deployment) -> None:
    go, sent = threading.Event(), threading.Event()

    def send_part(connection: Any, frame: Any) -> None:
        assert connection.link.tls is not None
        connection.link.tls.write(bytes(100))
        connection.link.sock.sendall(connection.link.outgoing.read()[:30])
        sent.set()
        go.wait(10)

    with (
        deployment.ref_server({1: do(answer(), send_part)}) as server,
        deployment.client(server.port, raw=True, timeout=20) as client,
    ):
        assert client.send_request(b"one") == b"one"
        assert sent.wait(5)
        start = monotonic()
        with suppress(DeadlineExceeded):
            client.send_request(b"two", wait=0.2)
        seconds = monotonic() - start
        go.set()
        assert seconds < 1.8


def test_another_threads_request(deployment: Deployment) -> None:
    go = threading.Event()
    with (
        deployment.ref_server({1: do(hold(go), answer())}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        thread = threading.Thread(target=client.send_request, args=[b"slow"])
        thread.start()
        server.wait_for(server.payloads)
        with pytest.raises(DeadlineExceeded, match="one client per thread"):
            client.send_request(b"impatient", wait=0.1)
        go.set()
        thread.join(5)
        assert client.send_request(b"next") == b"next"
        assert server.payloads() == [b"slow", b"next"]


def test_ping(deployment: Deployment) -> None:
    with (
        running(ThreadingTCPServer(ADDRESS, lambda message: message, deployment.server_security())) as port,
        deployment.client(port) as client,
    ):
        client.connect()
        assert all(0 < client.ping() < 5 for _ in range(5))
        assert client.send_request(1) == 1


def test_ping_reconnects_and_times_out(deployment: Deployment) -> None:
    script = {"ping": drop("fin")}, {}, {"ping": nothing}
    with deployment.ref_server(*script) as server, deployment.client(server.port, raw=True, wait=1) as client:
        assert client.ping() < 1
        client.close()
        with pytest.raises(DeadlineExceeded):
            client.ping()


# Refusals


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "another version of the protocol"),
        (2, "another codec"),
        (3, "not authorised; check that both sides hold the same key under the same id"),
        (77, "not authorised"),
    ],
)
def test_rejected(deployment: Deployment, code: int, text: str) -> None:
    with deployment.ref_server({"hello": reject(code)}) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(HandshakeRejected, match=text) as caught:
            client.send_request(b"ask")
        assert caught.value.code == min(code, 3)
        assert len(server.connections) == 1
        # Nothing is remembered from it.
        assert client.send_request(b"ask") == b"ask"


@pytest.mark.parametrize("code", [4, 5])
def test_rejected_for_now(deployment: Deployment, code: int) -> None:
    script = [{"hello": reject(code)}] * 3
    with deployment.ref_server(*script) as server, deployment.client(server.port, raw=True) as client:
        start = monotonic()
        assert client.send_request(b"ask") == b"ask"
        # Half of 0.05 + 0.1 + 0.2 at least.
        assert monotonic() - start > 0.17
        assert len(server.connections) == 4
        assert server.payloads() == [b"ask"]


@pytest.mark.parametrize("code", [4, 5])
def test_rejected_for_too_long(deployment: Deployment, code: int) -> None:
    script = [{"hello": reject(code)}] * 50
    with deployment.ref_server(*script) as server:
        client = deployment.client(server.port, raw=True, timeout=1.5)
        start = monotonic()
        with pytest.raises(HandshakeRejected, match="try again later") as caught:
            client.send_request(b"ask")
        assert caught.value.code == code
        assert monotonic() - start < 15
        assert 2 <= len(server.connections) <= 12


def test_no_server_there(deployment: Deployment) -> None:
    with deployment.ref_server() as server:
        port = server.port
    with pytest.raises(TransportError, match=rf"cannot connect to localhost:{port}: Connection refused"):
        deployment.client(port).send_request(1)


def test_no_such_host(deployment: Deployment) -> None:
    with pytest.raises(TransportError, match=r"no-such-host.invalid:9: the host's address cannot be found"):
        deployment.client(9, "no-such-host.invalid").connect()


def test_arguments(deployment: Deployment) -> None:
    security = deployment.security("client")
    with pytest.raises(ConfigurationError, match="security=Security"):
        SynchronousTCPClient("localhost", 1, security=None)
    for port in (0, 65536, "1", True):
        with pytest.raises(ConfigurationError, match="port must be"):
            SynchronousTCPClient("localhost", port, security=security)
    for host in ("", "a b", "x" * 300):
        with pytest.raises(ConfigurationError, match=r"neither a DNS name nor an IP address|host must be"):
            SynchronousTCPClient(host, 1, security=security)
    for seconds in (0, -1, float("nan"), float("inf"), "1", True, None):
        with pytest.raises(ConfigurationError, match="timeout must be a number of seconds"):
            SynchronousTCPClient("localhost", 1, seconds, security=security)
        with pytest.raises(ConfigurationError, match="wait must be a number of seconds"):
            SynchronousTCPClient("localhost", 1, 1, seconds, security=security)


Change = Callable[[Deployment, Path], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda d, path: {"ca": Deployment(path).ca}, HandshakeFailed, "must come from a CA in this client's ca file"),
        (lambda d, path: {"keys": Keyring([Key("k9", SECRET)])}, HandshakeRejected, "same key under the same id"),
        (lambda d, path: {"keys": Keyring([Key(KEY_ID, b"w" * 32)])}, HandshakeRejected, "hold the same key"),
        (lambda d, path: {"service": "billing"}, HandshakeRejected, "host name and service are the server's"),
        (lambda d, path: {"peers": ["dns:other.example"]}, PeerNotAllowed, "not on this client's list of peers; add"),
        (lambda d, path: {"peers": ["spiffe://a/b"]}, PeerNotAllowed, "dns:localhost"),
        (lambda d, path: {"role": "other client"}, HandshakeRejected, "client's identity is among the server's peers"),
        (lambda d, path: {"role": "stranger"}, HandshakeFailed, "refused this client's certificate"),
        (lambda d, path: {"host": "127.0.0.2"}, HandshakeFailed, "host name among its subject alternative names"),
        (lambda d, path: {"raw": True}, HandshakeRejected, "another codec; configure the same on both sides"),
    ],
    ids=["CA", "key id", "key", "service", "peers", "URI", "identity", "own CA", "host", "codec"],
)
def test_does_not_fit(
    deployment: Deployment, tmp_path: Path, change: Change, error: type[Exception], text: str
) -> None:
    delivered: list[Any] = []
    options = change(deployment, tmp_path)
    if options.get("role") == "stranger":
        deployment.files["stranger"] = Deployment(tmp_path).files["client"]
    server = ThreadingTCPServer(("0.0.0.0", 0), delivered.append, deployment.server_security())
    with running(server) as port:
        for _ in range(5):  # the words must not depend on which of two packets is faster
            client = deployment.client(port, **options)
            with pytest.raises(error, match=text) as caught:
                client.send_request(b"secret")
            assert type(caught.value) is error
            assert "secret" not in str(caught.value)
    assert delivered == []


def test_servers_certificate_expired(deployment: Deployment) -> None:
    deployment.files["expired"] = deployment.expired("expired", "localhost")
    with deployment.ref_server(role="expired") as server:
        with pytest.raises(HandshakeFailed, match=r"certificate has expired; .* be valid now"):
            deployment.client(server.port, raw=True).send_request(b"ask")
        assert server.payloads() == []


def test_key_expired(deployment: Deployment) -> None:
    old = Key(KEY_ID, SECRET, not_after=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(ConfigurationError, match="key"), deployment.ref_server() as server:
        deployment.client(server.port, raw=True, keys=Keyring([old])).send_request(b"ask")


def test_something_else_listens(deployment: Deployment) -> None:
    with deployment.ref_server(adjust=lambda context: context.set_alpn_protocols(["h2"])) as server:
        with pytest.raises(HandshakeFailed, match=r"something else listens|no application protocol"):
            deployment.client(server.port, raw=True).send_request(b"ask")
        server.wait_end(0)


def test_verified_by_fingerprint_or_uri(deployment: Deployment) -> None:
    deployment.files["spiffe"] = deployment.place.leaf("spiffe", "spiffe://prod/db")
    with deployment.ref_server(role="spiffe", names=[""]) as server:
        with deployment.client(server.port, raw=True, peers=["spiffe://prod/*"]) as client:
            assert client.send_request(b"x") == b"x"
        with pytest.raises(HandshakeFailed):
            deployment.client(server.port, raw=True, peers=PeerPolicy.any_signed_by_ca()).connect()
        with pytest.raises(PeerNotAllowed):
            deployment.client(server.port, raw=True, peers=["spiffe://prod/billing/*"]).connect()
        server.wait_for(lambda: len(server.ends) == 3)


# Faults, and what cannot be sent or taken


@pytest.mark.parametrize("code", [16, 17, 18, 19, 20, 21])
def test_faults(deployment: Deployment, code: int) -> None:
    with (
        deployment.ref_server(handler=lambda payload: Fault(code, "because")) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        for _ in range(2):
            with pytest.raises(RemoteError, match=f"the server answered fault {code}: because") as caught:
                client.send_request(b"ask", idempotent=True)
            assert (caught.value.code, caught.value.text) == (code, "because")
        assert len(server.payloads()) == 2
        assert len(server.connections) == 1


def test_fault_text_is_escaped(deployment: Deployment) -> None:
    text = "\x1b[31mred\x1b[0m\r\n2026 INFO forged\x00\x7f\u202egnorw\u2028\x85"
    unknown = do(answer(kind=p.FAULT, payload=p.fault_payload(4711, text)))
    with deployment.ref_server({1: unknown}) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(RemoteError) as caught:
            client.send_request(b"ask")
        assert caught.value.code == 19
        assert caught.value.text.isprintable()
        assert "red" in caught.value.text
        assert str(caught.value).isprintable()


def test_what_cannot_be_sent(deployment: Deployment) -> None:
    with deployment.ref_server(max_frame=2000) as server, deployment.client(server.port) as client:
        with pytest.raises(EncodeError):
            client.send_request(object())
        assert server.connections == []
        with pytest.raises(PayloadTooLarge, match="the peer accepts at most 1948"):
            client.send_request("x" * 3000)
        assert client.send_request("x" * 500) == "x" * 500
        assert len(server.payloads()) == 1
        assert len(server.connections) == 1


def test_reply_of_a_type_not_allowed(deployment: Deployment) -> None:
    """Raised here, and the connection stays."""
    replies = iter([b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"no pickle", b"", encode("good")])
    with (
        deployment.ref_server(handler=lambda payload: next(replies)) as server,
        deployment.client(server.port, codec=Codec(Allowlist())) as client,
    ):
        for _ in range(3):
            with pytest.raises(DecodeError):
                client.send_request(1)
        assert client.send_request(1) == "good"
        assert len(server.connections) == 1


# A fork


def test_fork(deployment: Deployment) -> None:
    """Each has its own connection, and neither spoils the other's."""
    with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"before") == b"before"

        def in_child() -> bool:
            good = client.send_request(b"child") == b"child"
            client.close()
            return good

        assert forked(in_child) == 0
        assert client.send_request(b"after") == b"after"
        by_connection = [
            (got.connection, got.sequence, got.payload) for got in server.received if got.kind == p.MESSAGE
        ]
        assert by_connection == [(0, 1, b"before"), (1, 1, b"child"), (0, 2, b"after")]


def test_fork_while_another_thread_asks(deployment: Deployment) -> None:
    go = threading.Event()
    script = {1: do(hold(go), answer())}
    with deployment.ref_server(script) as server, deployment.client(server.port, raw=True) as client:
        thread = threading.Thread(target=client.send_request, args=[b"slow"])
        thread.start()
        server.wait_for(server.payloads)

        def in_child() -> bool:
            good = client.send_request(b"child", wait=3) == b"child"
            client.close()
            return good

        assert forked(in_child) == 0
        go.set()
        thread.join(5)
        assert client.send_request(b"after") == b"after"


def test_fork_that_only_closes(deployment: Deployment) -> None:
    with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"before") == b"before"

        def in_child() -> bool:
            client.close()
            return True

        assert forked(in_child) == 0
        assert client.send_request(b"after") == b"after"
        assert len(server.connections) == 1


# Nothing of it is told


def test_no_payload_and_no_key_in_errors(deployment: Deployment) -> None:
    server: RefServer
    with deployment.ref_server({1: drop("fin")}, {1: nothing}, {1: answer(flags=1)}) as server:
        with deployment.client(server.port, raw=True, wait=0.2) as client:
            for _ in range(3):
                with pytest.raises((OSError, Exception)) as caught:
                    client.send_request(b"TopSecret")
                chain: BaseException | None = caught.value
                while chain is not None:
                    assert "TopSecret" not in repr(chain) + str(chain)
                    chain = chain.__cause__ or chain.__context__
            for thing in (client, client.security, client.security.keys, client.security.credentials):
                assert SECRET.decode() not in repr(thing)
                assert "PRIVATE KEY" not in repr(thing)
        server.violations.clear()

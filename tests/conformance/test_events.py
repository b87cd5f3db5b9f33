"""Each event at a server is in its log, in its audit log and in its counters, at every server. All have a logging
handler, too, that raises whatever it gets.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from conformance.combinations import Running
from conformance.conftest import IN_TURN, Case
from conformance.handlers import Secret
from conformance.test_refusals import KEYS, changed
from sealwire import EncodeError, Keyring, RemoteError, SealwireError
from sealwire.codec import RawCodec
from sealwire.events import EVENTS
from sealwire.server_events import LINES
from support.admin import status
from support.service import eventually

STREAMS = pytest.mark.pairs(
    lambda server, client: server.transport.stream and server.transport.host and (server, client) in IN_TURN
)


class Watch:
    """Return what a server, started as ``observed``, has told so far."""

    def __init__(self, case: Case, running: Running) -> None:
        self.running = running
        self._directory = case.ends.server.directory
        self._local = case.server.transport.local

    def lines(self, event: str, logger: str = "sealwire.server") -> list[dict[str, Any]]:
        whole = (self._directory / "log.jsonl").read_text().rpartition("\n")[0]
        found = [json.loads(line) for line in whole.splitlines()]
        return [each for each in found if each.get("event") == event and each["logger"] == logger]

    def texts(self, event: str, logger: str = "sealwire.server") -> list[str]:
        return [each["message"] for each in self.lines(event, logger)]

    def count(self, family: str, value: str = "") -> int:
        counted = status(self._directory / "admin")["counters"][family]
        return int(counted[value] if value else counted)

    def saw(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for the line of an event with these fields, and its record if there is one; return the line."""

        def found() -> Any:
            for each in self.lines(event):
                if all(str(value) in str(each.get(name)) for name, value in fields.items()):
                    return each
            return None

        line: dict[str, Any] = eventually(found, timeout=10)
        if EVENTS[event].audit:
            # The audit log has each event a moment after the log.
            eventually(lambda: self.texts(event, "sealwire.audit") == self.texts(event), timeout=10)
        return line

    def counted(self, family: str, value: str, number: int) -> None:
        eventually(lambda: self.count(family, value) == number, timeout=10)

    def knows_the_client(self, line: dict[str, Any]) -> None:
        """It names peer, key, connection and address."""
        assert line["key_id"] == "k1"
        assert len(line["connection"]) == 8
        assert ("uid:" if self._local else "dns:client.example") in line["peer"]
        assert line["address"].startswith(("a local peer", "127.0.0.1:", "nats:_INBOX."))
        for name in ("key_id", "connection", "peer", "address"):
            assert line[name] in line["message"]


@contextmanager
def watched(case: Case, **given: Any) -> Iterator[Watch]:
    with case.start(observed=True, **given) as running:
        yield Watch(case, running)


def fails(client: Any, message: Any = 1) -> None:
    with pytest.raises(SealwireError):
        client.request(message)
    client.close()


def test_requests(case: Case) -> None:
    with watched(case) as watch:
        client = case.client(watch.running)
        assert client.request("x" * 100) == "x" * 100
        watch.knows_the_client(watch.saw("connection.opened"))
        with pytest.raises(RemoteError):
            client.request(Secret("x"))
        line = watch.saw("message.refused", reason="type_not_allowed", type="conformance.handlers:Secret")
        watch.knows_the_client(line)
        assert line["request_id"].startswith(line["connection"])
        with pytest.raises(RemoteError) as failed:
            client.request(["fail"])
        line = watch.saw("request.failed", level="ERROR")
        watch.knows_the_client(line)
        assert line["request_id"] in str(failed.value)
        assert line["place"].startswith("ValueError at handlers.py:")
        with pytest.raises(RemoteError):
            client.request(["refuse", "out of stock"])
        watch.knows_the_client(watch.saw("request.refused", reason="fault 64", level="INFO"))
        client.close()
        for outcome in ("answered", "type_not_allowed", "failed", "refused"):
            watch.counted("requests", outcome, 1)
        watch.counted("messages_refused", "type_not_allowed", 1)
        watch.counted("handshakes", "complete", 1)
        watch.counted("requests_in_flight", "", 0)
        assert watch.count("requests_started") == 4
        found = status(case.ends.server.directory / "admin")["counters"]
        assert found["request_duration_seconds"]["buckets"]["+Inf"] == 4
        assert 0 < found["request_duration_seconds"]["sum"] < 60
        assert found["handshake_duration_seconds"]["buckets"]["+Inf"] == 1
        assert found["payload_bytes"]["received"] > found["payload_bytes"]["sent"] > 100
        assert (
            "words of the message"
            not in (case.ends.server.directory / "log.jsonl")
            .read_text()
            .replace(str(failed.value), "")
            .split('"traceback"')[0]
        )


def test_handshakes(case: Case) -> None:
    """Of those whose key, service or codec is another, and of one that is not on the list."""
    refused = {"unknown_key": "not authorised", "bad_tag": "wrong tag", "not_authorised": "service", "codec": "codec"}
    with watched(case) as watch:
        ours = case.ends.security()
        others = [changed(ours, keys=Keyring([key])) for key in KEYS.values()]
        others += [case.ends.security(service="billing"), changed(ours, codec=RawCodec())]
        if not case.server.transport.local:
            refused["peer_not_listed"] = "not on the peer list"
            others.append(case.ends.security(case.other_side("other", "other.example")))
        for security in others:
            client = case.client_kind.make(watch.running.address, security, timeout=10, wait=10)
            fails(client, b"x" if isinstance(security.codec, RawCodec) else "x")
        for reason in refused:
            line = watch.saw("handshake.refused", reason=reason, level="WARNING")
            assert "key_id" not in line, "it has proved none"
            watch.counted("handshakes", reason, 1)
        assert case.client(watch.running).request(1) == 1


@STREAMS
def test_a_probe_that_ends_before_its_first_byte(case: Case) -> None:
    family = socket.AF_UNIX if case.server.transport.local else socket.AF_INET
    with watched(case) as watch:
        with socket.socket(family) as probe:
            probe.connect(watch.running.address)
        watch.saw("connection.silent", level="DEBUG")
        watch.counted("handshakes", "silent", 1)
        assert case.client(watch.running).request(1) == 1
        assert watch.lines("handshake.refused") == []


def test_a_limit_is_hit(case: Case) -> None:
    with watched(case, limits={"max_requests_per_second": 1}) as watch:
        client = case.client(watch.running)

        def is_overloaded() -> bool:
            try:
                client.request(1)
            except RemoteError as error:
                return error.code == 21
            return False

        eventually(is_overloaded, timeout=10)
        watch.knows_the_client(watch.saw("limit.hit", limit="max_requests_per_second"))
        client.close()
        eventually(lambda: watch.count("limit_hits", "max_requests_per_second") >= 1)
        assert watch.count("requests", "overloaded") == watch.count("limit_hits", "max_requests_per_second")


def test_a_reply_over_a_limit(case: Case) -> None:
    with watched(case) as watch:
        client = case.client(watch.running, limits={"max_frame": 1300})
        with pytest.raises(RemoteError) as refused:
            client.request(["zeros", 2000])
        assert refused.value.code == 18
        watch.knows_the_client(watch.saw("reply.refused"))
        watch.counted("limit_hits", "reply", 1)
        watch.counted("requests", "too_large", 1)
        with suppress(EncodeError):
            client.request("x" * 2000)


def test_keys_are_revoked(case: Case) -> None:
    """A reload that is refused, one that is taken, and the end of the connection."""
    side = case.ends.server
    with watched(case) as watch:
        client = case.client(watch.running)
        assert client.request(1) == 1
        side.write(keyring=b"garbage")
        line = eventually(lambda: watch.lines("reload.refused", "sealwire.audit"), timeout=10)[0]
        assert (line["files"], line["level"]) == ("keyring", "ERROR")
        side.keys("k2")
        text = side.path("keyring").read_bytes()
        side.write(keyring=text + b'[[key]]\nid = "k1"\nrevoked = true\n')
        eventually(lambda: watch.lines("reload.taken", "sealwire.audit"), timeout=10)

        def is_refused() -> bool:
            try:
                client.request(2)
            except SealwireError:
                return bool(watch.lines("connection.revoked"))
            return False

        eventually(is_refused, timeout=10)
        watch.knows_the_client(watch.saw("connection.revoked", reason="was removed from the keyring"))
        # A forked child may have begun before its parent saw the new file.
        eventually(lambda: watch.count("connections_ended", "revoked") >= 1)
        case.ends.client.keys("k2")
        eventually(lambda: case.client(watch.running).request(3) == 3, timeout=10)
        case.ends.client.keys("k1")


@pytest.mark.pairs(lambda server, client: not client.several and (server, client) in IN_TURN)
def test_a_flood_of_refusals(case: Case) -> None:
    """It has some lines, which are bounded, and all of it is counted, over all processes."""
    many = LINES + 10
    with watched(case) as watch:
        security = changed(case.ends.security(), keys=Keyring([KEYS["unknown id"]]))
        for _ in range(many):
            fails(case.client_kind.make(watch.running.address, security, timeout=10, wait=10))
        watch.counted("handshakes", "unknown_key", many)
        found = len(watch.lines("handshake.refused"))
        assert LINES <= found < many, "some may come back while it goes on"
        assert watch.count("log_lines_left_out") == many - found
    told = [*watch.lines("handshake.refused"), *watch.lines("events.left_out")]
    assert sum(each.get("left_out", 0) for each in told) == many - found

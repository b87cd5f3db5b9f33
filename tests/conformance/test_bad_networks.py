"""A relay between both ends does what networks do: nothing is lost or done twice without its caller being told."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.combinations import NATS, Caller, Running
from conformance.conftest import IN_TURN, Case
from sealwire import SealwireError
from sealwire.testing import Faults, Relay

pytestmark = pytest.mark.pairs(lambda server, client: server.transport.stream and (server, client) in IN_TURN)

DIRECTIONS = ("to_server", "to_client")
HARMLESS = [Faults(latency=0.02), Faults(bandwidth=100_000), Faults(split=7)]
POINTS = [0, 3, 200, 700, *range(1000, 5500, 500)]
"""Bytes of either direction: in the TLS handshake, in Sealwire's, in requests, in replies, in CLOSE."""
LOCAL_POINTS = [0, 3, *range(40, 700, 60)]
"""Those of a Unix socket, without TLS."""


class Book:
    """Requests that each leave a line in a file, and what became of them at the client."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outcomes: dict[str, Any] = {}

    def ask(self, client: Caller, number: int, **options: Any) -> None:
        """A few requests, so that a fault concerns any of them."""
        for each in range(number):
            name = f"{len(self.outcomes)}-{each}"
            try:
                self.outcomes[name] = client.request(["note", str(self._path), name], **options)
            except SealwireError as error:
                self.outcomes[name] = error

    def check(self) -> None:
        """Each was done once if it was answered, and at most once if not; never if its error says so."""
        lines = Counter(self._path.read_text().split()) if self._path.exists() else Counter[str]()
        for name, outcome in self.outcomes.items():
            if isinstance(outcome, SealwireError):
                assert lines[name] <= (0 if getattr(outcome, "sent", True) is False else 1), (name, outcome)
            else:
                assert lines[name] == 1, name
                assert outcome[1:] == ["note", str(self._path), name] or name in str(outcome)

    @property
    def answered(self) -> int:
        return sum(not isinstance(outcome, SealwireError) for outcome in self.outcomes.values())


@contextmanager
def between(case: Case, **given: Any) -> Iterator[tuple[Relay, Any]]:
    """A relay, and a function that makes a client of it."""
    with case.start(**given) as running:
        address, subject = running.address, None
        if case.server.transport is NATS:
            url, _, subject = running.address.rpartition("/")
            address = "127.0.0.1", int(url.rpartition(":")[2])
        with Relay(address) as relay:
            where = relay.address if subject is None else f"nats://127.0.0.1:{relay.address[1]}/{subject}"
            there: Running = SimpleNamespace(address=where)  # as far as clients look
            yield relay, lambda **options: case.client(there, **options)
            case.close()


def test_what_only_takes_time(case: Case, tmp_path: Path) -> None:
    with between(case) as (relay, connect):
        for number, faults in enumerate(HARMLESS):
            relay.to_server = relay.to_client = faults
            book = Book(tmp_path / str(number))
            client = connect()
            book.ask(client, 3)
            assert client.request(bytes(50_000)) == bytes(50_000)
            client.close()
            book.check()
            assert book.answered == 3


def ends(points: list[int]) -> Iterator[tuple[str, Faults]]:
    """Faults that end a connection, for one direction each."""
    for direction, kind, point in itertools.product(DIRECTIONS, ("cut_after", "reset_after", "flip"), points):
        yield direction, Faults(connections=1, **{kind: point * 8 if kind == "flip" else point})


def test_what_ends_a_connection(case: Case, tmp_path: Path) -> None:
    with between(case) as (relay, connect):
        book = Book(tmp_path / "book")
        faults = list(ends(LOCAL_POINTS if case.server.transport.local else POINTS))
        for direction, fault in faults:
            setattr(relay, direction, fault)
            client = connect()
            book.ask(client, 3)
            setattr(relay, direction, Faults())
            relay.end()
            assert client.request("after", idempotent=True) == "after", (direction, fault)
            client.close()
        book.check()
        # Each fault concerns one connection, and so one request, at most.
        assert book.answered >= 2 * len(faults)


def test_what_stops_it(case: Case, tmp_path: Path) -> None:
    """A request that nothing comes of is over in time, and its client is of use afterwards."""
    with between(case) as (relay, connect):
        book = Book(tmp_path / "book")
        points = (LOCAL_POINTS if case.server.transport.local else POINTS)[::4]
        for direction, point in itertools.product(DIRECTIONS, points):
            setattr(relay, direction, Faults(connections=1, stall_after=point))
            client = connect(timeout=0.5, wait=0.5)
            book.ask(client, 3)
            relay.end()
            assert client.request("after", idempotent=True, wait=10) == "after"
            client.close()
        book.check()


def test_parts(case: Case, way: str) -> None:
    """The beginning of a stream arrives, or all of it; a request in parts arrives as a whole."""
    with between(case, handler=way) as (relay, connect):
        broken = 0
        for direction, fault in ends([2000, 5000, 16_000]):
            setattr(relay, direction, fault)
            client = connect()
            taken: list[int] = []
            try:
                taken.extend(number for number, _ in client.stream(["count", 30, 500]))
                assert len(taken) == 30
                assert client.send_parts([bytes(500)] * 30) == 15_000
            except SealwireError:
                broken += 1
            assert taken == list(range(len(taken)))
            setattr(relay, direction, Faults())
            relay.end()
            assert len(list(client.stream(["count", 3, 500], idempotent=True))) == 3, (direction, fault)
            client.close()
        assert broken >= 9

"""A peer that uses more than its share of the processors pauses for the others, at every server and in each process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.conftest import Case
from support.service import eventually
from support.starter import Process

pytestmark = pytest.mark.pairs(
    # On UDP all peers send to one socket; only the requests that have come take turns.
    lambda server, client: server.transport.stream and not server.one_at_a_time and client.name.startswith("Sync")
)


def test_a_peer_over_its_share_pauses(case: Case, tmp_path: Path) -> None:
    """Here for longer than the test. It is not served meanwhile, and the others are. Of a server with processes, it
    is in another one than they are."""
    handled = tmp_path / "handled"
    flood = case.other_side("flood", "client.example", "flood.example")
    handler = "coroutine" if case.server.runs_coroutines else "respond"
    with case.start(handler=handler, long_pauses=True, limits={"drain_timeout": 0.2}) as running:
        good = case.client(running)
        with flooding(flood.directory, running.address, good.request(["pid"]), handled, case.server.several):

            def more_handled(beside: int) -> int:
                before = handled.read_bytes().count(b"\n")
                for number in range(beside):
                    assert good.request(number) == number
                return handled.read_bytes().count(b"\n") - before

            eventually(lambda: not more_handled(beside=100))
            assert more_handled(beside=500) < 10  # it may just have begun one when it was over its share


@contextmanager
def flooding(directory: Path, address: Any, not_in: int, handled: Path, several: bool) -> Iterator[None]:
    """Have a client in a process of its own that uses much of the processor, and keeps many requests under way.

    If the server has several processes, they are handled by another one than ``not_in``. They leave lines in a file.
    """
    peers = [f"uid:{os.getuid()}"] if isinstance(address, str) and address.startswith("/") else ["dns:localhost"]
    settings = {
        "directory": str(directory),
        "peers": peers,
        "address": address,
        "first": ["compute", 0.5],
        "second": ["note", str(handled), "{process}"],
    }
    while True:
        handled.write_bytes(b"")
        with Process("conformance.flood", settings, sys.stderr) as process:
            try:
                eventually(lambda: b"\n" in handled.read_bytes())
                if not several or int(handled.read_bytes().split()[0]) != not_in:
                    yield
                    return
            finally:
                process.kill()

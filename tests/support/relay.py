"""A bad link: a relay that loses, repeats and reorders datagrams, the same ones each time."""

from __future__ import annotations

import os
import random
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Between clients, which know its ``port``, and a server on ``127.0.0.1``. lose, repeat, hold: shares of the
    datagrams; one that is held goes after the next one. ``lost``: how many were. ``heard``: what clients have sent."""

    def __init__(self, server: int, *, seed: int, lose: float, repeat: float, hold: float) -> None:
        self._server = ("127.0.0.1", server)
        self._random = random.Random(seed)
        self._shares = lose, repeat, hold
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._links: dict[tuple[str, int], socket.socket] = {}
        self._held: dict[tuple[socket.socket, tuple[str, int] | None], bytes] = {}
        self._end, self._ending = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay")
        self.port: int = self._front.getsockname()[1]
        self.passing = True
        self.lost = self.seen = 0
        self.heard: list[bytes] = []

    def start(self) -> None:
        self._thread.start()

    def move(self) -> None:
        """From now on the clients have other addresses, as behind a NAT that has forgotten them."""
        for link in self._links.values():
            old = link.getsockname()
            fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            fresh.bind(("127.0.0.1", 0))
            assert fresh.getsockname() != old
            fresh.connect(self._server)
            fresh_descriptor = fresh.detach()
            # The same object, so that the thread that polls it goes on with it.
            os.dup2(fresh_descriptor, link.fileno())
            os.close(fresh_descriptor)

    def inject(self, datagram: bytes) -> None:
        """Send the server that from every client's address."""
        for link in self._links.values():
            link.send(datagram)

    def stop(self) -> None:
        self._ending.send(b"x")
        self._thread.join(20)
        for each in (self._front, self._end, self._ending, *self._links.values()):
            each.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._end, self._front, *self._links.values()], [], [])
            if self._end in ready:
                return
            for sock in ready:
                with suppress(ConnectionRefusedError):
                    self._relay(sock)

    def _relay(self, sock: socket.socket) -> None:
        if sock is self._front:
            data, client = sock.recvfrom(4096)
            self.heard.append(data)
            if client not in self._links:
                self._links[client] = link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                link.connect(self._server)
            self._pass(data, self._links[client], None)
        else:
            data = sock.recv(4096)
            client = next(address for address, link in self._links.items() if link is sock)
            self._pass(data, self._front, client)

    def _pass(self, data: bytes, through: socket.socket, to: tuple[str, int] | None) -> None:
        lose, repeat, hold = self._shares
        self.seen += 1
        if not self.passing or self._random.random() < lose:
            self.lost += 1
            return
        where = through, to
        if where not in self._held and self._random.random() < hold:
            self._held[where] = data
            return
        for each in (data, *([data] if self._random.random() < repeat else []), self._held.pop(where, None)):
            if each is not None:
                with suppress(ConnectionRefusedError):
                    if to is None:
                        through.send(each)
                    else:
                        through.sendto(each, to)


@contextmanager
def bad_link(
    server: int, *, seed: int = 1, lose: float = 0.2, repeat: float = 0.2, hold: float = 0.2
) -> Iterator[Relay]:
    """A relay to the end of the block."""
    relay = Relay(server, seed=seed, lose=lose, repeat=repeat, hold=hold)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()

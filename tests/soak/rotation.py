"""Rotates everything under full load, without a lost request: ``make soak-rotation``.

    python tests/soak/rotation.py [--rotations 20] [--requests 100000] [--without-reloading]

Two servers (threading and forking) and eight clients run in processes of their own. Half of the clients make a new
connection for each request. Meanwhile the server's leaf, the client's leaf, the CA, the revocation list and the key are
replaced again and again on both sides, with torn files and garbage in between. At the end every request must have been
answered and handled exactly once, and new connections must have shown each new certificate within two seconds.

``--without-reloading`` tests the test: it must fail.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parent.parent))

from cryptography import x509

from sealwire import SealwireError, SynchronousTCPClient
from sealwire.pki.authority import create_ca
from support import sides
from support.sides import Side, revocation_list

CLIENTS = 8
SOON = 2.0
"""Seconds after which a new connection shows the new certificate."""
_STEP = 1.3
"""Seconds between two steps that depend on each other: more than Limits.reload_interval."""
_WORKER = Path(__file__).parent / "worker.py"


class Worker:
    """A server or client in its own process. It ends with its standard input, and then reports its results."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.process = subprocess.Popen(
            [sys.executable, str(_WORKER), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def line(self) -> Any:
        """Return its next line of output."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


class Failed(Exception):
    """The soak has failed, for the reason in the text."""


class Deployment:
    """Files of the servers and of the clients, and the steps of one rotation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = Side(directory / "server", "localhost", "127.0.0.1")
        self.client = Side(directory / "client", "client.example")
        self.both = (self.server, self.client)
        self.ca = create_ca("CA 0")
        self.number = self.key = 0
        for side in self.both:
            side.leaf(self.ca)
            side.trust(self.ca)
            side.keys("k1")
            side.revoke(self.ca)

    def tear(self, side: Side, name: str, whole: bytes) -> None:
        """Write the states that an unlucky writer leaves for a moment: nothing, a half, garbage, the old content."""
        path = side.path(name)
        before = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], os.urandom(200), before):
            path.write_bytes(content)
            pause(0.02)

    def new_leaf(self, side: Side) -> str:
        """Replace the leaf, key first, with garbage in both files before."""
        for name in ("cert", "key"):
            self.tear(side, name, side.path(name).read_bytes())
        return side.leaf(self.ca)

    def new_ca(self) -> str:
        """Trust both CAs, issue new leaves, trust the new CA alone. Return the server's new fingerprint."""
        self.number += 1
        old, new = self.ca, create_ca(f"CA {self.number}")
        lists = revocation_list(old) + revocation_list(new)
        for side in self.both:
            side.write(crl=lists)
            both = old.cert_pem + new.cert_pem
            self.tear(side, "ca", both)
            # In place, and in two steps; after the first the file is valid, but incomplete.
            with side.path("ca").open("wb") as file:
                file.write(old.cert_pem)
                file.flush()
                pause(0.02)
                file.write(new.cert_pem)
        pause(_STEP + 0.3)
        self.ca = new
        fingerprint = ""
        for side in self.both:
            fingerprint = fingerprint or self.new_leaf(side)
            self.new_leaf(side) if side is self.client else None
        pause(_STEP + 0.3)
        for side in self.both:
            side.trust(new)
            side.write(crl=revocation_list(new))
        return fingerprint

    def new_list(self) -> None:
        """Revoke an unrelated certificate."""
        for side in self.both:
            self.tear(side, "crl", side.path("crl").read_bytes())
            side.revoke(self.ca, x509.random_serial_number())

    def new_key(self) -> None:
        """Distribute a new key before it signs, and let the old one expire."""
        names = list(sides.SECRETS)
        current, following = names[self.key % len(names)], names[(self.key + 1) % len(names)]
        self.key += 1
        second = timedelta(seconds=1)
        lives = {current: (-60 * second, 6 * second), following: (2.5 * second, 3600 * second)}
        for side in self.both:
            self.tear(side, "keyring", side.path("keyring").read_bytes())
            side.path("keyring").chmod(0o600)
            side.keys(current, following, **lives)
        pause(6.5)
        for side in self.both:
            side.keys(following)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@contextmanager
def workers(deployment: Deployment, *, interval: float) -> Iterator[tuple[list[Worker], list[Worker]]]:
    """Start two servers and the clients."""
    with ExitStack() as stack:
        common = {"directory": str(deployment.directory), "interval": interval}
        servers = [
            stack.enter_context(Worker(role="server", kind=kind, log=str(deployment.directory / kind), **common))
            for kind in ("ThreadingTCPServer", "ForkingTCPServer")
        ]
        ports = [server.line()["port"] for server in servers]
        clients = [
            stack.enter_context(
                Worker(
                    role="client", number=number, ports=[ports[number % 2]], reconnects=number < CLIENTS // 2, **common
                )
            )
            for number in range(CLIENTS)
        ]
        for client in clients:
            assert client.line() == {"ready": True}  # before anything is torn
        for server, port in zip(servers, ports, strict=True):
            server.settings["port"] = port
        yield servers, clients


def wait_for(deployment: Deployment, servers: list[Worker], fingerprint: str) -> None:
    """Wait until both servers show it to a new connection. Raises Failed if that takes too long."""
    deadline = monotonic() + SOON
    security = deployment.client.security(limits={"reload_interval": 0.01}, crl=True)
    for server in servers:
        while True:
            try:
                with SynchronousTCPClient("localhost", server.settings["port"], 5, 5, security=security) as client:
                    client.connect()
                    assert client.peer is not None
                    if client.peer.fingerprint == fingerprint:
                        break
            except SealwireError as error:
                raise Failed(f"a connection failed: {error}") from error
            if monotonic() > deadline:
                raise Failed(f"after {SOON} s a new connection shows the old certificate ({server.settings['kind']})")
            pause(0.05)


def rotate(deployment: Deployment, servers: list[Worker]) -> None:
    """Rotate everything once."""
    wait_for(deployment, servers, deployment.new_leaf(deployment.server))
    deployment.new_leaf(deployment.client)
    pause(_STEP)
    wait_for(deployment, servers, deployment.new_ca())
    pause(_STEP)
    deployment.new_list()
    pause(_STEP)
    deployment.new_key()
    pause(_STEP)


def judge(servers: list[Worker], clients: list[Worker]) -> int:
    """Return the number of requests. Raises Failed if one failed, was lost or was handled twice."""
    for client in clients:
        client.stop()
    results = [client.line() for client in clients]
    for server in servers:
        server.stop()
        server.process.wait(30)
    seen: dict[str, int] = {}
    for server in servers:
        for line in Path(server.settings["log"]).read_text().split():
            seen[line] = seen.get(line, 0) + 1
    total = sum(result["answered"] for result in results)
    failures = [failure for result in results for failure in result["failures"]]
    twice = sum(count > 1 for count in seen.values())
    lost = sum(f"{result['number']}.{index}" not in seen for result in results for index in range(result["answered"]))
    print(f"{total} requests answered, {len(failures)} failed, {twice} handled twice, {lost} lost; "
          f"{sum(result['connections'] for result in results)} connections")  # fmt: skip
    if failures or twice or lost or len(seen) != total:
        raise Failed(f"{failures[:3]}; the handlers have seen {len(seen)}, the clients had {total} answers")
    return total


def soak(directory: Path, *, rotations: int, requests: int, interval: float) -> None:
    deployment = Deployment(directory)
    with workers(deployment, interval=interval) as (servers, clients):
        start = monotonic()
        for number in range(rotations):
            rotate(deployment, servers)
            print(f"rotation {number + 1} of {rotations}, after {monotonic() - start:.0f} s", flush=True)
        while sum(int(Path(each.settings["log"]).stat().st_size) for each in servers) < requests * 8:
            pause(1)
        total = judge(servers, clients)
    if total < requests:
        raise Failed(f"only {total} requests; {requests} were wanted")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--without-reloading", action="store_true")
    options = parser.parse_args()
    interval = 86_400.0 if options.without_reloading else 1.0
    with tempfile.TemporaryDirectory(prefix="sealwire-soak-") as directory:
        try:
            soak(Path(directory), rotations=options.rotations, requests=options.requests, interval=interval)
        except Failed as failed:
            print(f"failed: {failed}")
            return 1
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Two hosts with a bad wire between them, as the kernel makes it (tc netem)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealwire.testing import Throwaway
from support.network import HOSTS, ip, network

REQUESTS = 40
SERVER = """
import sys
from sealwire import Security
from sealwire.dtls import ThreadingUDPServer

def respond(message):
    print(message, flush=True)
    return message

with ThreadingUDPServer(("192.0.2.1", 7443), respond, Security.from_toml("server.toml")) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
CLIENT = f"""
from sealwire import DeadlineExceeded, Security
from sealwire.dtls import SynchronousUDPClient

with SynchronousUDPClient("192.0.2.1", 7443, 60, 60, security=Security.from_toml("client.toml")) as client:
    for number in range({REQUESTS}):
        if number % 2 == 0:
            assert client.send_request(number, idempotent=True) == number
        else:
            try:
                assert client.send_request(number, wait=0.5) == number
            except DeadlineExceeded:
                pass
print("done")
"""


@contextmanager
def on(host: str, script: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process on that host."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, "-c", script],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(shutil.which("tc") is None, reason="tc is not installed")
def test_a_bad_wire(tmp_path: Path) -> None:
    """A quarter of the datagrams is reordered, some are lost and some come twice: idempotent requests all get through,
    and the others are delivered once at most."""
    place = Throwaway(tmp_path)
    place.leaf("server", HOSTS["server"].partition("/")[0])
    place.leaf("client", "client.example")
    for role, more in (("server", 'peers = ["dns:client.example"]\n'), ("client", "")):
        (tmp_path / f"{role}.toml").write_text(
            f'cert = "{role}.pem"\nkey = "{role}.key"\nca = "ca.pem"\nkeyring = "keyring.toml"\n{more}'
        )
    with network() as names:
        for name in names.values():
            try:
                ip("netns", "exec", name, "tc", "qdisc", "add", "dev", "wire", "root", "netem",
                   "delay", "5ms", "3ms", "reorder", "25%", "duplicate", "10%", "loss", "1%")  # fmt: skip
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no netem here: {error.stderr.decode()}")
        with on(names["server"], SERVER, tmp_path) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            with on(names["client"], CLIENT, tmp_path) as client:
                said, _ = client.communicate(timeout=100)
            assert said == "done\n", said
            server.kill()
            seen = Counter(map(int, server.stdout.read().split()))
    assert set(seen) >= set(range(0, REQUESTS, 2))
    assert all(seen[number] <= 1 for number in range(1, REQUESTS, 2))

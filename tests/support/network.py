"""Two hosts with a wire between them, in network namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

HOSTS = {"server": "192.0.2.1/24", "client": "192.0.2.2/24"}
"""Of the guide with hosts of their own."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def network() -> Iterator[dict[str, str]]:
    """Two hosts with a wire between them, in network namespaces; skips where that cannot be had."""
    names = {host: f"sealwire-{host}-{os.getpid()}" for host in HOSTS}
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    try:
        for name in names.values():
            ip("netns", "add", name)
        server, client = names.values()
        ip("link", "add", "wire", "netns", server, "type", "veth", "peer", "name", "wire", "netns", client)
        for host, name in names.items():
            ip("-n", name, "addr", "add", HOSTS[host], "dev", "wire")
            for device in ("lo", "wire"):
                ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        remove(names)
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    try:
        yield names
    finally:
        remove(names)


def remove(names: dict[str, str]) -> None:
    for name in names.values():
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

"""The how-to guides followed word for word, each in an empty directory, with the command as it is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.documents import ROOT, Shell, blocks, follow, free_port

PYTHON = shlex.quote(sys.executable)
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


def installed(directory: Path) -> str:
    """A directory for the path with the two commands. With -P the current directory is not on Python's path, as it is
    not for an installed script."""
    directory.mkdir()
    for name, arguments in (("sealwire", "-P -m sealwire"), ("python", "")):
        command = directory / name
        command.write_text(f'#!/bin/sh\nexec {PYTHON} {arguments} "$@"\n')
        command.chmod(0o755)
    return f"PATH={shlex.quote(str(directory))}:$PATH"


def walk_through(document: Path, tmp_path: Path, namespaces: dict[str, str]) -> None:
    place = tmp_path / "here"
    place.mkdir()
    ports = {} if namespaces else {"7443": str(free_port())}
    shell = Shell(place, ports, installed(tmp_path / "bin"), namespaces=namespaces)
    try:
        assert follow(document, shell) >= 5
    finally:
        shell.close()
    assert not (place / "owned").exists()


def test_units_are_without_fault(tmp_path: Path) -> None:
    """The guide's own, but for a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    units = []
    for _, options, text in blocks(ROOT / "docs/how-to/run-under-systemd.md"):
        name = options.get("file", "")
        if name.endswith((".service", ".socket")):
            (tmp_path / name).write_text(text.replace("/opt/orders/bin/sealwire", sys.executable))
            units.append(name)
    assert len(units) == 2
    # From the directory of the units, where each finds the other one.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    mine = [line for line in done.stderr.splitlines() if "orders" in line]
    assert mine == []
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/how-to/*.md")), ids=lambda document: document.stem)
def test_every_step_works(document: Path, tmp_path: Path) -> None:
    text = document.read_text()
    if "$ systemd-socket-activate" in text and shutil.which("systemd-socket-activate") is None:
        pytest.skip("systemd-socket-activate is not installed")
    if "host=" in text:
        with network() as namespaces:
            walk_through(document, tmp_path, namespaces)
    else:
        walk_through(document, tmp_path, {})

"""The how-to guides followed word for word, each in an empty directory, with the command as it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.documents import ROOT, STREAM_MODULE, Shell, follow, free_port, installed
from support.network import network

PORTS = ("4222", "7442", "7443", "7444", "7445", "9091", "9092")
"""The names of ports of this machine in the guides."""


def walk_through(document: Path, tmp_path: Path, namespaces: dict[str, str]) -> None:
    place = tmp_path / "here"
    place.mkdir()
    ports = {} if namespaces else {port: str(free_port()) for port in PORTS}
    shell = Shell(place, ports, installed(tmp_path / "bin"), namespaces=namespaces)
    try:
        assert follow(document, shell) >= 3
    finally:
        shell.close()
    assert not (place / "owned").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/how-to/*.md")), ids=lambda document: document.stem)
def test_every_step_works(document: Path, tmp_path: Path) -> None:
    text = document.read_text()
    for command in ("systemd-socket-activate", "redis-server", "haproxy", "nginx", "nats-server"):
        if f"$ {command}" in text and shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    if "ngx_stream_module" in text and not STREAM_MODULE.exists():
        pytest.skip(f"nginx has no stream module: there is no {STREAM_MODULE}")
    if "host=" in text:
        with network() as namespaces:
            walk_through(document, tmp_path, namespaces)
    else:
        walk_through(document, tmp_path, {})

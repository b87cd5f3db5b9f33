"""The tutorial followed word for word, by root, in network namespaces that its own commands make."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documents import ROOT, Shell, follow, installed
from support.network import remove

TUTORIAL = ROOT / "docs" / "tutorial" / "two-hosts.md"
HOSTS = {"depot": "depot", "shop": "shop", "thief": "shop"}


@pytest.fixture
def namespaces() -> Iterator[dict[str, str]]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    if taken := HOSTS.keys() & set(listed):
        pytest.skip(f"there are network namespaces of these names already: {', '.join(sorted(taken))}")
    probe = f"sealwire-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    remove({"": probe})
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr}")
    yield HOSTS
    remove(HOSTS)


@pytest.mark.timeout(300)
def test_every_step_works(tmp_path: Path, namespaces: dict[str, str]) -> None:
    place = tmp_path / "here"
    place.mkdir()
    shell = Shell(place, {}, installed(tmp_path / "bin"), namespaces=namespaces)
    try:
        assert follow(TUTORIAL, shell) >= 20
    finally:
        shell.close()
    assert not Path("/tmp/owned-by-the-thief").exists()

"""Wherever memory runs out, nothing is freed twice, and the next message is examined as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)
pytest.importorskip("_testcapi", reason="CPython's own tests are not installed")

TESTS = Path(__file__).parents[1]
NAMES = ["dicts of one form", "str as keys", "tuples as keys", "ints that are far apart", "long str", "instances"]


@pytest.mark.parametrize("part", ["vetting", "codec"])
@pytest.mark.parametrize("name", NAMES)
def test_every_allocation(name: str, part: str) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "native.out_of_memory", part, name]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr

"""The native core is used as it is installed, and as SEALWIRE_NATIVE says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sealwire.native import NATIVE

SAY = "import sealwire.pickling; print(sealwire.pickling.NATIVE)"
# As if the modules had not been compiled.
WITHOUT = "import sys; sys.modules['sealwire.native.vetting'] = None; "


def run(wish: str, program: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SEALWIRE_NATIVE"}
    if wish:
        environment["SEALWIRE_NATIVE"] = wish
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def test_off_is_not_used() -> None:
    assert run("off", SAY).stdout == "False\n"


def test_without_a_wish_it_is_used_where_it_is_there() -> None:
    assert run("", WITHOUT + SAY).stdout == "False\n"
    if NATIVE:
        assert run("", SAY).stdout == "True\n"
        assert run("require", SAY).stdout == "True\n"


def test_required_and_not_there_is_an_error_that_says_what_to_do() -> None:
    done = run("require", WITHOUT + SAY)
    assert done.returncode == 1
    assert "the native core is not installed: with a C compiler" in done.stderr


@pytest.mark.parametrize("wish", ["on", "0", "required"])
def test_another_wish_is_an_error(wish: str) -> None:
    assert f"SEALWIRE_NATIVE={wish}: must be off, require or unset" in run(wish, SAY).stderr

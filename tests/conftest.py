"""What the tests with real sockets share."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support.service import Deployment, nothing_left

# A shell has processes in the background ignore it, and what ignores it has its children do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however busy the machine: what a commit has not changed must not fail it.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Have no collection of garbage look through all tests that there are, which takes longer than many of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Certificates and a key for a server and its clients."""
    return Deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture
def clean() -> Iterator[None]:
    """The test leaves no thread, descriptor or child process behind."""
    with nothing_left():
        yield


@pytest.fixture
def python() -> list[str]:
    """The beginning of a command line that runs `sealwire` in a process of its own, warnings as errors."""
    return [sys.executable, "-W", "error", "-m", "sealwire"]

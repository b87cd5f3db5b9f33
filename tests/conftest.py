"""Fixtures of the tests with real sockets."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from sealwire.testing import Throwaway
from support.certificates import HOST
from support.service import Deployment, nothing_left

# A shell has processes in the background ignore it, and what ignores it has its children do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however busy the machine: what a commit has not changed must not fail it.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


# No file of a test must outlive a loss of power, and a disk takes longer to write it than most tests. That the package
# syncs its files is seen in tests/pki/test_files.py.
os.fsync = lambda _: None

# No collection of garbage looks through all tests that there are, while they are found or later: it would take longer
# than many of them.
gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure at once, for a run that does not come to its end."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nfailed: {report.nodeid}", file=sys.__stderr__)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Certificates and a key for a server and its clients."""
    return Deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="module")
def place() -> Iterator[Throwaway]:
    """A directory with a CA, a keyring, and certificates of a server and a client."""
    with Throwaway() as made:
        made.leaf("server", HOST, "192.0.2.7")
        made.leaf("client", "client.example")
        yield made


@pytest.fixture
def clean() -> Iterator[None]:
    """The test leaves no thread, descriptor or child process behind."""
    with nothing_left():
        yield


@pytest.fixture
def python() -> list[str]:
    """The beginning of a command line that runs `sealwire` in a process of its own, warnings as errors."""
    return [sys.executable, "-W", "error", "-m", "sealwire"]

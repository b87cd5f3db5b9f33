"""What the tests with real sockets share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.service import Deployment, nothing_left

# A shell has processes in the background ignore it, and what ignores it has its children do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Certificates and a key for a server and its clients."""
    return Deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture
def clean() -> Iterator[None]:
    """The test leaves no thread, descriptor or child process behind."""
    with nothing_left():
        yield

"""A worker of a subject, on the nats-server that all tests share or on one of a test's own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from sealwire.nats import NATSServer
from support.aio import Serving, serving
from support.nats import shared_nats
from support.service import Deployment

Worker = Callable[..., AbstractContextManager[Serving]]


@pytest.fixture
def url() -> str:
    return shared_nats().url


@pytest.fixture
def subject() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def worker(deployment: Deployment, url: str, subject: str) -> Worker:
    """Starts a worker of the subject. where: another URL. options: ``raw``, ``limits`` and others of the Security."""

    @contextmanager
    def start(handler: Any, *, where: str | list[str] | None = None, **options: Any) -> Iterator[Serving]:
        security = deployment.server_security(**options)
        with serving(lambda: NATSServer(where or url, handler, security, subject=subject)) as one:
            yield one

    return start

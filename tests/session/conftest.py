"""A clock for everything that sessions do, and connections without a carrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sealwire.limits import Limits
from support.service import Deployment
from support.session import Clock, Connection, WallClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Clocks that stand, the time of day of the session layer among them."""
    clock = Clock()
    for module in ("terms", "validity"):
        monkeypatch.setattr(f"sealwire.session.{module}.datetime", WallClock(clock))
    return clock


@pytest.fixture
def connect(deployment: Deployment, clock: Clock) -> Callable[..., Connection]:
    """Makes connections; ``limits`` are the server's, ``max_frame`` is the client's."""

    def make(*, established: bool = True, max_frame: int = 1 << 20, **options: Any) -> Connection:
        limits = Limits(**options.pop("limits", {}))
        server = deployment.security("server", raw=True, peers=["dns:client.example"], limits=limits)
        client = deployment.security("client", raw=True, limits=Limits(max_frame=max_frame))
        connection = Connection(server, client, clock, **options)
        if established:
            connection.shake_hands()
        return connection

    return make

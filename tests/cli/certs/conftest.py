from __future__ import annotations

import pytest

from support.commands import Run


@pytest.fixture
def ca(run: Run) -> Run:
    """Run `sealwire` in a directory with a CA, a server's certificate and a client's."""
    run("certs", "init", "--server", "localhost", "--client", "client.example")
    return run

"""A worker of PreforkTCPServer with a thread for each connection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from sealwire.prefork.worker import RestartPolicy, follow_parent
from sealwire.security import Security
from sealwire.sync.server import ThreadingTCPServer

_POLL: Final = 0.05
"""Seconds until the accepting loop notices that the server was shut down."""


def serve(
    listener: socket.socket,
    handler: Any,
    security: Security,
    link: socket.socket,
    policy: RestartPolicy,
    join: Callable[[Any], None],
) -> None:
    """Serve connections from ``listener`` until the parent, at the other end of ``link``, ends this worker.

    ``join`` makes the server share its bounds with the other workers, and report to the parent.
    """
    with ThreadingTCPServer(None, handler, security, listener=listener) as server:
        server.on_request = policy.count_request
        join(server)

        def leave(replaced: bool) -> None:
            server.rejects_while_draining = not replaced
            server.shutdown()

        follow_parent(link, policy, reload=server.reload, leave=leave, drain_timeout=security.limits.drain_timeout)
        server.serve_forever(poll_interval=_POLL)

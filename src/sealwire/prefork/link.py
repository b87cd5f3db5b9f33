"""Messages between the parent and a worker.

Each worker has a socket pair to its parent, its *link*, for messages of one byte. The end of the stream tells either
side that the other process is gone.

=================  ==================  =============================================================================
message            direction           meaning
=================  ==================  =============================================================================
READY              worker to parent    I accept connections; you may dismiss the worker that I replace
REPLACE            worker to parent    I have reached max_requests or max_memory, or got SIGTERM: start a successor
REPLACED           parent to worker    your successor is ready: stop accepting, finish the requests in progress, exit
DRAIN              parent to worker    the server shuts down: reject new connections, else as for REPLACED
RELOAD             parent to worker    read the files of certificates and keys now
RELOADED           worker to parent    answers RELOAD: the content of the files is in service
RELOAD_REJECTED    worker to parent    answers RELOAD: the content is not acceptable, and the previous one stays
=================  ==================  =============================================================================
"""

from __future__ import annotations

import socket
from enum import Enum
from typing import Final

EXIT_MARGIN: Final = 5.0
"""Seconds beyond Limits.drain_timeout after which a worker that has not exited is killed."""


class Message(bytes, Enum):
    """A message between a worker and its parent. The head of the module explains them."""

    READY = b"r"
    REPLACE = b"x"
    REPLACED = b"s"
    DRAIN = b"d"
    RELOAD = b"l"
    RELOADED = b"+"
    RELOAD_REJECTED = b"-"


def send(link: socket.socket, message: Message) -> bool:
    """Send a message to the other process; return False if that process is gone."""
    try:
        return link.send(message) == 1
    except OSError:
        return False

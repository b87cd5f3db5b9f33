"""Asks an admin endpoint on a Unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


def ask(path: Path, page: str) -> str:
    """The body of a page."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
        head, _, body = sock.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", head
    return body.decode()


def status(path: Path) -> dict[str, Any]:
    """Return what /status shows."""
    found: dict[str, Any] = json.loads(ask(path, "/status"))
    return found

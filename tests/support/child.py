"""A server in a process of its own: to fork in a process without threads, and to have limits of its own.

``main`` prints its port, serves until SIGINT, and ends with 0. Messages are raw bytes, answered
in upper case; ``hold…`` waits for somebody to write into the FIFO, ``work…`` takes 20 ms, ``die…`` kills its process,
``pid`` gives it, ``print`` prints a line, and ``stop`` tries to stop the server. At the end it must have no child
process left.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import sealwire
from sealwire import Credentials, Key, Keyring, Limits, Security
from sealwire.codec import RawCodec
from support.constants import KEY_ID, SECRET


def main(settings: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    security = Security(
        credentials=Credentials.from_files(cert=settings["cert"], key=settings["key"], ca=settings["ca"]),
        keys=Keyring([Key(KEY_ID, SECRET)]),
        peers=["dns:client.example"],
        codec=RawCodec(),
        limits=Limits(**settings["limits"]),
    )

    seen = os.open(settings["seen"], os.O_WRONLY | os.O_APPEND)  # while there are descriptors

    def respond(message: bytes) -> bytes:
        os.write(seen, message + b"\n")
        if message.startswith(b"hold"):
            Path(settings["fifo"]).read_bytes()
        elif message.startswith(b"work"):
            time.sleep(0.02)  # a request that takes a moment
        elif message.startswith(b"die"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == b"pid":
            return str(os.getpid()).encode()
        elif message == b"print":
            print("printed")
        elif message == b"stop":
            server.shutdown()
        return message.upper()

    async def respond_on_the_loop(message: bytes) -> bytes:
        return respond(message)

    server_class = getattr(sealwire, settings.get("server", "ForkingTCPServer"))
    handler = respond_on_the_loop if settings.get("coroutines") else respond
    with server_class(
        ("127.0.0.1", settings.get("port", 0)), handler, security, **settings.get("options", {})
    ) as server:
        print(server.server_address[1], flush=True)
        if "descriptors" in settings:
            resource.setrlimit(resource.RLIMIT_NOFILE, (settings["descriptors"], settings["descriptors"]))
        if settings.get("interrupted_at_fork"):
            os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGINT))
        if settings.get("mode") == "thread":
            serve_in_a_thread(server, contended=settings.get("contended", False))
        else:
            with suppress(KeyboardInterrupt):
                server.serve_forever(poll_interval=0.01)
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        sys.exit("a child process is left")


def contend(server: Any) -> None:
    """Have the lock that a child needs, as often as may be."""
    while True:
        server._admission.slots()


def serve_in_a_thread(server: Any, *, contended: bool) -> None:
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    if contended:
        threading.Thread(target=contend, args=[server], daemon=True).start()
    # Since CPython 3.12 there is a warning where a process with threads forks; this one means to.
    warnings.simplefilter("ignore", DeprecationWarning)
    thread.start()
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.shutdown()

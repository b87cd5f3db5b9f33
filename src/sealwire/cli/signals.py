"""The signals of ``sealwire serve``: SIGHUP loads everything again, SIGINT and SIGTERM end it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from types import FrameType

from sealwire.cli import systemd
from sealwire.prefork.supervisor import PreforkTCPServer
from sealwire.sync.server import TCPServer

logger = logging.getLogger("sealwire.server")

Server = TCPServer | PreforkTCPServer


def reload_on_signal(server: Server) -> None:
    """Load configuration, certificates and keys again at SIGHUP."""

    def report(good: bool) -> None:
        logger.info("SIGHUP: %s", "the content of the files is in service" if good else "rejected, see above")
        systemd.notify("READY=1")

    def reload(_: int, __: FrameType | None) -> None:
        systemd.notify("RELOADING=1")
        if isinstance(server, PreforkTCPServer):
            server.on_reload = report
            server.reload()
        else:
            # In a thread of its own: this one may be in the middle of a check, and holds the lock.
            threading.Thread(target=lambda: report(server.reload()), daemon=True).start()

    signal.signal(signal.SIGHUP, reload)


def stop_on_signals(server: Server) -> None:
    """Drain at the first SIGINT or SIGTERM, and end at once at the second."""
    stopping = False

    def announce(name: str) -> None:
        logger.info("%s: finishing the requests in progress; a second signal ends it at once", name)
        systemd.notify("STOPPING=1", "STATUS=finishing the requests in progress")

    def shut_down(name: str) -> None:
        announce(name)
        server.shutdown()

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            for pid in tuple(getattr(server, "active_children", None) or ()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopping = True
        if not hasattr(server, "active_children"):
            # Python would run this function only when a handler that keeps this thread returns, if the second signal
            # comes just before the handler waits in a system call. Here the kernel can end the process itself.
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)
        # A stopping service loads nothing, and systemd would take it for ready again.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        name = signal.Signals(number).name
        if isinstance(server, PreforkTCPServer):
            # Without a thread, for it may be about to fork.
            server.on_leave = lambda: announce(name)
            server.leave()
        else:
            # In a thread of its own: shutdown waits for the loop, which this thread runs.
            threading.Thread(target=shut_down, args=(name,), daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

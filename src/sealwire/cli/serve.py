"""``sealwire serve``: a user's handler on a port, until a signal."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

import click

from sealwire.cli import systemd
from sealwire.cli.config import import_from_here
from sealwire.cli.console import print_line
from sealwire.cli.options import config_option
from sealwire.errors import ConfigurationError
from sealwire.handler import handler_class
from sealwire.listeners import address_text, is_unix, path_text
from sealwire.pickling.importing import import_object
from sealwire.prefork.supervisor import PreforkTCPServer
from sealwire.security import Security
from sealwire.session.terms import check_server
from sealwire.sync.server import ForkingTCPServer, TCPServer, ThreadingTCPServer
from sealwire.sync.unix_server import ForkingUnixStreamServer, ThreadingUnixStreamServer, UnixStreamServer

_SERVERS: Final[dict[str, tuple[type[TCPServer], type[UnixStreamServer]]]] = {
    "threading": (ThreadingTCPServer, ThreadingUnixStreamServer),
    "forking": (ForkingTCPServer, ForkingUnixStreamServer),
    "single": (TCPServer, UnixStreamServer),
}
_MIB: Final = 1024 * 1024

logger = logging.getLogger("sealwire.server")

Server = TCPServer | PreforkTCPServer


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The arguments of the command."""

    name: str
    config: Path
    host: str
    port: int
    kind: str
    workers: int | None
    loop: Literal["threads", "asyncio"]
    max_requests: int | None
    max_memory: int | None
    verbose: bool

    @property
    def prefork(self) -> bool:
        return self.workers is not None or self.loop != "threads"


@click.command()
@click.argument("name", metavar="MODULE:HANDLER")
@config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option(
    "--server",
    "kind",
    type=click.Choice(list(_SERVERS)),
    default="threading",
    show_default=True,
    help="A thread or a process for each connection, or one connection at a time.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Serve in N processes that are replaced when they end."
)
@click.option(
    "--loop",
    type=click.Choice(["threads", "asyncio"]),
    default="threads",
    show_default=True,
    help="How a worker serves; asyncio also takes coroutines, and uses uvloop if that is installed.",
)
@click.option("--max-requests", type=click.IntRange(1), metavar="N", help="Replace a worker after N requests.")
@click.option("--max-memory", type=click.IntRange(1), metavar="MIB", help="Replace a worker that has grown so large.")
@click.option("--verbose", is_flag=True, help="Log tracebacks of handlers; they can hold parts of messages.")
def serve(**options: Any) -> None:
    """Serve a handler until SIGINT or SIGTERM.

    HANDLER is a class derived from sealwire.RequestHandler, or a function from message to reply; MODULE is found in the
    current directory or among the installed packages.

    The first line of the output is the address that it serves on; the log goes to standard error. On SIGINT or SIGTERM
    it finishes the requests in hand and exits with status 0; a second signal ends it at once. It notices when
    certificates and keys are replaced; SIGHUP makes it check now. A socket that systemd listens on takes the place of
    --host and --port, and systemd is told when the service is ready, reloads and stops.

    \b
    sealwire serve orders:respond --config sealwire.toml --port 7443
    sealwire serve orders:respond --config sealwire.toml --port 7443 --workers 4 --loop asyncio
    """
    chosen = _Options(**options)
    if chosen.prefork and chosen.kind != "threading":
        raise click.UsageError("--server is for one process; leave it out, or leave out --workers and --loop")
    if not chosen.prefork and (chosen.max_requests or chosen.max_memory):
        raise click.UsageError("--max-requests and --max-memory are for workers; add --workers")
    with _make_server(chosen) as server:
        _run(server, chosen.name)


def _make_server(options: _Options) -> Server:
    """Load the handler and the configuration, and listen. Raises ConfigurationError."""
    handler = _load_handler(options.name, coroutines=options.loop == "asyncio")
    security = Security.from_toml(options.config)
    listener = systemd.listener()
    try:
        check_server(security, unix=is_unix(listener))
    except ConfigurationError as error:
        raise ConfigurationError(f"{options.config}: {error}") from None
    _log_to_stderr(verbose=options.verbose)
    try:
        return _listen(options, handler, security, listener)
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error)) from None


def _listen(options: _Options, handler: type, security: Security, listener: socket.socket | None) -> Server:
    address = (options.host, options.port)
    if options.prefork:
        return PreforkTCPServer(
            address,
            handler,
            security,
            listener=listener,
            workers=options.workers or 1,
            loop=options.loop,
            max_requests=options.max_requests,
            max_memory=None if options.max_memory is None else options.max_memory * _MIB,
        )
    on_tcp, on_unix = _SERVERS[options.kind]
    if listener is not None and is_unix(listener):
        return on_unix(listener.getsockname(), handler, security, listener=listener)
    return on_tcp(address, handler, security, listener=listener)


def _run(server: Server, name: str) -> None:
    """Serve until a signal, and tell the user and systemd when it is ready."""
    _stop_on_signals(server)
    _reload_on_signal(server)
    address = _listening_address(server.server_address)

    def ready() -> None:
        print_line(f"serving {name} on {address}")
        sys.stdout.flush()  # a parent process may wait for this line
        systemd.notify("READY=1", f"STATUS=serving on {address}")

    if isinstance(server, PreforkTCPServer):
        server.on_ready = ready
    else:
        ready()
    server.serve_forever()
    logger.info("stopped")


def _load_handler(name: str, *, coroutines: bool) -> type:
    """Return the handler class for ``MODULE:HANDLER``. Raises ConfigurationError, click.BadParameter."""
    if re.fullmatch(r"(\w+\.)*\w+:\w+", name) is None:
        raise click.BadParameter(
            f"{name!r}: expected a module and a name in it, like orders:respond", param_hint="MODULE:HANDLER"
        )
    import_from_here()
    handler = import_object(name)
    try:
        return handler_class(handler, coroutines=coroutines)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _log_to_stderr(*, verbose: bool) -> None:
    # Without effect if the user's module has set up logging of its own.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def _listening_address(address: Any) -> str:
    """Return host and port, or the path of a Unix socket."""
    if isinstance(address, bytes):
        address = address.decode(errors="replace")
    return path_text(address) if isinstance(address, str) else address_text(address)


def _reload_on_signal(server: Server) -> None:
    """Check certificates and keys at SIGHUP, rather than within Limits.reload_interval."""

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


def _stop_on_signals(server: Server) -> None:
    """Drain at the first SIGINT or SIGTERM, and end at once at the second."""
    stopping = False

    def announce(name: str) -> None:
        logger.info("%s: finishing the requests in hand; a second signal ends it at once", name)
        systemd.notify("STOPPING=1", "STATUS=finishing the requests in hand")

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

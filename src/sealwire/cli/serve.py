"""``sealwire serve``: a handler of the user's, on a port, until a signal."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import click

from sealwire.cli import systemd
from sealwire.cli.configured import find_modules_here
from sealwire.cli.console import printable
from sealwire.errors import ConfigurationError
from sealwire.handler import handler_class
from sealwire.listening import address_text, is_local
from sealwire.prefork import PreforkTCPServer
from sealwire.security import Security
from sealwire.server import ForkingTCPServer, TCPServer, ThreadingTCPServer
from sealwire.unix import ForkingUnixStreamServer, ThreadingUnixStreamServer, UnixStreamServer

_SERVERS: dict[str, tuple[type[TCPServer], type[UnixStreamServer]]] = {
    "threading": (ThreadingTCPServer, ThreadingUnixStreamServer),
    "forking": (ForkingTCPServer, ForkingUnixStreamServer),
    "single": (TCPServer, UnixStreamServer),
}
_MIB = 1024 * 1024
_REMEDIES = {
    errno.EADDRINUSE: "something else listens there; take another --port, or 0 for a free one",
    errno.EACCES: "a port below 1024 needs privileges; take another --port, or 0 for a free one",
    errno.EADDRNOTAVAIL: "--host must be an address of this machine",
}

logger = logging.getLogger("sealwire.server")


@click.command()
@click.argument("name", metavar="MODULE:HANDLER")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="TOML file with certificate, keys and who may connect.",
)
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
    help="What each worker has in it; asyncio also takes coroutines, and is uvloop where that is installed.",
)
@click.option("--max-requests", type=click.IntRange(1), metavar="N", help="Replace a worker after N requests.")
@click.option("--max-memory", type=click.IntRange(1), metavar="MIB", help="Replace a worker that has grown so large.")
@click.option("--verbose", is_flag=True, help="Log tracebacks of handlers; they can hold parts of messages.")
def serve(
    *,
    name: str,
    config: Path,
    host: str,
    port: int,
    kind: str,
    workers: int | None,
    loop: str,
    max_requests: int | None,
    max_memory: int | None,
    verbose: bool,
) -> None:
    """Serve a handler until SIGINT or SIGTERM.

    HANDLER is a class derived from sealwire.RequestHandler, or a function from message to reply; MODULE is found in the
    current directory or among the installed packages.

    The first line of the output says where it serves, and the log goes to stderr. On SIGINT or SIGTERM the requests in
    hand are finished, and the exit status is 0; a second one ends it at once. Certificates and keys that are replaced
    are noticed; SIGHUP makes it look now. A socket that systemd listens on takes the place of --host and --port, and
    systemd is told when the service is ready, reloads and stops.

    \b
    sealwire serve orders:respond --config sealwire.toml --port 7443
    sealwire serve orders:respond --config sealwire.toml --port 7443 --workers 4 --loop asyncio
    """
    prefork = workers is not None or loop != "threads"
    if prefork and kind != "threading":
        raise click.UsageError("--server is for one process; take it or --workers and --loop away")
    if not prefork and (max_requests or max_memory):
        raise click.UsageError("--max-requests and --max-memory are for workers; give --workers, too")
    handler = load_handler(name, coroutines=loop == "asyncio")
    security = Security.from_toml(config)
    listener = systemd.listener()
    try:
        security.check_server(local=is_local(listener))
    except ConfigurationError as error:
        raise ConfigurationError(f"{config}: {error}") from None
    _log_to_stderr(verbose=verbose)

    def started() -> TCPServer | PreforkTCPServer:
        if prefork:
            memory = None if max_memory is None else max_memory * _MIB
            return PreforkTCPServer(
                (host, port), handler, security, listener=listener, workers=workers or 1,
                loop="asyncio" if loop == "asyncio" else "threads", max_requests=max_requests, max_memory=memory,
            )  # fmt: skip
        on_tcp, on_unix = _SERVERS[kind]
        if listener is not None and is_local(listener):
            return on_unix(listener.getsockname(), handler, security, listener=listener)
        return on_tcp((host, port), handler, security, listener=listener)

    with _listening(started) as server:
        _stop_on_signals(server)
        _reload_on_signal(server)
        where = _where(server.server_address)

        def ready() -> None:
            click.echo(f"serving {printable(name)} on {where}")
            sys.stdout.flush()  # whoever started us waits for this line
            systemd.notify("READY=1", f"STATUS=serving on {where}")

        if isinstance(server, PreforkTCPServer):
            server.on_ready = ready
        else:
            ready()
        server.serve_forever()
    logger.info("stopped")


def load_handler(name: str, *, coroutines: bool = False) -> type:
    """The handler class for ``MODULE:HANDLER``. Raises ConfigurationError, click.BadParameter."""
    match = re.fullmatch(r"((?:\w+\.)*\w+):(\w+)", name)
    if match is None or name.startswith("."):
        raise click.BadParameter(
            f"{printable(name)!r}: expected a module and a name in it, like orders:respond", param_hint="MODULE:HANDLER"
        )
    module = _load_module(match[1])
    try:
        handler = getattr(module, match[2])
    except AttributeError:
        raise ConfigurationError(f"{name}: the module has no {match[2]!r}; {_candidates(module)}") from None
    try:
        return handler_class(handler, coroutines=coroutines)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _load_module(name: str) -> ModuleType:
    find_modules_here()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed_import(name, error) from error
        ending = f"; give the module's name without {name[-3:]}" if name.endswith(".py") else ""
        raise ConfigurationError(
            f"no module {error.name!r} in {os.getcwd()} or among the installed packages"
            + (ending or "; go to the directory that it is in, or install it")
        ) from None
    except SystemExit as error:
        raise ConfigurationError(
            f"{name}: the module ended the program when it was imported; "
            "put what it does as a program under `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        raise _failed_import(name, error) from error


def _failed_import(name: str, error: Exception) -> ConfigurationError:
    """Type, place and text of what a user's own module raised."""
    if isinstance(error, SyntaxError):
        place, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        # The user's own line, rather than the place in a library that it called.
        own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]
        frame = (own or frames)[-1]
        place, text = f"{frame.filename}:{frame.lineno}", str(error)
    return ConfigurationError(f"{name}: cannot be imported: {type(error).__name__} at {place}: {text}")


def _candidates(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return f"it has {', '.join(own[:5])}" if own else "it has no function and no class of its own"


def _log_to_stderr(*, verbose: bool) -> None:
    # Without effect where the user's module has set up logging of its own.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


@contextmanager
def _listening(started: Callable[[], TCPServer | PreforkTCPServer]) -> Iterator[TCPServer | PreforkTCPServer]:
    try:
        server = started()
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "--host must be an address of this machine, or its name")
        raise ConfigurationError(f"{error.strerror or error}; {remedy}") from None
    with server:
        yield server


def _where(address: Any) -> str:
    """An address to listen on, as systemd writes it: the path of a Unix socket, @ for one without a file."""
    if isinstance(address, bytes):
        address = address.decode(errors="replace").replace("\0", "@", 1)
    return printable(address) if isinstance(address, str) else address_text(address)


def _reload_on_signal(server: TCPServer | PreforkTCPServer) -> None:
    """Look at certificates and keys at SIGHUP, rather than within Limits.reload_interval."""

    def looked(good: bool) -> None:
        logger.info("SIGHUP: %s", "what the files hold is in service" if good else "see above")
        systemd.notify("READY=1")

    def reload(_: int, __: FrameType | None) -> None:
        systemd.notify("RELOADING=1")
        if isinstance(server, PreforkTCPServer):
            server.on_reload = looked
            server.reload()
        else:
            # In a thread of its own: this one may be looking just now, and holds the lock.
            threading.Thread(target=lambda: looked(server.reload()), daemon=True).start()

    signal.signal(signal.SIGHUP, reload)


def _stop_on_signals(server: TCPServer | PreforkTCPServer) -> None:
    """Drain at the first SIGINT or SIGTERM, and die of the second."""
    stopping = False

    def leaving(name: str) -> None:
        logger.info("%s: finishing the requests in hand; once more ends it at once", name)
        systemd.notify("STOPPING=1", "STATUS=finishing the requests in hand")

    def shut_down(name: str) -> None:
        leaving(name)
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
        # Nothing is put into service any more, and systemd would take us for ready again.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        name = signal.Signals(number).name
        if isinstance(server, PreforkTCPServer):
            # Without a thread, for it may be about to fork.
            server.on_leave = lambda: leaving(name)
            server.leave()
        else:
            # In a thread of its own: shutdown waits for the loop, which this thread runs.
            threading.Thread(target=shut_down, args=(name,), daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

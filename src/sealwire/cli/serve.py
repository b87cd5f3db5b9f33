"""``sealwire serve``: a user's handler on a port, until a signal."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import click

from sealwire.admin import AdminEndpoint
from sealwire.admin.endpoint import admin_address
from sealwire.cli import systemd
from sealwire.cli.addresses import Address
from sealwire.cli.binding import Bind, BindType, ListenerGroup, is_unix_bind, listening_address
from sealwire.cli.config import import_from_here
from sealwire.cli.console import print_line
from sealwire.cli.logs import log_options, set_up_logging
from sealwire.cli.options import checked, config_option, is_given, usage
from sealwire.cli.reloader import inherited, run
from sealwire.cli.signals import Server, reload_on_signal, stop_on_signals
from sealwire.contract import contract_of
from sealwire.errors import ConfigurationError
from sealwire.handler import handler_class
from sealwire.listeners import check_address, is_unix
from sealwire.middleware import audit
from sealwire.middleware.serving import Served
from sealwire.pickling.importing import import_object
from sealwire.prefork.supervisor import PreforkTCPServer
from sealwire.security import Security
from sealwire.session.terms import check_server
from sealwire.sync.server import ForkingTCPServer, TCPServer, ThreadingTCPServer
from sealwire.sync.unix_server import ForkingUnixStreamServer, ThreadingUnixStreamServer, UnixStreamServer
from sealwire.trust.own_certificate import name_problems

_SERVERS: Final[dict[str, tuple[type[TCPServer], type[UnixStreamServer]]]] = {
    "threading": (ThreadingTCPServer, ThreadingUnixStreamServer),
    "forking": (ForkingTCPServer, ForkingUnixStreamServer),
    "single": (TCPServer, UnixStreamServer),
}
_MIB: Final = 1024 * 1024

logger = logging.getLogger("sealwire.server")


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The arguments of the command."""

    name: str
    config: Path
    bind: tuple[Bind, ...]
    app_dir: Path
    reload: bool
    check_config: bool
    host: str
    port: int
    kind: str
    workers: int | None
    loop: Literal["threads", "asyncio"]
    max_requests: int | None
    max_memory: int | None
    nats: str | None
    subject: str | None
    admin: str | None
    access_log: bool
    log_level: str | None
    log_format: str | None
    log_config: Path | None
    verbose: bool

    @property
    def coroutines(self) -> bool:
        """True if the handler may be a coroutine function."""
        return self.loop == "asyncio" or self.nats is not None

    @property
    def prefork(self) -> bool:
        return self.workers is not None or self.loop != "threads"


@click.command()
@click.argument("name", metavar="MODULE:HANDLER")
@config_option
@click.option(
    "--bind",
    "-b",
    type=BindType(),
    multiple=True,
    help="HOST:PORT, unix:PATH or fd:N to listen on, in place of --host and --port; may be given several times.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=checked(lambda host: check_address((host, 0))),
    help="Address to listen on.",
)
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
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
@click.option(
    "--nats",
    metavar="URL",
    help="Serve a subject of NATS instead of a port: nats://HOST:PORT or tls://HOST:PORT, of a cluster with commas.",
)
@click.option("--subject", help="The subject to serve, with --nats.")
@click.option(
    "--admin",
    metavar="ADDRESS",
    callback=checked(admin_address),
    help="Answer probes and scrapes at 127.0.0.1:PORT or unix:PATH. Default: [admin] in the configuration, or nowhere.",
)
@click.option(
    "--app-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="Directory in which MODULE is looked for.",
)
@click.option("--reload", is_flag=True, help="Serve again when a module in --app-dir changes, for development.")
@click.option("--check-config", is_flag=True, help="Load everything, say what is wrong, and end.")
@click.option("--access-log", is_flag=True, help="Log each request: its client, type, outcome and duration.")
@log_options
def serve(**options: Any) -> None:
    """Serve a handler until SIGINT or SIGTERM.

    HANDLER is a class derived from sealwire.RequestHandler, or a function from message to reply; MODULE is found in the
    current directory, or that of --app-dir, or among the installed packages.

    The first line of the output has the addresses that it serves on; the log goes to standard error. On SIGINT or
    SIGTERM it finishes the requests in progress and exits with status 0; a second signal ends it at once. It notices
    when certificates and keys are replaced; SIGHUP makes it load the whole configuration again. A certificate that
    clients must refuse is an error at the start. A socket that systemd listens on takes the place of --host and --port
    (of several, say --bind fd:3 --bind fd:4), and systemd is told when the service is ready, reloads and stops.

    \b
    sealwire serve orders:respond --config sealwire.toml --port 7443
    sealwire serve orders:respond --config sealwire.toml --port 7443 --workers 4 --loop asyncio
    sealwire serve orders:respond --config sealwire.toml --bind 0.0.0.0:7443 --bind unix:/run/orders.sock
    sealwire serve orders:respond --config sealwire.toml --nats tls://nats.example --subject orders
    """
    chosen = _Options(**options)
    _check(chosen)
    passed = inherited()
    if chosen.reload and passed is None:
        binds = chosen.bind or (Address(chosen.host, chosen.port),)
        module = chosen.name.partition(":")[0]
        try:
            run(() if chosen.nats else binds, module, chosen.app_dir, chosen.config)
        except OSError as error:
            raise ConfigurationError(error.strerror or str(error)) from None
        return
    if passed is not None:
        chosen = replace(chosen, bind=tuple(passed))
    if chosen.check_config:
        _check_only(chosen)
        return
    with _make_server(chosen) as server, ExitStack() as stack:
        address = chosen.admin if chosen.admin is not None else server.security.admin
        if address is not None:
            endpoint = stack.enter_context(AdminEndpoint(server, address))
            logger.info("admin endpoint on %s", endpoint.address)
        _run(server, chosen.name)


def _check(chosen: _Options) -> None:
    """Raise UsageError if options do not go together."""

    if chosen.prefork and chosen.kind != "threading":
        raise click.UsageError("--server is for one process; leave it out, or leave out --workers and --loop")
    if not chosen.prefork and (chosen.max_requests or chosen.max_memory):
        raise click.UsageError("--max-requests and --max-memory are for workers; add --workers")
    if chosen.log_config is not None and (chosen.log_level or chosen.log_format or chosen.verbose):
        raise click.UsageError("--log-config has the levels and forms of the log; leave the other options out")
    if (chosen.nats is None) is not (chosen.subject is None):
        raise click.UsageError("--nats and --subject belong together")
    if chosen.bind and (chosen.nats is not None or is_given("host") or is_given("port")):
        raise click.UsageError("--bind takes the place of --host, --port and --nats; leave out one or the other")
    if chosen.reload and chosen.check_config:
        raise click.UsageError("--check-config ends at once; leave out --reload")
    if chosen.nats is not None and (chosen.workers is not None or chosen.kind != "threading"):
        raise click.UsageError("--nats is for one process with an event loop; start as many as you need")
    if chosen.nats is not None:
        importlib.import_module("sealwire.nats")  # it needs an extra
        urls = importlib.import_module("sealwire.nats.urls")
        with usage(hint="--nats"):
            urls.parse_urls(chosen.nats)
        with usage(hint="--subject"):
            urls.check_subject("it", chosen.subject)


def _check_only(options: _Options) -> None:
    """Load the handler and the configuration as a start does, without listening. Raises ConfigurationError."""
    handler, security = _load(options)
    kinds = {is_unix_bind(bind) for bind in options.bind} or {False}
    _check_security(options, security, kinds)
    served = Served.of(handler, security, [], coroutines=options.coroutines)
    contract_of(served.under(security.pinned()), security)
    if (address := options.admin if options.admin is not None else security.admin) is not None:
        admin_address(address)
    print_line(f"{options.config} and {options.name} can be served")


def _make_server(options: _Options) -> Server:
    """Load the handler and the configuration, and listen. Raises ConfigurationError."""
    handler, security = _load(options)
    listener: Any = systemd.listener(taken=not options.bind)
    _check_security(options, security, {is_unix_bind(bind) for bind in options.bind} or {is_unix(listener)})
    with ExitStack() as stack:
        try:
            if options.bind:
                listener = ListenerGroup(options.bind)
                stack.callback(listener.close)
                security.require(listener.check)
            server = _listen(options, handler, security, listener)
        except OSError as error:
            raise ConfigurationError(error.strerror or str(error)) from None
        stack.pop_all()
    return server


def _load(options: _Options) -> tuple[type, Security]:
    import_from_here(options.app_dir)
    handler = _load_handler(options.name, coroutines=options.coroutines)
    security = Security.from_toml(options.config)
    level = "debug" if options.verbose else options.log_level
    set_up_logging(level, options.log_format, options.log_config)
    return handler, security


def _check_security(options: _Options, security: Security, kinds: Collection[bool]) -> None:
    """Check the settings that servers on Unix sockets, or on TCP, need. Raises ConfigurationError, naming the file."""
    try:
        for unix in kinds:
            check_server(security, unix=unix)
            if not unix:
                current = security.credentials.current
                for problem, fix in name_problems(current):
                    raise ConfigurationError(f"{current.paths['cert']}: {problem}; {fix}")
    except ConfigurationError as error:
        raise ConfigurationError(f"{options.config}: {error}") from None


def _listen(options: _Options, handler: type, security: Security, listener: Any) -> Server:
    around = [audit] if options.access_log else []
    if options.nats is not None:
        process = importlib.import_module("sealwire.nats.process")  # it needs an extra
        worker: Server = process.WorkerProcess(
            options.nats, handler, security, subject=options.subject, middleware=around
        )
        return worker
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
            middleware=around,
        )
    on_tcp, on_unix = _SERVERS[options.kind]
    if listener is not None and is_unix(listener):
        return on_unix(listener.getsockname(), handler, security, listener=listener, middleware=around)
    return on_tcp(address, handler, security, listener=listener, middleware=around)


def _run(server: Server, name: str) -> None:
    """Serve until a signal, and tell the user and systemd when it is ready."""
    stop_on_signals(server)
    reload_on_signal(server)
    group = getattr(server, "socket", None)
    address = str(group) if isinstance(group, ListenerGroup) else listening_address(server.server_address)

    def ready() -> None:
        print_line(f"serving {name} on {address}")
        sys.stdout.flush()  # a parent process may wait for this line
        systemd.notify("READY=1", f"STATUS=serving on {address}")

    if hasattr(server, "on_ready"):
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
    handler = import_object(name)
    try:
        return handler_class(handler, coroutines=coroutines)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None

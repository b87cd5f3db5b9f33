"""The arguments of a server of the suite, for this process and for those that it starts."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import sealwire
from conformance.around import MIDDLEWARE
from conformance.handlers import Cancel, Order
from sealwire import Limits, Security, contention
from sealwire.admin import AdminEndpoint
from sealwire.log_format import JSONFormatter
from sealwire.middleware import Rule
from sealwire.session import common_use, round_robin
from sealwire.session import shares as session_shares
from support.constants import QUICK

Address = Any
SERVICE: Final = "orders"


@dataclass(frozen=True)
class Given:
    """The arguments of a server.

    Attributes:
        directory: The directory of its Side.
        limits: Limits in addition to the quick ones.
        middleware: The names of its middleware.
        authorise: The types and peers of each rule.
        bare: True without certificates and a CA, as a Unix socket needs none.
        long_pauses: True if a peer over its share, once several are active, pauses for longer than any test.
        observed: True to write the log to log.jsonl, and to serve the admin endpoint at the socket admin.
        configured: True if all but the middleware is in the Side's sealwire.toml.
    """

    directory: Path
    address: Address
    handler: str = "respond"
    limits: dict[str, Any] | None = None
    crl: bool = False
    raw: bool = False
    middleware: tuple[str, ...] = ()
    authorise: list[Any] | None = None
    configured: bool = False
    proxies: list[str] | None = None
    bare: bool = False
    observed: bool = False
    long_pauses: bool = False

    @property
    def around(self) -> dict[str, Any]:
        return {"middleware": [MIDDLEWARE[name] for name in self.middleware]} if self.middleware else {}

    def security(self) -> Security:
        if self.configured:
            return Security.from_toml(self.directory / "sealwire.toml")
        path = self.directory.joinpath
        limits = Limits(**(QUICK | {"reload_interval": 0.05} | (self.limits or {})))
        return Security(
            credentials=sealwire.Credentials.from_files(
                **{} if self.bare else {part: path(part) for part in ("cert", "key", "ca")},
                crl=path("crl") if self.crl else None,
            ),
            keys=sealwire.Keyring.from_file(path("keyring")),
            peers=["dns:client.example", f"uid:{os.getuid()}"],
            service=SERVICE,
            codec=sealwire.codec.RawCodec()
            if self.raw
            else sealwire.Codec(sealwire.Allowlist(Order, Cancel), limits=limits),
            limits=limits,
            proxy_protocol=self.proxies,
            authorise=None if self.authorise is None else [Rule(*each) for each in self.authorise],
        )


@contextmanager
def shares(given: Given) -> Iterator[None]:
    """Let peers count as active and pause for longer than any test, on any machine, if the server is to."""
    if not given.long_pauses:
        yield
        return
    changes = {"CONTENDED": 1000.0, "PAUSE": 1e9, "LONGEST": 1000.0, "WINDOW": 1000.0, "_DEMAND": 0.0}
    over = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(contention, "sleep", over.wait))
        for module in (contention, common_use, session_shares, round_robin):
            for name in changes.keys() & vars(module).keys():
                stack.enter_context(mock.patch.object(module, name, changes[name]))
        try:
            yield
        finally:
            over.set()
            contention.activity.calm(math.inf)
            for each in (contention.activity, contention.shares, contention.precedence):
                each.reset()


class _Raising(logging.Handler):
    """A handler that is no good, as a program may have one."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("this handler is no good")


@contextmanager
def logged(given: Given) -> Iterator[None]:
    """Write the log, if the server is to be observed."""
    if not given.observed:
        yield
        return
    written = logging.FileHandler(given.directory / "log.jsonl")
    written.setFormatter(JSONFormatter())
    raising = _Raising()
    loggers = [logging.getLogger(f"sealwire.{name}") for name in ("server", "audit", "rotation")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
            logger.addHandler(written)
            logger.addHandler(raising)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
            logger.removeHandler(raising)
            logger.removeHandler(written)
        written.close()


def endpoint(given: Given, server: Any) -> AbstractContextManager[Any]:
    """Serve the admin endpoint, if the server is to be observed."""
    return AdminEndpoint(server, f"unix:{given.directory / 'admin'}") if given.observed else nullcontext()

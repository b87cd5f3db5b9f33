"""Events, by name: every line of the log is made here, and every record for ``sealwire.audit``.

An event has a name that stays the same from version to version, a level, and fields. Its line goes to the logger that
:data:`EVENTS` has for it. If it concerns security, the same goes to ``sealwire.audit``, too. A LogRecord of either has
the name and the fields as its attribute ``audit``, a dict, for formatters and filters.

A logging handler that raises is the program's fault, and must not end a connection, a worker or a server: what it
raises ends here.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final, NamedTuple

from sealwire.wire.frames import escaped

AUDIT: Final = "sealwire.audit"
LONGEST: Final = 2000
"""Characters of a field, or of a line."""
_logger: Final = cache(logging.getLogger)
"""logging's own takes the lock of all loggers, which a signal handler's exception in it leaves taken."""
_SERVER: Final = "sealwire.server"
_ROTATION: Final = "sealwire.rotation"
_CLIENT: Final = "sealwire.client"


class Event(NamedTuple):
    """An event's level, whether it concerns security, and the logger of its line (none: it has a record only)."""

    level: int
    audit: bool = False
    logger: str = _SERVER


EVENTS: Final = {
    "connection.opened": Event(logging.DEBUG, audit=True),
    "connection.silent": Event(logging.DEBUG),
    "connection.lost": Event(logging.INFO),
    "connection.broken": Event(logging.WARNING, audit=True),
    "connection.revoked": Event(logging.WARNING, audit=True),
    "connection.expired": Event(logging.WARNING, audit=True),
    "connection.aged": Event(logging.DEBUG),
    "connection.failed": Event(logging.ERROR),
    "handshake.refused": Event(logging.WARNING, audit=True),
    "limit.hit": Event(logging.WARNING, audit=True),
    "message.refused": Event(logging.WARNING, audit=True),
    "request.ended": Event(logging.INFO, audit=True, logger=""),
    "request.refused": Event(logging.INFO),
    "request.overdue": Event(logging.INFO),
    "request.failed": Event(logging.ERROR),
    "reply.refused": Event(logging.WARNING),
    "reply.dropped": Event(logging.DEBUG),
    "events.left_out": Event(logging.WARNING, audit=True),
    "reload.taken": Event(logging.INFO, audit=True, logger=_ROTATION),
    "reload.refused": Event(logging.ERROR, audit=True, logger=_ROTATION),
    "reload.kept": Event(logging.WARNING, audit=True, logger=_ROTATION),
    "reload.waits": Event(logging.WARNING, logger=_ROTATION),
    "reload.failed": Event(logging.ERROR),
    "worker.exited": Event(logging.ERROR),
    "worker.replaced": Event(logging.INFO),
    "worker.failed": Event(logging.ERROR),
    "client.fault": Event(logging.INFO, logger=_CLIENT),
    "client.lost": Event(logging.INFO, logger=_CLIENT),
    "client.given_up": Event(logging.INFO, logger=_CLIENT),
    "client.left": Event(logging.INFO, logger=_CLIENT),
    "server.short": Event(logging.ERROR),
    "server.busy": Event(logging.ERROR),
}


def emit(name: str, text: str, *, level: int | None = None, error: BaseException | None = None, **fields: Any) -> None:
    """Log an event.

    Args:
        name: Its name, one of EVENTS.
        text: Its line.
        level: Its level. Default: as in EVENTS.
        error: An exception, logged with its traceback. Default: none.
        fields: Details. None and empty texts are left out.
    """
    event = EVENTS[name]
    level = event.level if level is None else level
    fields = {"event": name} | fields
    if event.logger:
        _log(event.logger, level, text, fields, error)
    if event.audit and (not event.logger or _logger(AUDIT).hasHandlers()):
        # Without any handler, logging's last resort would print the line a second time.
        _log(AUDIT, max(level, logging.INFO), text, fields, None)


def _log(name: str, level: int, text: str, fields: dict[str, Any], error: BaseException | None) -> None:
    logger = _logger(name)
    try:
        if logger.isEnabledFor(level):
            audit = {key: _bounded(value) for key, value in fields.items() if value not in (None, "")}
            logger.log(level, "%s", _bounded(text), exc_info=error, extra={"audit": audit})
    except Exception:
        # There is no better place to tell of it, and logging's own handlers have told by themselves.
        return


def _bounded(value: Any) -> Any:
    return escaped(value[:LONGEST]) if isinstance(value, str) else value

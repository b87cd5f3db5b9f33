"""Lines of JSON for a log, one for each record of any logger.

::

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.getLogger("sealwire").addHandler(handler)
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON, in ASCII.

    Each has ``time`` (UTC), ``level``, ``logger`` and ``message``. One of Sealwire's has its ``event`` and what is
    known of it, too, and one with an exception its ``traceback``. A configuration of Python's logging names it as
    ``{"()": "sealwire.log_format.JSONFormatter"}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Whatever the record is, this is one."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        audit = getattr(record, "audit", None)
        if isinstance(audit, dict):
            found |= {str(key): value for key, value in audit.items() if key not in found}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # its arguments do not fit, which is no reason to lose it
        return str(record.msg)

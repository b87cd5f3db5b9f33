"""The exit statuses of all commands, and the one that each error leads to."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import Any, Final

import click

from sealwire.cli.console import error_line
from sealwire.errors import (
    AuthenticationError,
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeRejected,
    NoServerAvailable,
    PeerNotAllowed,
    RemoteError,
    RemoteProtocolError,
    SealwireError,
    TransportError,
)
from sealwire.wire.frames import FaultCode, RejectCode


class ExitStatus(IntEnum):
    """An exit status; from 64 on as in ``sysexits.h``, 0 to 3 also as those of monitoring plugins."""

    OK = 0
    ERROR = 1
    CRITICAL = 2
    UNKNOWN = 3
    USAGE = 64
    NO_CONNECTION = 69
    FAULT = 70
    DEADLINE = 75
    OUTCOME_UNKNOWN = 76
    REFUSED = 77


MEANINGS: Final = {
    ExitStatus.OK: "done; of a check: nothing is wrong",
    ExitStatus.ERROR: "any other error, such as a file that cannot be used; of a check: a warning",
    ExitStatus.CRITICAL: "of a check: something is wrong now",
    ExitStatus.UNKNOWN: "of a check: it could not be made",
    ExitStatus.USAGE: "the command line or a variable is wrong; nothing was done",
    ExitStatus.NO_CONNECTION: "no connection, or not in time, or the server takes none; no handler has the request",
    ExitStatus.FAULT: "the server answered with a fault: often, its handler failed",
    ExitStatus.DEADLINE: "the time for the reply ran out; the server may act on the request, now or later",
    ExitStatus.OUTCOME_UNKNOWN: "the connection ended before the reply; the server may or may not have acted",
    ExitStatus.REFUSED: "one side refused the other's certificate, identity or key, or the request's type",
}
"""The meaning of each status; the checks are `check`, `status`, `doctor` and `certs expiring`."""


# click has 2, which is CRITICAL, and no setting for it.
click.UsageError.exit_code = ExitStatus.USAGE


class Failure(click.ClickException):
    """An error as one line on standard error, and an exit status."""

    def __init__(self, error: SealwireError | OSError, status: ExitStatus | None = None) -> None:
        # The option of `call`, in place of the argument that a program gives.
        super().__init__(error_line(error).replace("idempotent=True", "--idempotent"))
        self.exit_code = status_of(error) if status is None else status  # type: ignore[misc]  # click reads the instance's


def status_of(error: SealwireError | OSError) -> ExitStatus:
    """Return the exit status of a command that ends with this error."""
    if _is_refusal(error):
        return ExitStatus.REFUSED
    match error:
        case DeadlineExceeded(sent=False):
            return ExitStatus.NO_CONNECTION
        case RemoteError(code=FaultCode.DEADLINE_EXCEEDED) | DeadlineExceeded():
            return ExitStatus.DEADLINE
        case RemoteError():
            return ExitStatus.FAULT
        case NoServerAvailable():
            found = {status_of(each) for each in error.failures.values()}
            return found.pop() if len(found) == 1 else ExitStatus.NO_CONNECTION
        case ConnectionClosed() | RemoteProtocolError():
            return ExitStatus.OUTCOME_UNKNOWN
        case TransportError():
            return ExitStatus.NO_CONNECTION
    return ExitStatus.ERROR


def _is_refusal(error: BaseException | None) -> bool:
    match error:
        case PeerNotAllowed() | AuthenticationError() | HandshakeRejected(code=RejectCode.NOT_AUTHORISED):
            return True
        case RemoteError(code=FaultCode.TYPE_NOT_ALLOWED):  # also that of a request that no rule allows
            return True
        case TransportError():
            return error.reason in ("certificate", "not_authorised") or isinstance(error.__cause__, AuthenticationError)
    return False


def unknown_if_it_fails(command: Callable[..., Any]) -> Callable[..., Any]:
    """Have a check end with UNKNOWN in place of ERROR, which would be taken for a warning."""

    @wraps(command)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise
        except (SealwireError, OSError) as error:
            status = status_of(error)
            raise Failure(error, ExitStatus.UNKNOWN if status is ExitStatus.ERROR else status) from error

    return checked

"""Repeats operations of TLS that fail because of an error that is not theirs.

OpenSSL queues errors for each thread, and ``SSL_get_error`` takes any entry in the queue for the failure of the
operation that had to wait just now. Some functions, of Python's ``ssl`` and of libraries that a handler uses, leave
an error in the queue, which would end the next connection that this thread waits for. Raising the exception empties the
queue, so that repeating the operation gives its true result. One that has really failed fails again, or finds the end
of the stream.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def repeat(error: OSError, operation: Callable[[], _T]) -> _T:
    """Repeat a TLS operation that failed.

    Args:
        error: The error of the first attempt.
        operation: Does the same again.

    Returns:
        The result of the second attempt.

    Raises:
        ssl.SSLWantReadError: It has to wait, and ssl.SSLWantWriteError likewise.
        OSError: ``error``, if the second attempt fails, too, or finds the end of the stream.
    """
    try:
        if type(error) is not ssl.SSLError:
            raise error
        try:
            result = operation()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            raise error from None
        if result == 0:
            raise error
        return result
    finally:
        del error  # its traceback has this frame, and both would keep the caller's buffer

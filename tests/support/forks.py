"""Children that are forks of the test's process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def forked(action: Callable[[], None]) -> int:
    """Start a child that runs ``action``, which may raise; return its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the test or others before it have
        child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return child

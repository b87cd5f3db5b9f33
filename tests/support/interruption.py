"""Exceptions that are raised from outside, at any line of the package, as a signal handler can."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import sealwire

PACKAGE = os.path.dirname(sealwire.__file__)


class Interruption(BaseException):
    """Raised at places where nothing in the package expects it."""


def interrupted(number: int, call: Callable[[], Any]) -> bool:
    """Return True if ``call`` was interrupted at the line of that number, of all that it executes in the package."""
    lines, was = 0, False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines, was
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        lines += event == "line"
        if lines == number and not was:
            was = True
            raise Interruption
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interruption:
        pass
    finally:
        sys.settrace(before)
    return was

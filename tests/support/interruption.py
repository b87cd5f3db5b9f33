"""Exceptions that are raised from outside, at any line of the package, as a signal handler can."""

from __future__ import annotations

import contextlib
import dis
import os
import re
import socketserver
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

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


_LOOKS_FOR_SIGNALS: Final = re.compile("RESUME|CALL|JUMP_BACKWARD")
"""The instructions after which the interpreter calls signal handlers."""


def raise_interruption() -> None:
    """Raise Interruption, as a signal handler."""
    raise Interruption


def signalled(number: int, call: Callable[[], Any], handler: Callable[[], Any] = raise_interruption) -> bool:
    """Return True if ``handler`` was called in ``call``, where a signal handler can run for the ``number``-th time.

    That is after some instructions only: unlike at any line, a ``with`` statement's lock is always released.
    """
    places, was = 0, False
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal places, was
        code = frame.f_code
        if not code.co_filename.startswith((PACKAGE, contextlib.__file__, socketserver.__file__, threading.__file__)):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            last.pop(id(frame), None)
        if event == "opcode":
            before, last[id(frame)] = last.get(id(frame)), frame.f_lasti
            places += before is not None and _can_be_signalled(code, before, frame.f_lasti)
            if places == number and not was:
                was = True
                handler()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # or CPython 3.12 does not report those of the first frames
    sys.settrace(trace)
    try:
        call()
    except Interruption:
        pass
    finally:
        sys.settrace(before)
    return was


def _can_be_signalled(code: CodeType, before: int, now: int) -> bool:
    """Return True if signal handlers run after an instruction, and what they raise goes where it would go now."""
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # not in typeshed
    targets = [
        next((each.target for each in entries if each.start <= offset < each.end), None) for offset in (before, now)
    ]
    return bool(_LOOKS_FOR_SIGNALS.match(dis.opname[code.co_code[before]])) and targets[0] == targets[1]

"""A progress bar for work that may take a while: on standard error, if that is a terminal, and else nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final, Protocol

_DELAY: Final = 1.0
"""Seconds that something must take to have a bar."""


class Show(Protocol):
    """Brings the bar up to date."""

    def __call__(self, done: float, text: str = "", /) -> None:
        """Show how much of the total is done, and a text in place of the last one unless it is empty."""


@contextmanager
def progress(text: str, total: float | None = None, *, mixed: bool = True) -> Iterator[Show]:
    """Show a progress bar after a second; the function that is returned brings it up to date.

    Args:
        text: What is being done.
        total: The whole; None if it is not known, for a bar that only moves.
        mixed: False for a command that prints meanwhile: it has no bar if its own output goes to the terminal.
    """
    if not sys.stderr.isatty() or not (mixed or not sys.stdout.isatty()):
        yield _show_nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # By default the command's own output would go to the terminal, too.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task(text, total=total)
    described = text

    def show(done: float, text: str = "", /) -> None:
        nonlocal described
        described = text or described
        bar.update(task, completed=done, description=described)

    timer = Timer(_DELAY, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield show
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _show_nothing(_: float, __: str = "", /) -> None:
    """Take the progress, and show nothing."""

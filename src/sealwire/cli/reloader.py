"""``sealwire serve --reload``: serves in a child process, which is replaced when a source file changes.

The listening sockets belong to this process, so that no client is refused meanwhile and port 0 stays the same port.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Final

from sealwire.cli.binding import Bind, Descriptor, ListenerGroup
from sealwire.cli.console import print_line

_CHILD: Final = "SEALWIRE_RELOAD_CHILD"
"""The variable that tells a child its descriptors: a pipe that ends with its parent, and those that listen."""
_PERIOD: Final = 0.3
"""Seconds between two looks at the files."""
_SKIPPED: Final = ("__pycache__", "node_modules", "site-packages")

Snapshot = dict[str, tuple[int, int]]


def inherited() -> list[Bind] | None:
    """Return the listening descriptors of a child of :func:`run`, which ends with its parent; None in any other."""
    value = os.environ.pop(_CHILD, None)
    if value is None:
        return None
    pipe, *listening = json.loads(value)
    # The kernel sends the signal when the other end is closed, by whatever end of the parent. No thread is needed.
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_inheritable(pipe, False)
    return [Descriptor(number, name) for number, name in listening]


def run(binds: Sequence[Bind], module: str, directory: Path, *others: Path) -> None:
    """Serve in child processes until SIGINT or SIGTERM.

    Args:
        binds: The addresses to listen on; none for a server that does not listen.
        module: The handler's module.
        directory: The directory that it is looked for in; all modules in it and beneath are watched.
        others: Other files to watch.
    """
    with ExitStack() as stack:
        group = ListenerGroup(binds) if binds else None
        if group is not None:
            stack.callback(group.close)
        reading, writing = os.pipe()
        stack.callback(os.close, writing)
        stack.callback(os.close, reading)
        listening = (
            {} if group is None else dict(zip([each.fileno() for each in group.sockets], group.names, strict=True))
        )
        _Reloader(reading, listening, [*_trees(module, directory), *others]).run()


class _Reloader:
    def __init__(self, pipe: int, listening: dict[int, str], watched: list[Path]) -> None:
        self._descriptors = [pipe, *listening]
        self._passed = json.dumps([pipe, *listening.items()])
        self._watched = watched
        self._stopping = Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        seen = snapshot(self._watched)
        self._start()
        while not self._stopping.wait(_PERIOD):
            found = snapshot(self._watched)
            if found == seen:
                if self._child is not None and self._child.poll() is not None:
                    print_line("waiting for a change of the source", err=True)
                    self._child = None
                continue
            changed = sorted(path for path in found.keys() | seen.keys() if found.get(path) != seen.get(path))
            print_line(f"{os.path.relpath(changed[0])} has changed: serving again", err=True)
            seen = found
            self._stop()
            if not self._stopping.is_set():
                self._start()
        self._stop()

    def _start(self) -> None:
        environment = os.environ | {_CHILD: self._passed}
        # Its own would be stale after a second change in the same second, if the size is the same.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self._child = subprocess.Popen(  # noqa: S603 - the command that runs here
            [sys.executable, "-P", "-m", "sealwire", *sys.argv[1:]],
            env=environment,
            pass_fds=self._descriptors,
            process_group=0,  # Ctrl-C is passed on here, once
        )

    def _stop(self) -> None:
        """Wait for the end of the child, which finishes the requests in progress."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        child = self._child
        if number != signal.SIGHUP and self._stopping.is_set() and child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        elif number == signal.SIGHUP:
            if child is not None:
                child.send_signal(number)
        else:
            self._stopping.set()


def _trees(module: str, directory: Path) -> Iterator[Path]:
    yield directory
    package = module.partition(".")[0]
    with suppress(ImportError, ValueError):
        sys.path.insert(0, str(directory))
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            path = Path(found.origin)
            yield path.parent if path.name == "__init__.py" else path


def snapshot(watched: Sequence[Path]) -> Snapshot:
    """Return the time of change and the size of each file, and of each module in a directory."""
    found: Snapshot = {}
    for place in watched:
        for path in _modules(place) if place.is_dir() else [str(place)]:
            with suppress(OSError):
                status = os.stat(path)
                found[path] = status.st_mtime_ns, status.st_size
    return found


def _modules(directory: Path) -> Iterator[str]:
    for place, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if name[0] != "." and name not in _SKIPPED and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
        ]
        yield from (os.path.join(place, name) for name in files if name.endswith(".py"))

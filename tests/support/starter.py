"""Starts servers of the tests in processes of their own, which are forks of one that has imported what they need: to
import it again in each would take longer than most of the tests.

``python -m support.starter DESCRIPTOR`` forks a server for each request that comes by that socket, without threads and
with nothing open but its standard streams, and ends when the other end does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

TESTS = Path(__file__).parent.parent
MODULES = ("conformance.child", "conformance.flood", "support.child", "support.cli")
"""Each has a function ``main``, which takes settings."""


class Process:
    """A server in a process of its own, with what subprocess.Popen has of it."""

    def __init__(self, module: str, settings: dict[str, Any], errors: IO[Any]) -> None:
        """Run the module's ``main`` with the settings; its standard error is ``errors``."""
        stdin, self_stdin = os.pipe()
        self_stdout, stdout = os.pipe()
        self_status, status = os.pipe()
        self.stdin, self.stdout, self._status = map(os.fdopen, (self_stdin, self_stdout, self_status), ("w", "r", "r"))
        descriptors = [stdin, stdout, errors.fileno(), status]
        socket.send_fds(starter(), [json.dumps([module, settings]).encode()], descriptors)
        for descriptor in (stdin, stdout, status):
            os.close(descriptor)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        returncode = self.poll()
        assert returncode is not None
        return returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the ends of its pipes, and wait for its end."""
        for file in (self.stdin, self.stdout):
            file.close()
        self.wait()
        self._status.close()


@cache
def starter() -> socket.socket:
    """Return the socket that takes requests, of a process that is started with the first one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "support.starter", str(theirs.fileno())],
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Output is kept until a buffer is full, which a process has twice when it forks.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": ""},
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(requests: socket.socket) -> tuple[str, dict[str, Any]]:
    """Return in each fork what it is to run; the process itself ends here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What no fork's collector looks at is not copied for it.
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, status = running.pop(ready)
                os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(status)
                os.close(ready)
                continue
            request, descriptors, *_ = socket.recv_fds(requests, 1 << 16, 4)
            if not request:
                sys.exit()
            *streams, status = descriptors
            if (pid := os.fork()) == 0:
                requests.close()
                for number, descriptor in enumerate(streams):
                    os.dup2(descriptor, number)
                os.closerange(3, os.sysconf("SC_OPEN_MAX"))
                signal.signal(signal.SIGINT, signal.default_int_handler)
                module, settings = json.loads(request)
                return module, settings
            running[os.pidfd_open(pid)] = pid, status
            os.write(status, b"%d\n" % pid)
            for descriptor in streams:
                os.close(descriptor)


if __name__ == "__main__":
    mains = {name: importlib.import_module(name).main for name in MODULES}
    name, arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    mains[name](arguments)

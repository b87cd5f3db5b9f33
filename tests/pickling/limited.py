"""Pickles that could kill, fill or stop a process: each is decoded in one of its own, under limits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple, Self

_PARENT = """
import json, os, resource, sys, time
from sealwire.codec import Codec

while size := sys.stdin.buffer.readline():
    data = sys.stdin.buffer.read(int(size))
    if child := os.fork():
        status = os.waitpid(child, 0)[1]
        if status:
            print(json.dumps(["killed", f"status {status}", 0.0]), flush=True)
        continue
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    start = time.process_time()
    try:
        value = Codec().decode(data)
    except BaseException as error:
        verdict = type(error).__name__, str(error)
    else:
        verdict = "accepted", type(value).__name__
    print(json.dumps([*verdict, time.process_time() - start]), flush=True)
    os._exit(0)
"""


class Outcome(NamedTuple):
    """The outcome of decoding: the error's name, "accepted" or "killed"; the error's text; and seconds of CPU."""

    kind: str
    why: str
    seconds: float


class Limited:
    """Decodes with 512 MiB of address space and 10 seconds, in forks of a process that has imported the package."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate(timeout=20)

    def decode(self, data: bytes) -> Outcome:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"%d\n" % len(data) + data)
        self._parent.stdin.flush()
        return Outcome(*json.loads(self._parent.stdout.readline()))

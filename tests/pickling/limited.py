"""Run in a process of its own, under limits: what could kill, fill or stop this one."""

from __future__ import annotations

import subprocess
import sys

_PRELUDE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
import time
from sealwire.encoding import Codec
from sealwire.pickling import Allowlist, Decoder
data = sys.stdin.buffer.read()
start = time.process_time()
try:
    value = DECODE(data)
except BaseException as error:
    print(type(error).__name__, str(error))
else:
    print("accepted", type(value).__name__)
print(time.process_time() - start)
"""


def decode(data: bytes, using: str = "Codec().decode") -> tuple[str, str, float]:
    """The error's name, its text, and seconds of CPU; with 512 MiB of address space and 10 seconds."""
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE.replace("DECODE", using)],
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    verdict, seconds = done.stdout.decode().splitlines()
    kind, _, why = verdict.partition(" ")
    return kind, why, float(seconds)

"""Run as a program: what each pickle costs a process of its own, with a limit or without it.

    python expense.py < a line of LIMITS and the size of the pickle, and the pickle, again and again

LIMITS is JSON of Limits, or "plain" for pickle.loads. Answers each with a line of JSON: verdict ("accepted" or the name
of a limit), memory (bytes of the peak beyond what there was before), seconds (of CPU); or null if the process was
killed, after six seconds of CPU, or one without any limits.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from pathlib import Path
from time import process_time
from typing import Any

from sealwire import Codec, LimitExceeded, Limits


def expense(limits: str, data: bytes) -> dict[str, Any]:
    codec = None if limits == "plain" else Codec(limits=Limits(**json.loads(limits)))
    sys.set_int_max_str_digits(0)  # as programs do that print large integers
    before = peak()
    start = process_time()
    seconds = 1 if codec is None else 6
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    value: Any = None
    try:
        value = pickle.loads(data) if codec is None else codec.decode(data)
        verdict = "accepted"
        if type(value) is int:
            str(value)
    except LimitExceeded as error:
        verdict = str(error).partition(":")[0]
    return {"verdict": verdict, "memory": peak() - before, "seconds": process_time() - start}


def peak() -> int:
    """Return the most memory that this process has had, in bytes. What getrusage tells begins with its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    while line := sys.stdin.buffer.readline():
        limits, _, size = line.decode().rpartition(" ")
        data = sys.stdin.buffer.read(int(size))
        if child := os.fork():
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                print("null", flush=True)
            elif status:
                sys.exit("the child failed")
            continue
        print(json.dumps(expense(limits, data)), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()

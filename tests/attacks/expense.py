"""Run as a program: what one pickle costs a process, with a limit or without it.

    python expense.py LIMITS < pickle      LIMITS: JSON of Limits, or "plain" for pickle.loads

Answers with JSON: verdict ("accepted" or the name of a limit), memory (bytes of the peak beyond what there was before),
seconds (of CPU). After six seconds of CPU, or two without any limits, the process is killed.
"""

from __future__ import annotations

import json
import pickle
import resource
import sys
from time import process_time
from typing import Any

from sealwire import Codec, LimitExceeded, Limits


def main(limits: str, data: bytes) -> None:
    codec = None if limits == "plain" else Codec(limits=Limits(**json.loads(limits)))
    sys.set_int_max_str_digits(0)  # as programs do that print large integers
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = 2 if codec is None else 6
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    start = process_time()
    value: Any = None
    try:
        value = pickle.loads(data) if codec is None else codec.decode(data)
        verdict = "accepted"
        if type(value) is int:
            str(value)
    except LimitExceeded as error:
        verdict = str(error).partition(":")[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"verdict": verdict, "memory": (peak - before) * 1024, "seconds": process_time() - start}))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer.read())

"""Run as a program, on any interpreter, with the standard library alone: each pickle in a process of its own.

    python cell.py SOURCES < lines of JSON: {"name", "data" in base64, "reader": "sealwire" or "recipe"}

Each process may use five seconds of CPU, or one with the recipe, and 200 MB more than the package takes. For each line
there is one answer: the name, and what became of it: "refused KIND", "accepted", "changed", "killed SIGNAL" or
"failed KIND".
"""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import resource
import signal
import sys
import types
from pathlib import Path

SOURCES = Path(sys.argv[1])
MEMORY = 200 * 10**6
SECONDS = 5
"""Each refusal takes less than one on an idle machine; an attack on time that works takes more than twenty."""
SECONDS_OF_RECIPE = 1

# The package without what its __init__ imports, which needs `cryptography`.
package = types.ModuleType("sealwire")
package.__path__ = [str(SOURCES / "sealwire")]
sys.modules["sealwire"] = package
sys.path.insert(0, str(Path(__file__).parent))

import victims

from sealwire.codec import Allowlist, Codec
from sealwire.errors import DecodeError

CODEC = Codec(Allowlist(*victims.TYPES))
CODEC.decode(pickle.dumps(__import__("zoneinfo").ZoneInfo("UTC")))  # reads the time zone database once

ALLOWED = {(cls.__module__, cls.__qualname__): cls for cls in victims.TYPES}
STANDARD = ("builtins", "collections", "datetime", "decimal", "fractions", "uuid", "pathlib", "copyreg")


class Recipe(pickle.Unpickler):
    """An exact allowlist in find_class, as the documentation of the pickle module has it."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if (module in STANDARD and name[0].isupper()) or (module, name) == ("builtins", "set"):
            return super().find_class(module, name)
        if module == "datetime":
            return super().find_class(module, name)
        raise pickle.UnpicklingError("forbidden")


def judge(data: bytes, reader: str) -> str:
    before = victims.fingerprint()
    try:
        value = CODEC.decode(data) if reader == "sealwire" else Recipe(io.BytesIO(data)).load()
    except DecodeError as error:
        verdict = f"refused {type(error).__name__}"
    except Exception as error:
        verdict = f"failed {type(error).__name__}"
    else:
        verdict = "accepted"
        if reader == "sealwire":
            # What is accepted can be looked at, and sent on.
            repr(value)
            CODEC.encode(value)
    try:
        same = victims.fingerprint() == before
    except Exception:  # they are broken
        same = False
    return verdict if same else "changed"


def imprison(data: bytes, reader: str) -> str:
    """The verdict of a child process under limits."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        seconds = SECONDS if reader == "sealwire" else SECONDS_OF_RECIPE
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        os.write(write, judge(data, reader).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        verdict = answer.read().decode()
    status = os.waitpid(child, 0)[1]
    return f"killed {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else verdict


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps([case["name"], imprison(base64.b64decode(case["data"]), case["reader"])]), flush=True)

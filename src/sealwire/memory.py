"""The memory of this machine, or of the part of it that this process may use."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")


@cache
def available_memory() -> int:
    """Return the bytes of memory of the machine or of the narrowest cgroup of this process; 0 if unknown."""
    found = [size for size in (_of_machine(), *_of_cgroups()) if size > 0]
    return min(found, default=0)


def _of_machine() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return 0


def _of_cgroups() -> list[int]:
    """Return the limits of this process's cgroups, version 1 or 2, and of those that they are in."""
    limits: list[int] = []
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
            directory = root / path.lstrip("/")
            for each in (directory, *directory.parents):
                if each == root.parent:
                    break
                with suppress(OSError, ValueError):
                    limits.append(int((each / name).read_text()))  # "max" is not a number
    return limits

"""The memory that a process may use."""

from __future__ import annotations

from sealwire import Limits
from sealwire.memory import available_memory


def test_is_that_of_the_machine_or_less() -> None:
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert 0 < available_memory() <= total


def test_the_default_of_a_limit_is_a_part_of_it() -> None:
    assert Limits().max_buffered == max(64 << 20, available_memory() // 8)

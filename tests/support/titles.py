"""Names for the parameters of tests that are the same in each process that collects them."""

from __future__ import annotations

import re
from typing import Any


def title(value: Any) -> str:
    """Return a value's repr, shortened: a set in order, and no address in memory."""
    in_order = "{" + ", ".join(sorted(map(repr, value))) + "}" if isinstance(value, set) else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", in_order)[:60]

"""Run as a program, on any interpreter, with the standard library alone: what remains in the process after messages.

    python remains.py SOURCES

Answers with JSON: for each kind of state that the messages of one peer could fill, True if something of it remains.
"""

from __future__ import annotations

import enum
import fractions
import gc
import ipaddress
import json
import pathlib
import pickle
import sys
import types
from pathlib import Path
from typing import Any

package = types.ModuleType("sealwire")
package.__path__ = [str(Path(sys.argv[1]) / "sealwire")]
sys.modules["sealwire"] = package

from sealwire.codec import Allowlist, Codec
from sealwire.errors import DecodeError

Many = enum.Flag("Many", {f"F{n}": 1 << n for n in range(30)}, module=__name__)
One = enum.Enum("One", {"ONE": 1}, module=__name__)
CODEC = Codec(Allowlist(Many, One))
MARK = "a_mark_of_many_letters"
"""Stands in a sample for a name that the process has never had."""


def called(module: str, name: str, argument: bytes) -> bytes:
    """A pickle of a call with one argument."""
    return b"\x80\x04" + f"c{module}\n{name}\n".encode() + argument + b"\x85R."


def is_interned(name: str) -> bool:
    copy = "".join(list(name))
    return sys.intern(copy) is not copy


def look_at(path: Any) -> None:
    for _ in (str(path), repr(path), hash(path), path.parts, path.name, path.suffix, path.parent, path == path.parent):
        pass


def name_remains(sample: Any, number: int) -> bool:
    """Decode a sample with a new name in it, and drop it after it was used; True if the name is interned then."""
    name = "".join((MARK[:-3], "_", f"{number:02}"))
    values = CODEC.decode(pickle.dumps(sample, 4).replace(MARK.encode(), name.encode()))
    for value in values:
        if isinstance(value, pathlib.PurePath):
            look_at(value)
    del values, value
    gc.collect()
    return is_interned(name)


def paths_differ() -> bool:
    """True if some path is not parsed as pathlib itself does."""
    for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath):
        for text in (
            "",
            ".",
            "/",
            "//",
            "//a",
            "///a/./b//c/",
            "a/../b",
            "c:",
            "c:x",
            "c:/x/y",
            "//s/t/u",
            "//?/unc/s/t/u",
        ):
            for spelled in (text, text.replace("/", "\\")):
                own = cls(spelled)
                got = CODEC.decode(pickle.dumps(cls(spelled), 4))
                if (own, own.parts, str(own), own.anchor) != (got, got.parts, str(got), got.anchor):
                    return True
    return False


def fractions_remain() -> bool:
    table = getattr(fractions, "_hash_algorithm", None)
    data = pickle.dumps({fractions.Fraction(n, 7): n for n in range(1, 50)})
    if table is None:
        return False
    table.cache_clear()
    CODEC.decode(data)
    try:  # an enum looks a value up before it refuses it
        CODEC.decode(called(__name__, "One", b"cfractions\nFraction\nK\x01K\x07\x86R"))
    except DecodeError:
        return bool(table.cache_info().currsize)
    return True


def flags_remain() -> bool:
    before = len(Many._value2member_map_)
    for number in range(1, 30_000, 2):
        CODEC.decode(called(__name__, "Many", b"J" + number.to_bytes(4, "little")))
    return len(Many._value2member_map_) > before + 5000


def netmasks_remain() -> bool:
    for number in range(300):
        for version, text in ((4, f"10.0.0.0/{number:03}"), (4, f"0.0.0.0/{number}"), (6, f"::/{number}")):
            argument = b"X" + len(text).to_bytes(4, "little") + text.encode()
            try:
                CODEC.decode(called("ipaddress", f"IPv{version}Network", argument))
            except DecodeError:  # as most are
                continue
    return len(ipaddress.IPv4Network._netmask_cache) > 33 or len(ipaddress.IPv6Network._netmask_cache) > 129


found = {
    "path": name_remains([pathlib.PurePosixPath("a", MARK)], 1),
    "path of Windows": name_remains([pathlib.PureWindowsPath("c:/a", MARK)], 2),
    "path as a key": name_remains({pathlib.PurePosixPath("x/" + MARK): 1}, 3),
    "str": name_remains({MARK: MARK}, 4),
    "paths that differ": paths_differ(),
    "fractions": fractions_remain(),
    "flags": flags_remain(),
    "netmasks": netmasks_remain(),
}
print(json.dumps(found))

"""Who gets at a file besides its owner: by its mode, and by the access control list behind that (acl(5))."""

from __future__ import annotations

import os
import stat
import struct
from typing import Final

_LIST: Final = "system.posix_acl_access"
_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER, _GROUP_OWNER, _GROUP = 0x02, 0x04, 0x08


def open_to_others(path: str | os.PathLike[str], status: os.stat_result) -> bool:
    """Whether anybody gets at the file but its owner, root and the user that this process runs as.

    Where there is a list, the mode's bits for the group are the most that any entry of it grants, and say nothing about
    the group: 0440 can be a file that systemd has for this user alone (LoadCredential=).
    """
    mode = stat.S_IMODE(status.st_mode)
    group = mode >> 3 & 7
    return bool(mode & 7) or (group != 0 and _granted(path, group))


def _granted(path: str | os.PathLike[str], mask: int) -> bool:
    try:
        content = os.getxattr(path, _LIST)
        version = _HEADER.unpack_from(content)[0]
        entries = list(_ENTRY.iter_unpack(content[_HEADER.size :]))
    except (AttributeError, OSError, struct.error):  # no list, or none that we can read
        return True
    if version != _VERSION:
        return True
    return any(
        granted & mask and (kind in (_GROUP_OWNER, _GROUP) or (kind == _USER and who not in (0, os.geteuid())))
        for kind, granted, who in entries
    )

"""Tells if other users can open a file, by its mode and its access control list (acl(5))."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from sealwire.remedies import command

_LIST: Final = "system.posix_acl_access"
_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_ROOTS_FOR_A_GROUP: Final = 0o640
_USER, _GROUP_OWNER, _GROUP = 0x02, 0x04, 0x08


def open_to_others(path: str | os.PathLike[str], status: os.stat_result, *, keyring_group: bool = False) -> bool:
    """Return True if users other than the owner, root and this process's user can open the file.

    With an access control list the group bits of the mode are a mask: the most that any entry grants. They say nothing
    about the group itself. A file of mode 0440 may thus be one that systemd made for this user alone (LoadCredential=).
    A file that belongs to root may be shared with a group that this process is in, up to 0640: how else could root give
    it to a process? It is the rule of PostgreSQL, and what Kubernetes does for a pod with fsGroup. A process of root's
    does not need the group, so that there it must be said that the group is meant.

    Args:
        path: The file.
        status: Its status.
        keyring_group: Whether root may share the file with a group of this process although that is root's, too.
            Default: False.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == 0 and not mode & ~_ROOTS_FOR_A_GROUP:
        shared = keyring_group and status.st_gid in (os.getegid(), *os.getgroups())
        if shared or os.geteuid() != 0:
            return False
    group = mode >> 3 & 7
    return bool(mode & 7) or (group != 0 and _list_grants(path, group))


def remedy(name: str, status: os.stat_result) -> str:
    """Return the remedy for a file that is open to others."""
    if open_to_others(name, status, keyring_group=True):
        return f"run {command('chmod', '600', name)}"
    return f"run {command('chmod', '600', name)}, or set keyring_group if its group is meant to have it"


def in_private_directory(path: str | os.PathLike[str]) -> bool:
    """Return True if only root or this process's user can enter a directory on the way to the file.

    There, a private key of any mode is accepted: the tools that write it leave it to the directory (openssl with the
    usual umask, and ACME clients). A keyring is not, since the commands that write it give it mode 0600.
    """
    with suppress(OSError):  # it has been replaced just now
        for directory in Path(os.path.realpath(path)).parents:
            status = directory.stat()
            if not status.st_mode & 0o011 and status.st_uid in (0, os.geteuid()):
                return True
    return False


def _list_grants(path: str | os.PathLike[str], mask: int) -> bool:
    try:
        content = os.getxattr(path, _LIST)
        version = _HEADER.unpack_from(content)[0]
        entries = list(_ENTRY.iter_unpack(content[_HEADER.size :]))
    except (AttributeError, OSError, struct.error):  # no list, or not readable: the group bits are the group's
        return True
    if version != _VERSION:
        return True
    return any(
        granted & mask and (kind in (_GROUP_OWNER, _GROUP) or (kind == _USER and user not in (0, os.geteuid())))
        for kind, granted, user in entries
    )

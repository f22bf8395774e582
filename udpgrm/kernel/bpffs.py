# SPDX-License-Identifier: Apache-2.0
"""The bpf file system: telling it from others, and who can change what is pinned there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from pathlib import Path
from typing import Optional

from udpgrm.kernel import libbpf

_MAGIC = 0xCAFE4A11
#: How to mount it so that only root can make directories; its own default is mode 1777.
MOUNT = "mount -t bpf -o mode=0700 bpf /sys/fs/bpf"
_MOST_LINKS = 40
_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(directory: Path) -> bool:
    """Whether a directory is in a bpf file system. Raises OSError when it is not there."""
    # struct statfs begins with its type, as a long; 256 bytes hold it everywhere
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(directory), buffer):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return buffer[0] & 0xFFFFFFFF == _MAGIC


def distrusted(directory: Path) -> Optional[str]:
    """Return why a pin directory must not be used, and what to do; None: only root can change it.

    It and the directories above it in the bpf file system belong to root (or to the caller), and
    others cannot write there, but where a sticky bit keeps them from what is root's. It is no
    symbolic link, and no link on the way there is another user's. Raises OSError, as when the
    directory is not there.
    """
    found = os.lstat(directory)
    if stat.S_ISLNK(found.st_mode):
        return f"{directory} is a symbolic link: remove it, or name the directory itself"
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is not a directory"
    if not _is_trusted(found):
        return f"{directory} belongs to uid {found.st_uid}: remove it (rm -r), and {MOUNT}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{directory} is writable by others than root (chmod 0700 {directory})"
    return distrusted_way(directory)


def distrusted_way(directory: Path) -> Optional[str]:
    """Return why others can put another directory in this one's place; None: they cannot."""
    here, links = Path("/"), 0
    left = list(reversed(directory.absolute().parts[1:-1]))
    while left:
        name = left.pop()
        if name == "..":
            here = here.parent
            continue
        path = here / name
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if not _is_trusted(found) or links > _MOST_LINKS:
                return f"{path} is a symbolic link of uid {found.st_uid}: remove it"
            target = path.readlink()
            here = Path("/") if target.is_absolute() else here
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            continue
        here = path
        if not is_bpffs(here):
            continue
        if not _is_trusted(found):
            return f"{here} belongs to uid {found.st_uid}: remove it (rm -r), and {MOUNT}"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
            return f"{here} is writable by others than root (chmod 0700 {here})"
    return None


def _is_trusted(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.geteuid())


def replace_pin(fd: int, path: Path) -> None:
    """Pin an object in the place of an earlier one, in one step."""
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)  # of a daemon that was killed
    libbpf.pin(fd, str(new))
    new.rename(path)


def remove_pins(directory: Path) -> None:
    """Remove a directory of pins, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()

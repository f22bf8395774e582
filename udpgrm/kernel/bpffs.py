# SPDX-License-Identifier: Apache-2.0
"""The bpf file system: whether a directory is in it, and which users can change its pins."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from pathlib import Path
from typing import Optional

from udpgrm.kernel import libbpf, trust

_MAGIC = 0xCAFE4A11
#: How to mount it so that only root can make directories; its own default is mode 1777.
MOUNT = "mount -t bpf -o mode=0700 bpf /sys/fs/bpf"
_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(directory: Path) -> bool:
    """Return whether a directory is in a bpf file system. Raises OSError if it does not exist."""
    # struct statfs begins with its type, as a long; 256 bytes hold it everywhere
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(directory), buffer):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return buffer[0] & 0xFFFFFFFF == _MAGIC


def unmounted(directory: Path) -> str:
    """Return why nothing can be pinned in a directory, and what to do; empty: it may be."""
    with contextlib.suppress(OSError):
        if is_bpffs(directory.parent):
            return ""
    return f"no BPF file system is mounted above {directory} ({MOUNT})"


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
    if not trust.is_roots(found):
        return f"{directory} belongs to uid {found.st_uid}: remove it (rm -r), and {MOUNT}"
    if trust.is_shared(found):
        return f"{directory} is writable by others than root (chmod 0700 {directory})"
    return distrusted_way(directory)


def distrusted_way(directory: Path) -> Optional[str]:
    """Return why another user can replace this directory; None: only root can."""
    for path, found in trust.walk(directory.absolute().parent):
        if stat.S_ISLNK(found.st_mode):
            if not trust.is_roots(found):
                return f"{path} is a symbolic link of uid {found.st_uid}: remove it"
            continue
        if not is_bpffs(path):
            continue
        if not trust.is_roots(found):
            return f"{path} belongs to uid {found.st_uid}: remove it (rm -r), and {MOUNT}"
        if trust.is_shared(found) and not found.st_mode & stat.S_ISVTX:
            return f"{path} is writable by others than root (chmod 0700 {path})"
    return None


def replace_pin(fd: int, path: Path) -> None:
    """Pin an object, replacing an earlier one, in one step."""
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)  # left by a killed daemon
    libbpf.pin(fd, str(new))
    new.rename(path)


def remove_pins(directory: Path) -> None:
    """Remove a directory of pins, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()

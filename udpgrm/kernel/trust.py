# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Trust in directories of root: their owners, modes and symbolic links."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

_MOST_LINKS = 40
#: A user that can change these directories can change this program.
_ABOVE_PROGRAM = Path(__file__).resolve().parents


def is_roots(found: os.stat_result) -> bool:
    """Return whether a file belongs to root, or to the caller."""
    return found.st_uid in (0, os.geteuid())


def is_shared(found: os.stat_result) -> bool:
    """Return whether users other than its owner can write to a directory."""
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each directory and symbolic link on the way to a path, and the path. Raises OSError."""
    here, links = Path("/"), 0
    remaining = list(reversed(path.absolute().parts[1:]))
    while remaining:
        name = remaining.pop()
        if name == "..":
            here = here.parent
            continue
        found = os.lstat(here / name)
        yield here / name, found
        if not stat.S_ISLNK(found.st_mode):
            here = here / name
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = (here / name).readlink()
        here = Path("/") if target.is_absolute() else here
        remaining += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def distrusted(directory: Path) -> Optional[str]:
    """Return why root must not use a directory, and what to do; None: only root can change it.

    The directory and its parents belong to root and are not writable by others; for the parents
    a sticky bit is enough. Symbolic links are root's. Parents of this program are not checked,
    and other users than root may use any directory. Raises OSError, as if it does not exist.
    """
    if os.geteuid():
        return None
    shared: Optional[Path] = None
    for path, found in walk(directory):
        if path in _ABOVE_PROGRAM:
            continue
        if stat.S_ISLNK(found.st_mode):
            if not is_roots(found):
                return f"{path} is a symbolic link of uid {found.st_uid}: remove it"
            continue
        if not is_roots(found):
            return f"{path} belongs to uid {found.st_uid}: remove it, or chown root {path}"
        if is_shared(found) and not found.st_mode & stat.S_ISVTX:
            return f"{path} is writable by others than root: chmod go-w {path}"
        shared = path if is_shared(found) else None
    if shared is not None:
        return f"{shared} is writable by others than root: name a directory of root's"
    return None

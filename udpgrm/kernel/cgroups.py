# SPDX-License-Identifier: Apache-2.0
"""Paths of cgroup version 2."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")


def default_root() -> Path:
    """Return the first cgroup2 mount of the usual paths. Raises FileNotFoundError."""
    for root in ROOTS:
        if (Path(root) / "cgroup.controllers").exists():
            return Path(root)
    raise FileNotFoundError(f"no cgroup2 at {' or '.join(ROOTS)}: mount it, or name the cgroup")


def is_directory(path: Path) -> bool:
    """Return whether a path is a cgroup; version 1 has processes, but no controllers."""
    return (path / "cgroup.controllers").exists()


def own_path() -> str:
    """Return this process's path below the root, as in cgroups(7): '/a/b'."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return path
    raise FileNotFoundError("this process is in no cgroup2")


def identity(path: Path) -> int:
    """Return the kernel's id of a cgroup: its inode number."""
    return os.stat(path).st_ino


def processes(path: Path) -> list[int]:
    """Return the processes of a cgroup and of the cgroups below it."""
    pids = []
    for directory, _, _ in os.walk(path):
        with _unless_removed():
            pids += [int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()]
    return pids


@contextlib.contextmanager
def _unless_removed() -> Iterator[None]:
    """Ignore that a cgroup was removed while it is read, or that its processes are its parent's."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            raise


def find(identities: set[int]) -> dict[int, str]:
    """Return the paths of cgroups here, by id; removed and invisible ones are omitted.

    Raises FileNotFoundError if there is no cgroup2.
    """
    found: dict[int, str] = {}
    for directory, _, _ in os.walk(default_root()) if identities else ():
        with _unless_removed():
            here = identity(Path(directory))
            if here in identities:
                found[here] = directory
    return found


def paths_of(identities: set[int]) -> list[str]:
    """Return the paths of cgroups here, as `find`."""
    return sorted(find(identities).values())

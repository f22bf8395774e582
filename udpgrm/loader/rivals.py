# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Another daemon's hooks on the same cgroup, which handle every call before this daemon's."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Optional

from udpgrm.kernel import attached, libbpf, loaded
from udpgrm.kernel.attached import Taken

_HOOK = "udpgrm_setsockopt"[:15]
#: The kernel detaches links a moment after their last pin is gone (seconds, tries).
_PAUSE_S = 0.05
_TRIES = 20


def refuse(directory: Path, cgroup: Path) -> None:
    """Raise Taken if a daemon of another pin directory has hooked a cgroup."""
    groups = _groups_map(directory)
    if groups is None:
        return
    rival = _rival_of(groups, cgroup)
    for _ in range(_TRIES):
        if rival is None:
            return
        time.sleep(_PAUSE_S)
        rival = _rival_of(groups, cgroup)
    if rival is None:
        return
    where = _directory_of(rival, directory)
    raise Taken(
        errno.EBUSY,
        f"{cgroup} is hooked by another udpgrm daemon, whose pins are in {where}: it would serve "
        f"all sockets there. Use its --pin-dir, stop it, or hook another cgroup",
    )


def _groups_map(directory: Path) -> Optional[int]:
    """Return the id of the map of groups that is pinned in a directory."""
    with contextlib.suppress(OSError):
        fd = libbpf.pinned(str(directory / "groups"))
        try:
            return libbpf.map_id(fd)
        finally:
            os.close(fd)
    return None


def _rival_of(groups: int, cgroup: Path) -> Optional[list[int]]:
    """Return the maps of a hook on the cgroup that is not of these groups."""
    for program in attached.query(cgroup, libbpf.CGROUP_SETSOCKOPT)[1]:
        name, maps = loaded.program(program)
        if name == _HOOK and maps and groups not in maps:
            return maps
    return None


def _directory_of(maps: list[int], beside: Path) -> str:
    """Return the pin directory that has one of these maps, if it is beside this one."""
    with contextlib.suppress(OSError):
        for path in beside.absolute().parent.iterdir():
            if _groups_map(path) in maps:
                return str(path)
    return "another bpf file system or directory"

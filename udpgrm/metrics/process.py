# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The daemon's health, readable by every user: its /proc entry, proc_pid_stat(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

# fields of /proc/PID/stat after the name in parentheses
_UTIME, _STIME, _STARTTIME, _RSS = 11, 12, 19, 21


@dataclass(frozen=True)
class ProcessHealth:
    """A process; start_time in seconds since the epoch, memory in bytes."""

    start_time: float
    cpu_seconds: float
    resident_bytes: int
    open_descriptors: int


def read(pid: int, directory: Path, proc: Path = Path("/proc")) -> Optional[ProcessHealth]:
    """Return the daemon that holds the lock of this pin directory; None: invisible here.

    A pid means another process in another pid namespace, so it is checked that
    the process has the directory open.
    """
    entry = proc / str(pid)
    try:
        descriptors = os.listdir(entry / "fd")
        if not any(_same(entry / "fd" / name, directory) for name in descriptors):
            return None
        stat = (entry / "stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return ProcessHealth(
            start_time=_boot_time(proc) + int(stat[_STARTTIME]) / ticks,
            cpu_seconds=(int(stat[_UTIME]) + int(stat[_STIME])) / ticks,
            resident_bytes=int(stat[_RSS]) * os.sysconf("SC_PAGE_SIZE"),
            open_descriptors=len(descriptors),
        )
    except OSError:
        return None


def _same(path: Path, directory: Path) -> bool:
    try:
        return path.samefile(directory)
    except OSError:  # closed meanwhile
        return False


def _boot_time(proc: Path) -> int:
    """Return the time of boot, in seconds since the epoch."""
    for line in (proc / "stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "btime":
            return int(value)
    raise FileNotFoundError(f"{proc}/stat has no btime")

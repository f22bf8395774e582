# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Names of rollouts: each names the control node's process, so that its end can be seen."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import pathlib
import socket

_MACHINE_ID = pathlib.Path("/etc/machine-id")
_PROCESSES = pathlib.Path("/proc/self/ns/pid")


def node() -> str:
    """Return the name of the control node: its host name alone may be that of other machines or containers."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(_MACHINE_ID.read_text(encoding="utf-8").strip())
    with contextlib.suppress(OSError):
        parts.append(str(_PROCESSES.readlink()))
    return f"{socket.gethostname()}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"


def name(task: str) -> str:
    """Return the name of a run, equal for all its tasks' workers; C(task) distinguishes runs of one process."""
    process = os.getppid()
    return f"{node()}:{process}:{_started(process)}:{task}"


def by() -> str:
    """Return the user and the control node, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def has_ended(run: str) -> bool:
    """Return whether a run was this control node's, and its process has ended."""
    try:
        where, process, started, _task = run.split(":", 3)
        return where == node() and _started(int(process)) != int(started)
    except ValueError:
        return False


def _started(process: int) -> int:
    """Return when a process was started, in ticks since the boot; 0: there is none."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])

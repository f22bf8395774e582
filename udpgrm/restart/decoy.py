# SPDX-License-Identifier: Apache-2.0
"""Instances behind a decoy: one unit, whose old server continues after its stop.

A restart of the unit makes the server of the old instance drain; it sends
SIGURG to its decoy, lives on, and the unit's new server puts its sockets into
the next generation by itself. So instances are distinguished by the generation of
the sockets that their processes have.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from udpgrm.kernel.descriptors import state
from udpgrm.restart import systemd
from udpgrm.restart.groups import Groups
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service
from udpgrm.state import holders
from udpgrm.state.holders import Holder

_POLL_S = 0.05
#: A stopped server has drained already; if it keeps draining, it is killed.
_STOP_S = 10.0


class DecoyUnit:
    """Servers of one unit NAME.service, by the generation of their sockets."""

    def __init__(self, service: Service, groups: Groups) -> None:
        """Manage a service whose instances are of the kind decoy."""
        self._unit = service.instances.unit
        self._limit = service.timeouts.start_s
        self._groups = groups

    def name(self, generation: int) -> str:
        """Return the unit, and which of its servers."""
        return f"{self._unit}, generation {generation}"

    def check(self) -> None:
        """Raise SystemdError unless systemd knows the unit."""
        systemd.text_of(self._unit)

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Restart the unit, unless that has been done: the old server drains."""
        if not self.is_alive(generation):
            systemd.run_job("restart", self._unit, self._limit, check_cancelled)

    def stop(self, generation: int) -> None:
        """End the servers of a generation, or the server that has no generation yet."""
        pids = self.processes(generation) or self._fresh()
        number, deadline = signal.SIGTERM, time.monotonic() + _STOP_S
        for pid in pids:
            _kill(pid, number)
        while any(map(_runs, pids)):
            if time.monotonic() > deadline:
                number, deadline = signal.SIGKILL, math.inf
                for pid in pids:
                    _kill(pid, number)
            time.sleep(_POLL_S)

    def is_alive(self, generation: int) -> bool:
        """Return whether an instance has sockets, or may be the server that has none yet."""
        return bool(self.processes(generation) or self._fresh())

    def processes(self, generation: int) -> list[int]:
        """Return the processes that have sockets of a generation."""
        cookies = self._groups.cookies(generation)
        return sorted({holder.pid for holder in self._holders(cookies)})

    def main_process(self, generation: int) -> int:
        """Raise SystemdError: the main process is mmdecoy."""
        raise SystemdError(f"{self._unit}: its main process is no server")

    def failure(self, generation: int) -> str:
        """Return the last lines of the unit's log: of all instances."""
        return systemd.failure(self._unit)

    def cgroup(self, generation: int) -> Path:
        """Return the unit's cgroup."""
        return systemd.cgroup_of(self._unit)

    def _fresh(self) -> list[int]:
        """Return the children of the unit's decoy, if none has a socket of any generation."""
        if not systemd.is_active(self._unit):
            return []
        children: list[int] = []
        with contextlib.suppress(SystemdError, OSError, ValueError):
            main = int(systemd.property_of(self._unit, "MainPID"))
            text = Path(f"/proc/{main}/task/{main}/children").read_text()
            children = [int(pid) for pid in text.split()]
        registered = self._holders(self._groups.cookies(None))
        return [] if any(holder.pid in children for holder in registered) else children

    def _holders(self, cookies: set[int]) -> list[Holder]:
        return holders.find(self._groups.maps, cookies) if cookies else []


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _runs(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    return state(pid) not in ("Z", "")

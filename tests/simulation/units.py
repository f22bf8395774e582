# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""systemd and the instances of one template unit: jobs, states, sockets."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

from tests.simulation.scheduler import Scheduler

TEMPLATE = "edge@.service"
SOCKETS = 2


class Server(enum.Enum):
    """The behaviour of a generation's servers."""

    GOOD = "good"
    SLOW = "slow"
    FAILS = "fails"  # ends at once
    NEVER_READY = "never ready"
    NO_SOCKETS = "no sockets"
    FEW_SOCKETS = "few sockets"
    MUTE = "mute"  # answers nothing
    FADES = "fades"  # answers nothing once it is the working generation
    SHORT = "short"  # ends after a second


#: (seconds until the sockets are there, until READY=1, until it has stopped)
_TIMES = {Server.SLOW: (0.8, 0.5, 1.0)}


@dataclass
class Job:
    """A job of systemd; status None: it runs."""

    status: Optional[int] = None
    message: str = ""

    def end(self, status: int, message: str = "") -> None:
        """End it, unless it has ended."""
        if self.status is None:
            self.status, self.message = status, message


@dataclass
class Unit:
    """An instance. life: raised by each start and end, which cancels events of earlier ones."""

    generation: int
    state: str = "inactive"
    sockets: int = 0
    life: int = 0
    begins: int = 0
    started: float = 0.0
    ended: float = 0.0
    job: Optional[Job] = None
    start_again: Optional[Job] = None

    @property
    def name(self) -> str:
        """Return the unit's name."""
        return f"edge@{self.generation}.service"

    @property
    def runs(self) -> bool:
        """Return whether it has processes."""
        return self.state in ("activating", "active", "deactivating")

    @property
    def is_alive(self) -> bool:
        """Return whether it runs, and has not been told to stop."""
        return self.state in ("activating", "active")


@dataclass
class Units:
    """The units of a host. restarts: systemd starts what has failed again (Restart=)."""

    scheduler: Scheduler
    server_of: Callable[[int], Server]
    restarts: bool = False
    silent_until: float = -1.0
    slow_until: float = -1.0
    all: dict[int, Unit] = field(default_factory=dict)
    jobs: dict[int, list[Job]] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Return whether systemd does not answer."""
        return self.scheduler.now < self.silent_until

    @property
    def is_slow(self) -> bool:
        """Return whether systemd lets a question wait."""
        return self.scheduler.now < self.slow_until

    def get(self, generation: int) -> Unit:
        """Return the unit of a generation."""
        return self.all.setdefault(generation, Unit(generation))

    def alive(self) -> list[int]:
        """Return the generations whose instances run."""
        return sorted(number for number, unit in self.all.items() if unit.is_alive)

    def start(self, generation: int) -> Job:
        """Queue a job that starts a unit."""
        unit, job = self.get(generation), Job()
        if unit.state == "active":
            job.end(0)
        elif unit.state == "deactivating":
            unit.start_again = job
        elif unit.state == "activating" and unit.job is not None:
            return unit.job
        else:
            self._begin(unit, job)
        return job

    def _begin(self, unit: Unit, job: Job) -> None:
        server = self.server_of(unit.generation)
        unit.state, unit.job, unit.sockets = "activating", job, 0
        unit.life += 1
        unit.begins += 1
        unit.started = self.scheduler.now
        sockets_s, ready_s, _ = _TIMES.get(server, (0.03, 0.08, 0.0))
        if server is Server.FAILS:
            self._later(unit, ready_s, lambda: self.crash(unit.generation, for_good=True))
            return
        if server is not Server.NO_SOCKETS:
            few = SOCKETS - (server is Server.FEW_SOCKETS)
            self._later(unit, sockets_s, lambda: setattr(unit, "sockets", few))
        if server is not Server.NEVER_READY:
            self._later(unit, ready_s, lambda: self._is_up(unit))
        if server is Server.SHORT:
            self._later(unit, 1.0, lambda: self.crash(unit.generation, for_good=True))

    def _is_up(self, unit: Unit) -> None:
        unit.state = "active"
        assert unit.job is not None
        unit.job.end(0)

    def _later(self, unit: Unit, seconds: float, do: Callable[[], None]) -> None:
        life = unit.life
        self.scheduler.at(seconds, lambda: do() if unit.life == life else None)

    def stop(self, generation: int) -> Job:
        """Queue a job that stops a unit."""
        unit, job = self.get(generation), Job()
        if unit.start_again is not None:
            unit.start_again.end(1, "Job canceled.")
            unit.start_again = None
        if not unit.runs:
            job.end(0)
            return job
        if unit.state != "deactivating":
            if unit.job is not None:
                unit.job.end(1, "Job canceled.")
            unit.state = "deactivating"
            unit.life += 1
            _, _, stop_s = _TIMES.get(self.server_of(generation), (0.0, 0.0, 0.05))
            self._later(unit, stop_s, lambda: self._has_stopped(unit))
        self.jobs.setdefault(generation, []).append(job)
        return job

    def _has_stopped(self, unit: Unit) -> None:
        unit.state, unit.sockets, unit.ended = "inactive", 0, self.scheduler.now
        unit.life += 1
        for job in self.jobs.pop(unit.generation, []):
            job.end(0)
        if unit.start_again is not None:
            job, unit.start_again = unit.start_again, None
            self._begin(unit, job)

    def crash(self, generation: int, for_good: bool = False) -> None:
        """End a unit's processes."""
        unit = self.get(generation)
        if unit.state == "deactivating":
            self._has_stopped(unit)
        elif unit.runs:
            is_back_soon = self.restarts and not for_good
            unit.state = "activating" if is_back_soon else "failed"  # auto-restart
            unit.sockets, unit.ended = 0, self.scheduler.now
            unit.life += 1
            if unit.job is not None:
                unit.job.end(1, f"Job for {unit.name} failed.")
                unit.job = None
            if is_back_soon:
                self._later(unit, 0.2, lambda: self._begin(unit, Job()))

    def lose_all(self) -> None:
        """Reboot: no unit runs, no job remains."""
        for unit in self.all.values():
            unit.state, unit.sockets, unit.job, unit.start_again = "inactive", 0, None, None
            unit.life += 1
        self.jobs.clear()
        self.silent_until = self.slow_until = -1.0

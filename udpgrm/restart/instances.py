# SPDX-License-Identifier: Apache-2.0
"""Instances of a service, and how they are started and stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from udpgrm.restart import former, host, systemd
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service


class Instances(Protocol):
    """A service's instances, by generation."""

    def name(self, generation: int) -> str:
        """Return the instance's name, for people."""
        ...

    def check(self) -> None:
        """Raise SystemdError if no instance could be started at all."""
        ...

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start an instance and wait until it is up, unless it is. Raises SystemdError.

        check_cancelled is called now and then, and may raise to give up.
        """
        ...

    def stop(self, generation: int) -> None:
        """Stop an instance and wait until it is down, unless it is. Raises SystemdError."""
        ...

    def is_alive(self, generation: int) -> bool:
        """Return whether an instance runs or is being started."""
        ...

    def cgroup(self, generation: int) -> Path:
        """Return the cgroup of an instance. Raises SystemdError if it does not run."""
        ...

    def processes(self, generation: int) -> list[int]:
        """Return the processes that may have its sockets. Raises SystemdError if there is none."""
        ...

    def main_process(self, generation: int) -> int:
        """Return the process that takes signals for the instance. Raises SystemdError."""
        ...

    def failure(self, generation: int) -> str:
        """Return how an instance has failed, and the last lines of its log, for people."""
        ...


def has_ended(instances: Instances, generation: int) -> bool:
    """Return whether an instance has ended. An unknown state is not its end."""
    try:
        return not instances.is_alive(generation)
    except SystemdError:
        return False


class TemplateUnits:
    """Units NAME@GENERATION.service of systemd."""

    def __init__(self, service: Service) -> None:
        """Manage a service whose instances are of the kind template."""
        self._service = service

    def name(self, generation: int) -> str:
        """Return the unit: the template's, or the adopted one."""
        return former.unit_of(self._service, generation)

    def check(self) -> None:
        """Raise SystemdError unless systemd knows the template."""
        systemd.template_of(self._service)

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start the unit; it is up when systemd says so (Type=notify: when the server does)."""
        limit = self._service.timeouts.start_s
        former.discard(self._service.name, generation)
        try:
            systemd.run_job("start", self.name(generation), limit, check_cancelled)
        except SystemdError as error:
            raise SystemdError(f"{error}; {self.failure(generation)}") from error

    def stop(self, generation: int) -> None:
        """Stop the unit, whatever its state."""
        # systemd has its own limit
        systemd.run_job("stop", self.name(generation), math.inf, lambda: None)
        # a unit that failed would stay listed, one for every generation
        systemd.reset_failed(self.name(generation))
        former.discard(self._service.name, generation)

    def is_alive(self, generation: int) -> bool:
        """Return whether the unit is active, or becomes so."""
        return systemd.is_active(self.name(generation))

    def cgroup(self, generation: int) -> Path:
        """Return the unit's cgroup."""
        return systemd.cgroup_of(self.name(generation))

    def processes(self, generation: int) -> list[int]:
        """Return the unit's processes."""
        return host.current.processes(self.cgroup(generation))

    def main_process(self, generation: int) -> int:
        """Return the unit's main process."""
        unit = self.name(generation)
        pid = int(systemd.property_of(unit, "MainPID") or 0)
        if pid == 0:
            raise SystemdError(f"{unit}: systemd knows no main process (PIDFile= may name it)")
        return pid

    def failure(self, generation: int) -> str:
        """Return how the unit has failed, and the last lines of its log."""
        return systemd.failure(self.name(generation))

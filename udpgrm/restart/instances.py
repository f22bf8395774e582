# SPDX-License-Identifier: Apache-2.0
"""Instances of a service, and how they are started and stopped."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from udpgrm.kernel import cgroups
from udpgrm.restart import adoption, former
from udpgrm.restart.adoption import AdoptionError
from udpgrm.services.definition import Service

_POLL_S = 0.05
_PATIENCE_S = 3.0
_ALIVE = ("active", "activating", "reloading")


class InstanceError(Exception):
    """Raised when an instance cannot be started or stopped; the message is systemd's."""


class Instances(Protocol):
    """A service's instances, by generation."""

    def name(self, generation: int) -> str:
        """Return the instance's name, for people."""
        ...

    def check(self) -> None:
        """Raise InstanceError if no instance could be started at all."""
        ...

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start an instance and wait until it is up, unless it is. Raises InstanceError.

        check_cancelled is called now and then, and may raise to give up.
        """
        ...

    def stop(self, generation: int) -> None:
        """Stop an instance and wait until it is down, unless it is. Raises InstanceError."""
        ...

    def is_alive(self, generation: int) -> bool:
        """Return whether an instance runs or is being started."""
        ...

    def cgroup(self, generation: int) -> Path:
        """Return the cgroup of an instance. Raises InstanceError if it does not run."""
        ...

    def processes(self, generation: int) -> list[int]:
        """Return the processes that may have its sockets. Raises InstanceError if there is none."""
        ...


class TemplateUnits:
    """Units NAME@GENERATION.service of systemd."""

    def __init__(self, service: Service) -> None:
        """Manage a service whose instances are of the kind template."""
        self._service = service

    def name(self, generation: int) -> str:
        """Return the unit: the template's, or the adopted one."""
        return former.unit_of(self._service, generation)

    def check(self) -> None:
        """Raise InstanceError unless systemd knows the template."""
        done = systemctl("cat", "--", self._service.instances.unit)
        if done.returncode:
            raise InstanceError(message_of(done, f"no unit {self._service.instances.unit}"))

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start the unit; it is up when systemd says so (Type=notify: when the server does)."""
        limit = self._service.timeouts.start_s
        former.discard(self._service.name, generation)
        run_job("start", self.name(generation), limit, check_cancelled)

    def stop(self, generation: int) -> None:
        """Stop the unit, whatever its state."""
        # systemd has its own limit
        run_job("stop", self.name(generation), math.inf, lambda: None)
        # a unit that failed would stay listed, one for every generation
        systemctl("reset-failed", "--", self.name(generation))
        former.discard(self._service.name, generation)

    def is_alive(self, generation: int) -> bool:
        """Return whether the unit is active, or becomes so."""
        return is_active(self.name(generation))

    def cgroup(self, generation: int) -> Path:
        """Return the unit's cgroup."""
        try:
            return adoption.cgroup_of_unit(self.name(generation), cgroups.default_root())
        except AdoptionError as error:
            raise InstanceError(str(error)) from error

    def processes(self, generation: int) -> list[int]:
        """Return the unit's processes."""
        return cgroups.processes(self.cgroup(generation))


def run_job(verb: str, unit: str, limit: float, check_cancelled: Callable[[], None]) -> None:
    """Start, stop or restart a unit through systemd, and wait. Raises InstanceError."""
    command = ["systemctl", "--no-ask-password", verb, "--", unit]
    deadline = time.monotonic() + limit
    check_cancelled()
    # in a session of its own: a Ctrl-C is for us
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise InstanceError(f"{unit}: not done with {verb} after {limit:g} s")
                time.sleep(_POLL_S)
                check_cancelled()
        finally:
            process.kill()
        message = "" if process.stderr is None else " ".join(process.stderr.read().split())
    if process.returncode:
        raise InstanceError(f"systemctl {verb} {unit}: {message or 'failed'}")


def is_active(unit: str) -> bool:
    """Return whether a unit is active, or becomes so.

    Raises InstanceError if systemd does not answer, as while it is re-executed.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        shown = systemctl("show", "--property=ActiveState", "--value", "--", unit)
        if not shown.returncode:
            return shown.stdout.strip() in _ALIVE
        if time.monotonic() > deadline:
            raise InstanceError(f"{unit}: {message_of(shown, 'systemd does not report its state')}")
        time.sleep(_POLL_S)


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl, in a session of its own: a Ctrl-C is for us."""
    return subprocess.run(
        ["systemctl", "--no-ask-password", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def message_of(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """Return a command's error message, in one line."""
    return " ".join(done.stderr.split()) or otherwise

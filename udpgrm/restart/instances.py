# SPDX-License-Identifier: Apache-2.0
"""Instances of a service: what starts and stops them."""

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
    """An instance could not be started or stopped; the text says what was said."""


class Instances(Protocol):
    """A service's instances, by generation."""

    def name(self, generation: int) -> str:
        """What people call it."""
        ...

    def check(self) -> None:
        """Raise InstanceError when none could be started at all."""
        ...

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start it and wait until it is up; nothing when it is. Raises InstanceError.

        check_cancelled is called now and then, and may raise to give up.
        """
        ...

    def stop(self, generation: int) -> None:
        """Stop it and wait until it is down; nothing when it is. Raises InstanceError."""
        ...

    def is_alive(self, generation: int) -> bool:
        """Whether it runs or is being started."""
        ...

    def cgroup(self, generation: int) -> Path:
        """Where its processes are. Raises InstanceError when it does not run."""
        ...

    def processes(self, generation: int) -> list[int]:
        """Those that may have its sockets. Raises InstanceError when it does not run."""
        ...


class TemplateUnits:
    """Units NAME@GENERATION.service of systemd."""

    def __init__(self, service: Service) -> None:
        """Of a service whose instances are of the kind template."""
        self._service = service

    def name(self, generation: int) -> str:
        """The unit: of the template, or the one that was adopted."""
        return former.unit_of(self._service, generation)

    def check(self) -> None:
        """Whether systemd knows the template."""
        done = systemctl("cat", "--", self._service.instances.unit)
        if done.returncode:
            raise InstanceError(words_of(done, f"no unit {self._service.instances.unit}"))

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        """Start the unit; it is up when systemd says so (Type=notify: when the server does)."""
        limit = self._service.timeouts.start_s
        former.discard(self._service.name, generation)
        run_job("start", self.name(generation), limit, check_cancelled)

    def stop(self, generation: int) -> None:
        """Stop the unit, however it is."""
        # systemd has its own limit
        run_job("stop", self.name(generation), math.inf, lambda: None)
        # a unit that failed would stay listed, one for every generation
        systemctl("reset-failed", "--", self.name(generation))
        former.discard(self._service.name, generation)

    def is_alive(self, generation: int) -> bool:
        """Whether the unit is active, or becomes so."""
        return is_active(self.name(generation))

    def cgroup(self, generation: int) -> Path:
        """The unit's."""
        try:
            return adoption.cgroup_of_unit(self.name(generation), cgroups.default_root())
        except AdoptionError as error:
            raise InstanceError(str(error)) from error

    def processes(self, generation: int) -> list[int]:
        """The unit's."""
        return cgroups.processes(self.cgroup(generation))


def run_job(verb: str, unit: str, limit: float, check_cancelled: Callable[[], None]) -> None:
    """Have systemd start, stop or restart a unit, and wait. Raises InstanceError."""
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
        said = "" if process.stderr is None else " ".join(process.stderr.read().split())
    if process.returncode:
        raise InstanceError(f"systemctl {verb} {unit}: {said or 'failed'}")


def is_active(unit: str) -> bool:
    """Whether a unit is active, or becomes so.

    Raises InstanceError when systemd does not say, as while it is re-executed.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        shown = systemctl("show", "--property=ActiveState", "--value", "--", unit)
        if not shown.returncode:
            return shown.stdout.strip() in _ALIVE
        if time.monotonic() > deadline:
            raise InstanceError(f"{unit}: {words_of(shown, 'systemd does not say how it is')}")
        time.sleep(_POLL_S)


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd, in a session of its own: a Ctrl-C is for us."""
    return subprocess.run(
        ["systemctl", "--no-ask-password", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def words_of(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """What it said, in one line."""
    return " ".join(done.stderr.split()) or otherwise

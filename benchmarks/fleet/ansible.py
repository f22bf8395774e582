# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Runs of Ansible with the project's collection, counted and timed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.record import Record, read
from testing.processes import ROOT, check, output

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Run:
    """A playbook's run: seconds, seconds of CPU with what ran below it here, and its record."""

    seconds: float
    cpu: float
    record: Record


class Ansible:
    """The collection as users have it, in a directory of its own."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._runs = 0
        self.environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(work / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_PIPELINING": "true",
        }

    def install(self) -> None:
        """Build the collection and install it."""
        build = [sys.executable, str(ROOT / "tools" / "build_collection")]
        tarball = output(build).splitlines()[-1]
        install = ["ansible-galaxy", "collection", "install", "--offline", tarball]
        with self._log("collection").open("w") as log:
            subprocess.run(
                install,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                check=True,
            )

    def play(self, playbook: str, *options: str, forks: int, name: str) -> None:
        """Run a playbook whose time does not matter."""
        self._play(playbook, options, forks, self._log(name), self.environment)

    def measure(
        self,
        playbook: str,
        *options: str,
        forks: int,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a playbook with the callback that counts."""
        self._runs += 1
        trips = self._work / f"trips{self._runs}"
        extra = {
            **self.environment,
            **(environment or {}),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "round_trips",
            "UDPGRM_ROUND_TRIPS": str(trips),
        }
        before, begun = _cpu_of_children(), time.monotonic()
        self._play(playbook, options, forks, self._log(name), extra)
        return Run(time.monotonic() - begun, _cpu_of_children() - before, read(trips))

    def _log(self, name: str) -> Path:
        logs = ROOT / "build" / "bench-fleet"
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f"{name}.log"

    def _play(
        self,
        playbook: str,
        options: Sequence[str],
        forks: int,
        log: Path,
        environment: Mapping[str, str],
    ) -> None:
        command = ["ansible-playbook", f"--forks={forks}", *options, playbook]
        extra = {**environment, "ANSIBLE_LOG_PATH": str(log), "ANSIBLE_DISPLAY_OK_HOSTS": "false"}
        log.unlink(missing_ok=True)
        try:
            check(["bash", "-c", 'exec "$@" > /dev/null', "bash", *command], extra)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"{playbook} failed with status {error.returncode}: see {log}"
            ) from None


def _cpu_of_children() -> float:
    """Seconds of CPU of all that has ended below this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

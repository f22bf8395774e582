# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The stop of an instance: never of one that is active, or that alone has sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Optional

from udpgrm.restart import draining, former, host, steering
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances, has_ended
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Step
from udpgrm.restart.prober import Evidence, StepFailed
from udpgrm.restart.systemd import NotRunning
from udpgrm.services.definition import Service
from udpgrm.state import adoptions

_POLL_S = 0.02


class Stopping:
    """The stops of one restart."""

    def __init__(
        self, service: Service, journal: Journal, instances: Instances, groups: Groups
    ) -> None:
        """Stop instances of this restart."""
        self._service = service
        self._journal = journal
        self._instances = instances
        self._groups = groups

    def await_other(self, generation: int, wait: Callable[[float], None]) -> None:
        """Wait until an instance is not the only one that has sockets.

        systemd may be starting the other one again (Restart=). Raises StepFailed if it does not.
        """
        old, new = self._journal.from_generation, self._journal.to_generation
        other = old if generation == new else new
        deadline = host.current.monotonic() + self._service.timeouts.enroll_s
        while steering.is_last(self._groups, generation):
            has_gone = other is None or has_ended(self._instances, other)
            if has_gone or host.current.monotonic() > deadline:
                name = self._instances.name(generation)
                raise StepFailed(f"only {name} has sockets: it is left running")
            wait(_POLL_S)

    def has_flows_again(self, drain: Step, generation: int) -> bool:
        """Return whether an instance that had drained has not any more.

        An operator may have made it active for a while, as systemd was silent.
        """
        last = self._journal.last(drain)
        if last is None or not last.evidence.get("drained"):
            return False
        return not draining.has_drained(self._service.drain, self._groups, generation)

    def stop(self, generation: int, other: Optional[int], evidence: Evidence) -> None:
        """Stop an instance; other: the one to which new flows go then, None: unknown here."""
        evidence["instance"] = self._instances.name(generation)
        cgroup = None
        if former.is_adopted(self._service, generation):
            with contextlib.suppress(NotRunning):
                cgroup = self._instances.cgroup(generation)
        if self._journal.from_generation is not None:  # last: systemd may be silent for seconds
            steering.refuse_active(self._groups, generation, evidence)
        if cgroup is not None:
            adoptions.delete(self._groups.maps, cgroup)
        self._instances.stop(generation)
        living = self._groups.living(generation)
        if remaining := {where: count for where, count in living.items() if count}:
            evidence["sockets_left"] = remaining
        if other is not None:
            restored = steering.restore(self._groups, self._instances, generation, other)
            steering.warn_restored(generation, restored, evidence)

    def none_runs(self, old: int, new: int) -> StepFailed:
        """Return the failure of a restart after which neither instance runs."""
        name = self._instances.name(new)
        return StepFailed(
            f"neither {self._instances.name(old)} nor {name} runs: start one of them (systemctl "
            f"start {name}), then udpgrm restart {self._service.name} --resume"
        )

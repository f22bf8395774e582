# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of instances at other addresses than their groups': nothing steers or counts those."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Optional

from udpgrm.restart import omitted
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import warn
from udpgrm.restart.prober import Evidence, StepFailed
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service


class Elsewhere:
    """The sockets of a restart's instances at addresses that are no groups.

    The address of a socket of the old instance that serves any peer is reserved while the new one
    starts: a server that wants it as well would take over clients there (SO_REUSEADDR), or
    continue without.
    """

    def __init__(self, service: Service, groups: Groups, instances: Instances) -> None:
        """Handle the instances of this service."""
        self._service = service
        self._groups = groups
        self._instances = instances

    def share_addresses(self, old: Optional[int]) -> None:
        """Let instances share the definition's addresses alone. Raises Refused, SystemdError."""
        reserved = []
        if old is not None and self._service.instances.kind == "template":
            reserved = self._reserved(old)
        self._groups.share_addresses(self._service, reserved)

    def _reserved(self, old: int) -> list[str]:
        """Return the addresses that conflict with those of the old instance."""
        served = self._groups.omitted(self._instances.processes(old))
        return sorted(set().union(*map(omitted.overlapping, served)))

    def start(self, new: int, check_cancelled: Callable[[], None]) -> None:
        """Start an instance. Raises SystemdError, StepFailed."""
        try:
            self._instances.start(new, check_cancelled)
        except SystemdError as error:
            tried = self._groups.tried(self._service)
            if tried:
                raise StepFailed(f"{self._explain(new, tried)}; {error}") from error
            raise

    def refuse_tried(self, old: Optional[int], new: int) -> None:
        """Raise StepFailed if the new instance wants an address of the old one; else release."""
        tried = self._groups.tried(self._service)
        if tried and old is not None:
            reserved = self._reserved(old)
            tried = [where for where in tried if where in reserved]
            if tried:
                raise StepFailed(self._explain(new, tried))
        self.release()

    def release(self) -> None:
        """Let instances bind what was reserved."""
        self._groups.release(self._service)

    def _explain(self, new: int, tried: list[str]) -> str:
        return (
            f"{self._instances.name(new)} has tried to bind {', '.join(tried)}, where the instance "
            "that serves has sockets, at this or an overlapping address, and the definition no "
            "group: nothing would steer there. Add a group for each address"
        )

    def warn_of_others(self, old: int, new: int, evidence: Evidence) -> None:
        """Warn of connected sockets that a drain did not wait for.

        Such as of TFTP, whose servers continue each transfer from a port of its own. A peer that
        the new instance is connected to as well is no client of the old one, but a server that
        both ask.
        """
        with contextlib.suppress(SystemdError):
            peers = self._groups.peers_elsewhere(self._instances.processes(old))
            if peers:
                peers -= self._groups.peers_elsewhere(self._instances.processes(new))
            if peers:
                evidence["connected_elsewhere"] = len(peers)
                warn(
                    evidence,
                    f"{len(peers)} sockets at other ports are connected to peers, and were not "
                    "waited for (docs/limits.md)",
                )

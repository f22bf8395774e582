# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The facts that the next step of a restart depends on, read from systemd and the kernel."""

from __future__ import annotations

from udpgrm.restart import draining, steering
from udpgrm.restart.groups import STRAYED, Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import BEFORE_PROMOTE, Facts
from udpgrm.restart.succession import has_reclaimed
from udpgrm.services.definition import Service


def read(service: Service, groups: Groups, instances: Instances, journal: Journal) -> Facts:
    """Return which instances live and serve. Raises SystemdError.

    Of a superseded restart nothing depends on which live: systemd, which may not answer, is not
    asked then.
    """
    old, new, superseded = journal.from_generation, journal.to_generation, journal.superseded
    return Facts(
        had_old=old is not None,
        old_alive=old is not None and (superseded or instances.is_alive(old)),
        new_alive=new is not None and (superseded or instances.is_alive(new)),
        superseded=superseded,
        new_active=new is not None and steering.is_active(groups, new),
        another_active=new is not None and steering.another_is_active(groups, new),
        reclaimed=has_reclaimed(journal),
        active_early=steering.was_early(journal),
        strayed=_has_strayed(service, groups, journal),
        unproved=not steering.is_proved(journal),
    )


def _has_strayed(service: Service, groups: Groups, journal: Journal) -> bool:
    """Return whether the new instance has flows that the working generation had no socket for.

    That is counted in packets: if there were none, probes alone would prolong a drain by quiet_s.
    """
    new = journal.to_generation
    if (
        new is None
        or journal.from_generation is None
        or journal.position.step not in BEFORE_PROMOTE
    ):
        return False
    if not groups.spent(journal.plan["reading"])[STRAYED]:
        return False
    return not draining.has_drained(service.drain, groups, new)

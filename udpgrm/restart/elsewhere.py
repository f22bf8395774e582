# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of an instance at other ports, connected to clients: nothing steers or counts those.

Such as of TFTP, whose servers continue each transfer from a port of its own.
"""

from __future__ import annotations

import contextlib

from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import warn
from udpgrm.restart.prober import Evidence
from udpgrm.restart.systemd import SystemdError


def warn_of_others(
    groups: Groups, instances: Instances, old: int, new: int, evidence: Evidence
) -> None:
    """Warn of connected sockets that a drain did not wait for.

    A peer that the new instance is connected to as well is no client of the old one, but a server
    that both ask.
    """
    with contextlib.suppress(SystemdError):
        peers = groups.peers_elsewhere(instances.processes(old))
        peers -= groups.peers_elsewhere(instances.processes(new)) if peers else set()
        if peers:
            evidence["connected_elsewhere"] = len(peers)
            warn(
                evidence,
                f"{len(peers)} sockets at other ports are connected to peers, and were not waited "
                "for (docs/limits.md)",
            )

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Instances that have sent nothing from the service's addresses: none of their clients is known.

Their server answers from other sockets, as those of TFTP and BFD do, or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from udpgrm.dissectors import kinds
from udpgrm.restart.groups import Groups
from udpgrm.services.definition import Service

#: More than the probes that restarts send to an instance.
_PACKETS = 20


def notes(service: Service, groups: Groups, generation: Optional[int]) -> Iterator[str]:
    """Yield the addresses at which a generation has got packets and knows no client."""
    for group in service.groups:
        kind = kinds.DEFAULT if group.dissector is None else kinds.find(group.dissector.name)
        view = groups.view(group) if kind.has_flow_table and group.protocol == "udp" else None
        if view is None or view.connected_unknown:
            continue
        for item in view.generations:
            if (item.application, item.generation) != (group.application, generation):
                continue
            if item.packets_in > _PACKETS and not (item.packets_out or item.connected):
                yield (
                    f"{group.address}: generation {generation} has got {item.packets_in} packets "
                    "and sent none from there: if its server answers from other sockets, its "
                    "clients lose their session in a restart (docs/limits.md); if each packet "
                    "stands alone, name the dissector noop"
                )

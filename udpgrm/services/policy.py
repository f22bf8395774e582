# SPDX-License-Identifier: Apache-2.0
"""The policy of a definition's group: its dissector as the kernel takes it."""

from __future__ import annotations

from typing import Optional

from udpgrm import abi
from udpgrm.dissectors import kinds
from udpgrm.services.definition import Group, Service


def of_group(service: Service, group: Group) -> Optional[abi.Policy]:
    """Return the policy of a group's address; None: applications decide. Raises DissectorError."""
    if group.dissector is None:
        return None
    kind = kinds.find(group.dissector.name)
    # other sizes than the daemon's default are the daemon's to make
    is_default = service.flows_per_generation == Service.flows_per_generation
    own = kind.has_flow_table and not is_default
    return abi.Policy(
        dissector=kind.encode(group.dissector.parameters),
        flows=service.flows_per_generation if own else 0,
    )

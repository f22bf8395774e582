# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The groups at an address, in a network namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from udpgrm.state import address
from udpgrm.state.view import GroupView, Viewer


class SeveralGroups(Exception):
    """Raised for an address that selects groups of several devices; the message names them."""

    def __init__(self, where: str, found: Sequence[GroupView]) -> None:
        """Name the groups."""
        names = sorted(
            address.form(group.ip, group.port, address.device_name(group.ifindex))
            for group in found
        )
        super().__init__(f"several groups at {where}, on different devices: {', '.join(names)}")


def find_groups(
    viewer: Viewer, where: str, namespace: int, with_flows: bool = False
) -> list[GroupView]:
    """Return a namespace's groups at an address; there may be several, on different devices."""
    return [group for group in viewer.groups(where, with_flows) if group.netns == namespace]


def find_group(
    viewer: Viewer, where: str, namespace: int, with_flows: bool = False
) -> Optional[GroupView]:
    """Return a namespace's group at an address; None: there is none. Raises SeveralGroups."""
    found = find_groups(viewer, where, namespace, with_flows)
    if len(found) > 1:
        raise SeveralGroups(where, found)
    return found[0] if found else None

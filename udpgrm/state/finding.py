# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The groups at an address, in a network namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from udpgrm.state import address
from udpgrm.state.view import GroupView, Viewer, of_any_device


class SeveralGroups(Exception):
    """Raised for an address that selects groups of several devices; the message names them."""

    def __init__(self, where: str, found: Sequence[GroupView]) -> None:
        """Name the groups."""
        names = sorted(
            address.form(group.ip, group.port, address.device_name(group.ifindex))
            for group in found
        )
        super().__init__(f"several groups at {where}, on different devices: {', '.join(names)}")


class Finder:
    """Finds many groups of a namespace by address, with one look at all of them."""

    def __init__(self, viewer: Viewer, namespace: int) -> None:
        """Look at the groups as they are now."""
        self._viewer = viewer
        self._ids = viewer.ids_by_address(namespace)

    def find(self, where: str, with_flows: bool = False) -> Optional[GroupView]:
        """Return the group at an address; None: there is none. Raises SeveralGroups."""
        wanted = address.read(where)
        found = [
            self._viewer.group(group_id, with_flows)
            for group_id in self._ids.get(of_any_device(wanted.key), ())
            if wanted.selects(wanted.plain, self._viewer.ifindex(group_id))
        ]
        if len(found) > 1:
            raise SeveralGroups(where, found)
        return found[0] if found else None


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

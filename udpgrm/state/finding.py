# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The groups at an address, in a network namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from udpgrm.state import address
from udpgrm.state.maps import Maps
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


class Finder:
    """Finds many groups of a namespace by address, with one look at all of them."""

    def __init__(self, maps: Maps, namespace: int) -> None:
        """Look at the groups as they are now."""
        self._maps = maps
        self._viewer = Viewer(maps)
        self._ids: dict[bytes, list[int]] = {}
        for group_id, group in maps.live_groups():
            if group.key.netns == namespace:
                self._ids.setdefault(address.of_any_device(group.key), []).append(group_id)

    def find(self, where: str, with_flows: bool = False) -> Optional[GroupView]:
        """Return the group at an address; None: there is none. Raises SeveralGroups."""
        group_id = self.find_id(where)
        return None if group_id is None else self._viewer.group(group_id, with_flows)

    def find_id(self, where: str) -> Optional[int]:
        """Return the id of the group at an address; None: there is none. Raises SeveralGroups."""
        wanted = address.read(where)
        found = [
            group_id
            for group_id in self._ids.get(address.of_any_device(wanted.key), ())
            if wanted.selects(wanted.plain, self._maps.group(group_id).key.ifindex)
        ]
        if len(found) > 1:
            views = (self._viewer.group(group_id, with_flows=False) for group_id in found)
            raise SeveralGroups(where, [view for view in views if view is not None])
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

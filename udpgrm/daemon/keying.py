# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Groups whose flows are keyed by the content of packets, and the egress hook that learns them.

The hook runs for every packet that a hooked cgroup sends, so it is attached while there is such a
group, and not before.
"""

from __future__ import annotations

from pathlib import Path

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.build import sources
from udpgrm.dissectors import kinds
from udpgrm.loader import hooks, renewing
from udpgrm.loader.programs import Linker
from udpgrm.state.maps import Maps


class Keying:
    """The keys of groups' flows, in their records; the egress hook while one needs it."""

    def __init__(self, maps: Maps, directory: Path, linker: Linker) -> None:
        """Use the hooks of a pin directory."""
        self._maps = maps
        self._directory = directory
        self._linker = linker

    def prepare(self, group: abi.Group, dissector: abi.Dissector) -> None:
        """Have a group's flows learned, if its dissector needs that. Raises OSError."""
        kind = kinds.of_value(dissector)
        if kind.keyed_by == abi.KeyedBy.PEER:
            return
        timeout = kind.flow_timeout_s(dissector)
        if timeout is not None:
            group.flow_timeout_s = timeout
            group.timeout_jiffies = timeout * self._maps.config.hz
        group.keyed_by = kind.keyed_by
        self.follow()

    def follow(self) -> None:
        """Attach the hook to every hooked cgroup while a group needs it, then detach it."""
        live = map(self._maps.group, self._maps.groups_in(GroupState.LIVE))
        if any(group.keyed_by for group in live):
            renewing.load(
                [sources.EGRESS.program],
                lambda: hooks.attach_egress(self._directory, self._linker),
            )
        else:
            hooks.detach_egress(self._directory)

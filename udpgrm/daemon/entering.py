# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets that adopted cgroups bind later get their array entries a little later.

Servers bind a socket and connect it to a peer at once: an entry for it would be dead a moment
later, and 256 of them all that a generation can have. The hooks say once that there are new
sockets; which of them are still unconnected after a moment, an iterator tells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from udpgrm import abi
from udpgrm.abi import GroupState, MessageFlag
from udpgrm.kernel import clock
from udpgrm.state import connected
from udpgrm.state.connected import Record
from udpgrm.state.maps import Maps

#: A server that is about to connect a socket has done so by then.
_GRACE_S = 0.1


class Entrance:
    """Finds unconnected sockets of adopted cgroups that have no array entry."""

    def __init__(self, maps: Maps) -> None:
        """An earlier daemon may have left some."""
        self._maps = maps
        self._jiffies = clock.Jiffies()
        self._grace = int(_GRACE_S * maps.config.hz)
        #: When (monotonic seconds) `look` has something to do; None: it has not.
        self.due: Optional[float] = time.monotonic()
        self._everywhere = True
        self._tried: set[int] = set()

    def expect(self) -> None:
        """An adopted cgroup has bound a socket: look in a moment."""
        self.due = self.due or time.monotonic() + _GRACE_S

    def look(self) -> Iterator[abi.Message]:
        """Return messages of sockets that are to be entered, as if they had asked."""
        if self.due is None or time.monotonic() < self.due:
            return
        self.due = None
        namespaces, awaited = set(), []
        for number in self._maps.groups_in(GroupState.LIVE):
            group = self._maps.group(number)
            if group.awaited or self._everywhere:
                group.awaited = 0  # before the look: what is bound from now on says so again
                awaited.append(group)
                namespaces.add(group.key.netns)
        self._everywhere = False
        now, seen = self._jiffies.now(), set()
        for namespace in namespaces:
            for record in connected.records(self._maps, namespace) or ():
                if not record.adopted or record.connected or record.entered:
                    continue
                seen.add(record.cookie)
                if (now - record.bound_at) % 2**32 < self._grace:
                    self._look_again(awaited)
                elif record.cookie not in self._tried:
                    self._tried.add(record.cookie)
                    yield self._message(record)
        self._tried &= seen

    def _look_again(self, awaited: list[abi.Group]) -> None:
        """One is too young to tell."""
        self.expect()
        for group in awaited:
            group.awaited = 1

    def _message(self, record: Record) -> abi.Message:
        member = record.member
        return abi.Message(
            flags=MessageFlag.JOIN | MessageFlag.REGISTER,
            group=member.group_id,
            epoch=member.epoch,
            pid=record.pid,
            ns_pid=record.pid,
            fd=record.descriptor,
            generation=member.generation,
            app=member.application,
            cookie=record.cookie,
            uid=self._maps.group(member.group_id).uid,
        )

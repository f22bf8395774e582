# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Entry of sockets into the array that are still unconnected a moment after a hook saw them.

Servers bind a socket and connect it to a peer at once. An array entry for it would be dead a
moment later, and a generation can have only 256 of them: so the daemon enters sockets that adopted
cgroups bind a moment later. It enters them at once if the working generation has no other socket,
as when a server binds again on SIGHUP: new flows go to another generation meanwhile. The daemon
undoes the connect hooks' changes if connect(2) has failed, and the bind hook's SO_REUSEADDR if the
server does not connect the socket.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Optional

from udpgrm import abi
from udpgrm.abi import GroupState, MessageFlag
from udpgrm.state import connected, connecting
from udpgrm.state.connected import Record
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

_GRACE_S = connecting.CONNECTS_WITHIN_S


class Entrance:
    """Finds unconnected sockets that are to be entered, or whose connect(2) has failed."""

    def __init__(self, maps: Maps) -> None:
        """Schedule a check: an earlier daemon may have missed some."""
        self._maps = maps
        self._grace = int(_GRACE_S * maps.config.hz)
        self._due: Optional[float] = time.monotonic()
        self._urgent: set[int] = set()  # ids of groups
        self._everywhere = True
        self._tried: set[int] = set()
        self._connecting: dict[int, tuple[float, abi.Message]] = {}  # since when, by cookie

    @property
    def due(self) -> Optional[float]:
        """Return when (monotonic seconds) `recheck` has something to do; None: it has not."""
        return 0.0 if self._urgent else self._due

    def expect(self, connecting: Optional[abi.Message] = None) -> None:
        """Schedule a check in a moment: a group has new sockets, or a socket is to connect."""
        now = time.monotonic()
        self._due = self._due or now + _GRACE_S
        if connecting is not None:
            self._connecting[connecting.cookie] = now, connecting

    def hasten(self, group_id: int) -> None:
        """Schedule a check at once if a group's working generation has lost its sockets.

        Beside the one that is scheduled: the hooks may be about to report more.
        """
        if self._lacks_sockets(group_id):
            self._urgent.add(group_id)

    def _lacks_sockets(self, group_id: int) -> bool:
        """Return whether the working generation of an application has no living socket."""
        group = self._maps.group(group_id)
        with contextlib.suppress(LookupError), GroupEntries(self._maps, group_id) as entries:
            for number in group.working_slot[: max(group.max_apps, 1)]:
                slot = entries.slot(number)
                if all(entries.cookie_at(at) is None for at in slot.live_entries[: slot.live]):
                    return True
        return False

    def _enter_urgent(self) -> Iterator[abi.Message]:
        """Yield messages of new sockets of working generations that have no other."""
        urgent, self._urgent = self._urgent, set()
        for namespace in {self._maps.group(group_id).key.netns for group_id in urgent}:
            for record in connected.records(self._maps, namespace) or ():
                flags, member = _asks(record), record.member
                if flags is None or MessageFlag.REGISTER not in flags:
                    continue
                working = self._maps.group(member.group_id).working
                is_working = working[member.application] == member.generation
                if member.group_id in urgent and is_working and record.cookie not in self._tried:
                    self._tried.add(record.cookie)
                    yield self._message(record, flags)

    def recheck(self) -> Iterator[abi.Message]:
        """Yield messages of sockets that are to be entered, or whose connect(2) has failed."""
        yield from self._enter_urgent()
        now = time.monotonic()
        if self._due is None or now < self._due:
            return
        self._due = None
        for cookie, (since, message) in list(self._connecting.items()):
            if now - since < _GRACE_S:
                self.expect()
                continue
            del self._connecting[cookie]
            message.flags |= MessageFlag.RECHECK
            yield message
        yield from self._recheck_sockets()

    def _recheck_sockets(self) -> Iterator[abi.Message]:
        namespaces, awaited = set(), []
        for group_id in self._maps.groups_in(GroupState.LIVE):
            group = self._maps.group(group_id)
            if group.awaited or self._everywhere:
                group.awaited = 0  # before the sockets are read: the hooks report later ones again
                awaited.append(group)
                namespaces.add(group.key.netns)
        self._everywhere = False
        now, seen = self._maps.clock.now(), set()
        for namespace in namespaces:
            for record in connected.records(self._maps, namespace) or ():
                flags = _asks(record)
                if flags is None:
                    continue
                seen.add(record.cookie)
                if (now - record.bound_at) % 2**32 < self._grace:
                    self._check_again(awaited)
                elif record.cookie not in self._tried:
                    self._tried.add(record.cookie)
                    yield self._message(record, flags)
        self._tried &= seen

    def _check_again(self, awaited: list[abi.Group]) -> None:
        """Schedule another check: a socket is too young to decide."""
        self.expect()
        for group in awaited:
            group.awaited = 1

    def _message(self, record: Record, flags: MessageFlag) -> abi.Message:
        member = record.member
        return abi.Message(
            flags=flags,
            group_id=member.group_id,
            epoch=member.epoch,
            pid=record.pid,
            ns_pid=record.pid,
            fd=record.descriptor,
            generation=member.generation,
            app=member.application,
            cookie=record.cookie,
            uid=self._maps.group(member.group_id).uid,
        )


def _asks(record: Record) -> Optional[MessageFlag]:
    """Return the flag of the message for an unconnected socket; None: nothing is to be done."""
    if record.connected:
        return None
    if record.parted or (record.lent and not record.entered):
        return MessageFlag.CONNECT | MessageFlag.RECHECK
    if record.adopted and not record.entered:
        return MessageFlag.JOIN | MessageFlag.REGISTER
    return None

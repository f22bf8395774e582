# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Steering programs of groups: loaded once needed, attached through any socket of the group."""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from udpgrm import abi, log
from udpgrm.abi import GroupState
from udpgrm.build.cache import BuildError
from udpgrm.daemon import fields
from udpgrm.daemon.compiling import Compiler
from udpgrm.daemon.foreign import Foreign
from udpgrm.daemon.keying import Keying
from udpgrm.journald import MessageId
from udpgrm.kernel import libbpf, limits
from udpgrm.loader import failures, renewing
from udpgrm.loader.pool import Pool
from udpgrm.loader.programs import Linker, digest_of, faults_of, steering_of
from udpgrm.state import address, holders
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps


class Steering:
    """The steering program of each group. Sockets hold it, so that no descriptor has to."""

    def __init__(
        self,
        maps: Maps,
        pool: Pool,
        compiler: Compiler,
        linker: Linker,
        keying: Keying,
        shared: bool,
    ) -> None:
        """Take over the live groups. shared: sockets of labelled groups go to tubular too."""
        self._maps = maps
        self._pool = pool
        self._compiler = compiler
        self._linker = linker
        self._keying = keying
        self._shared = shared
        self._programs: dict[int, int] = {}  # group id -> program id
        #: Group id -> fd of a program that no socket has yet, within a round
        self._unattached: dict[int, int] = {}
        self._rejected: dict[int, int] = {}  # group id -> epoch
        #: Groups that may have an earlier daemon's program
        self._outdated = set(maps.groups_in(GroupState.LIVE))
        #: Groups whose program was found to be missing, within a round
        self._unready: set[int] = set()
        self.foreign = Foreign()

    def begin_round(self) -> None:
        """Begin a round of messages: programs may have been compiled since the last one."""
        self._unready.clear()
        while self._unattached:
            os.close(self._unattached.popitem()[1])

    def ensure(self, group_id: int, group: abi.Group) -> bool:
        """Load the group's program, unless it never will be; False: it has to be compiled first."""
        if group_id in self._programs or self._rejected.get(group_id) == group.epoch:
            return True
        if group_id in self._unready:
            return False
        try:
            dissector = self._maps.dissector(group_id)
            program = steering_of(dissector)
            if not self._compiler.ready(program):
                self._unready.add(group_id)
                return False
            if self._shared and dissector.label and not group.next_entry:
                self._pool.ensure_sockmap(group_id)
            self._keying.prepare(group, dissector)
            self._pool.ensure_maps(group_id)
            try:
                self._load(group_id)
            except renewing.BROKEN as error:
                if failures.is_machines(error) or not self._compiler.renew(program):
                    raise
                log.problem(f"a template does not load and is compiled once more: {error}")
                self._compiler.ready(program)
                self._unready.add(group_id)
                return False
            group.program = digest_of(dissector)
            for fault in faults_of(dissector):
                log.problem(
                    f"filter of {address.of_key(group.key)}: {fault}",
                    fields.of_group(group),
                )
        except (BuildError, FileNotFoundError, *renewing.BROKEN) as error:
            if failures.is_machines(error):
                raise
            # packets still arrive: without a program the kernel's own hash selects sockets
            self._rejected[group_id] = group.epoch
            count_failure(group)
            log.problem(
                f"no steering for {address.of_key(group.key)}: {error}",
                fields.of_group(group),
                MessageId.NO_STEERING,
            )
        return True

    def _load(self, group_id: int) -> None:
        fd = self._linker.steering(group_id)
        self._programs[group_id] = libbpf.prog_id(fd)
        self._unattached[group_id] = fd

    def attach(self, group_id: int, fd: int) -> None:
        """Attach the group's program to a socket's reuseport group, if it has a program."""
        if group_id not in self._programs:
            return
        if group_id not in self._unattached:
            try:
                self._unattached[group_id] = libbpf.prog_by_id(self._programs[group_id])
            except FileNotFoundError:  # all sockets that had it are closed
                self._load(group_id)
        program = self._unattached.pop(group_id)
        try:
            self._linker.attach(fd, program)
        finally:
            os.close(program)

    def replace_outdated(self) -> None:
        """Replace an earlier daemon's programs by this version's.

        The kernel swaps a group's program atomically, under traffic, through any
        socket of the group. Some may have to wait for a compiler, or for the machine.
        """
        wanted: dict[int, int] = {}  # socket cookie -> group id
        for group_id in sorted(self._outdated):
            group = self._maps.group(group_id)
            if group.state != GroupState.LIVE or group_id in self._programs:
                self._outdated.discard(group_id)
                continue
            cookie = None
            with contextlib.suppress(BuildError):
                dissector = self._maps.dissector(group_id)
                if not self._compiler.ready(steering_of(dissector)):
                    continue
                if group.program != digest_of(dissector):
                    cookie = self._socket_of(group_id)
            if cookie is None:
                self._outdated.discard(group_id)
            else:
                wanted[cookie] = group_id
        found = holders.duplicates(self._maps, set(wanted))
        self._outdated -= set(wanted.values())
        for cookie, (_, fd) in found.items():
            self._replace(wanted[cookie], fd)

    def _replace(self, group_id: int, fd: int) -> None:
        """Replace a group's program through one of its sockets, which is closed here."""
        group = self._maps.group(group_id)
        try:
            if self.ensure(group_id, group):
                self.attach(group_id, fd)
        except Exception as error:  # the other groups are not to go without for this one
            if failures.is_machines(error):
                self._outdated.add(group_id)
                self._programs.pop(group_id, None)  # perhaps loaded, and not attached
            log.problem(
                f"{address.of_key(group.key)} keeps the program of an earlier daemon: "
                f"{limits.explain(error)}",
                fields.of_group(group),
            )
        finally:
            os.close(fd)

    def put_back(self) -> None:
        """Replace a foreign program of a group by the group's own."""

        def attach(group_id: int, fd: int) -> bool:
            if not self.ensure(group_id, self._maps.group(group_id)):
                return False
            if group_id not in self._programs:
                return False
            self.attach(group_id, fd)
            return True

        self.foreign.put_back(self._maps, attach)

    def _socket_of(self, group_id: int) -> Optional[int]:
        """Return the cookie of one living socket of a group."""
        with contextlib.suppress(LookupError), GroupEntries(self._maps, group_id) as group_entries:
            for array_entry in range(min(self._maps.group(group_id).next_entry, abi.GROUP_ENTRIES)):
                cookie = group_entries.cookie_at(array_entry)
                if cookie is not None:
                    return cookie
        return None

    def drop(self, group_id: int) -> None:
        """Drop the program of a group that is gone."""
        self._programs.pop(group_id, None)
        unattached = self._unattached.pop(group_id, None)
        if unattached is not None:
            os.close(unattached)


def count_failure(group: abi.Group) -> None:
    """Count a failure that the group's owner should know of."""
    group.critical += 1
    group.critical_gauge = 1

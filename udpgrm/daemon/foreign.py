# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reuseport programs of servers that replace a group's steering program."""

from __future__ import annotations

import os
import time
from typing import Callable, Optional

from udpgrm import abi, log
from udpgrm.abi import GroupState
from udpgrm.daemon import fields
from udpgrm.kernel import pidfd, sockopt
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.state import address, holders, steered
from udpgrm.state.connected import Record
from udpgrm.state.maps import Maps

#: Socket options that change the program of all sockets of an address.
_OPTIONS = {
    sockopt.SO_ATTACH_REUSEPORT_CBPF: "SO_ATTACH_REUSEPORT_CBPF",
    sockopt.SO_ATTACH_REUSEPORT_EBPF: "SO_ATTACH_REUSEPORT_EBPF",
    sockopt.SO_DETACH_REUSEPORT_BPF: "SO_DETACH_REUSEPORT_BPF",
}
#: Processes of a group that the log names: users may start any number.
_MOST_PROCESSES = 16
#: Between two scans: so long, and so many times as long as a scan took.
_REST_S = 5.0
_REST_FACTOR = 20


class Foreign:
    """Reports attempts to replace a group's program, and undoes those outside of hooked cgroups."""

    def __init__(self) -> None:
        """Start without any report."""
        self._reported: dict[int, tuple[int, set[int]]] = {}  # group id -> epoch, pids
        self._not_before = 0.0  # monotonic seconds

    def refused(self, message: abi.Message, group: abi.Group) -> None:
        """Log that the hooks refused a server's option, once for each process.

        The daemon's own is refused for a socket in no group (`Linker.attach`).
        """
        if (message.ns_pid or message.pid) == os.getpid():
            return
        epoch, pids = self._reported.get(message.group_id, (message.epoch, set()))
        if epoch != message.epoch:
            pids = set()
        if message.pid in pids or len(pids) == _MOST_PROCESSES:
            return
        pids.add(message.pid)
        self._reported[message.group_id] = message.epoch, pids
        more = "; further processes are not logged" if len(pids) == _MOST_PROCESSES else ""
        option = _OPTIONS.get(message.generation, f"option {message.generation}")
        where = address.of_key(group.key)
        log.problem(
            f"{option} of process {message.ns_pid or message.pid} at {where} was refused (EPERM): "
            "its program would replace udpgrm's for all instances; turn it off in the server"
            f"{more}",
            fields.of_group(group),
        )

    def put_back(self, maps: Maps, attach: Callable[[int, int], bool]) -> None:
        """Attach groups' own programs again that another program has replaced.

        attach: attaches the program of a group (by id) through a socket (by descriptor); False:
        it is not compiled yet. A scan reads all sockets, so there is a rest after each.
        """
        began = time.monotonic()
        if began < self._not_before:
            return
        live = maps.groups_in(GroupState.LIVE)
        for namespace in {int(maps.group(group_id).key.netns) for group_id in live}:
            for group_id, found in steered.foreign(maps, namespace).items():
                fd = _duplicate(maps, found.record)
                if fd is None:
                    continue
                try:
                    done = attach(group_id, fd)
                finally:
                    os.close(fd)
                if done:
                    group = maps.group(group_id)
                    log.problem(
                        f"{address.of_key(group.key)} was steered by {found.program} and not by "
                        "udpgrm: its own program is attached again; a process in no hooked cgroup "
                        "replaced it",
                        fields.of_group(group),
                    )
        now = time.monotonic()
        self._not_before = now + max(_REST_S, _REST_FACTOR * (now - began))


def _duplicate(maps: Maps, record: Record) -> Optional[int]:
    """Return a duplicate of a socket; None: no process that can be reached has it."""
    try:
        fd = pidfd.socket_at(record.pid, record.descriptor, record.cookie)
        if fd is not None:
            return fd
        for _, fd in holders.duplicates(maps, {record.cookie}).values():
            return fd
    except Unreachable as error:
        log.problem(str(error.strerror))
    return None

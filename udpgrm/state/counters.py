# SPDX-License-Identifier: Apache-2.0
"""A group's counters, summed over CPUs."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps, index

#: Of a group; the first two are counted by the daemon.
NAMES = ("socket_critical_gauge", "socket_critical", *abi.COUNTERS)


class GroupCounters(NamedTuple):
    """One reading. Packets per slot; last_* in jiffies, 0: never."""

    metrics: dict[str, int]
    packets_in: list[int]
    packets_out: list[int]
    last_in: list[int]
    last_out: list[int]


def read(maps: Maps, group_id: int) -> GroupCounters:
    """Read the counters of a group, with the counters that the daemon keeps itself."""
    size = ctypes.sizeof(abi.Counters)
    cpus = libbpf.cpus()
    data = None
    with maps.inner("counters", group_id) as fd:
        if fd is not None:
            data = libbpf.map_lookup(fd, index(0), size * cpus)
    per_cpu = (abi.Counters * cpus).from_buffer_copy(data or bytes(size * cpus))
    slots = range(abi.GENERATION_SLOTS)
    group = maps.group(group_id)
    totals = (sum(cpu.total[position] for cpu in per_cpu) for position in range(len(abi.COUNTERS)))
    metrics = dict(zip(NAMES, (group.critical_gauge, group.critical, *totals)))
    return GroupCounters(
        metrics=metrics,
        packets_in=[sum(cpu.generation[slot].packets_in for cpu in per_cpu) for slot in slots],
        packets_out=[sum(cpu.generation[slot].packets_out for cpu in per_cpu) for slot in slots],
        last_in=[max(cpu.generation[slot].last_in for cpu in per_cpu) for slot in slots],
        last_out=[max(cpu.generation[slot].last_out for cpu in per_cpu) for slot in slots],
    )

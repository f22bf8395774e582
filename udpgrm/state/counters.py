# SPDX-License-Identifier: Apache-2.0
"""A group's counters, summed over CPUs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps, index

_WORD = ctypes.sizeof(ctypes.c_uint64)
#: The counters of a group; the daemon counts the first two.
NAMES = ("socket_critical_gauge", "socket_critical", *abi.COUNTERS)


class GroupCounters(NamedTuple):
    """One reading. Packets per slot; last_* in jiffies, 0: never.

    crossed: sends on flows of another generation, of those that tx_flow_update_conflict counts.
    """

    metrics: dict[str, int]
    crossed: int
    packets_in: list[int]
    packets_out: list[int]
    last_in: list[int]
    last_out: list[int]


def packets_of(maps: Maps, group_id: int, slot: int) -> tuple[int, int]:
    """Return the packets of a slot, received and sent: of all, in a fraction of the time."""
    size, cpus = ctypes.sizeof(abi.Counters), libbpf.cpus()
    with maps.inner("counters", group_id) as fd:
        data = None if fd is None else libbpf.map_lookup(fd, index(0), size * cpus)
    if data is None:
        return 0, 0
    start = abi.Counters.generation.offset + slot * ctypes.sizeof(abi.GenerationCounters)
    found = [
        abi.GenerationCounters.from_buffer_copy(data, start + cpu * size) for cpu in range(cpus)
    ]
    return sum(item.packets_in for item in found), sum(item.packets_out for item in found)


def read(maps: Maps, group_id: int) -> GroupCounters:
    """Read the counters of a group, with the counters that the daemon keeps itself."""
    size = ctypes.sizeof(abi.Counters)
    cpus = libbpf.cpus()
    data = None
    with maps.inner("counters", group_id) as fd:
        if fd is not None:
            data = libbpf.map_lookup(fd, index(0), size * cpus)
    group = maps.group(group_id)
    # plain words: structures of some CPUs and 32 slots would take long for hundreds of groups
    words = memoryview(data or bytes(size * cpus)).cast("Q")
    starts = range(0, len(words), size // _WORD)
    totals = map(sum, zip(*(words[start : start + len(abi.COUNTERS)] for start in starts)))

    def of_slots(field: Any, combine: Callable[[tuple[int, ...]], int]) -> list[int]:
        first = (abi.Counters.generation.offset + field.offset) // _WORD
        step = ctypes.sizeof(abi.GenerationCounters) // _WORD
        length = abi.GENERATION_SLOTS * step
        per_cpu = (words[start + first : start + first + length : step] for start in starts)
        return list(map(combine, zip(*per_cpu)))

    fields = abi.GenerationCounters
    crossed = abi.Counters.crossed.offset // _WORD
    return GroupCounters(
        crossed=sum(words[start + crossed] for start in starts),
        metrics=dict(zip(NAMES, (group.critical_gauge, group.critical, *totals))),
        packets_in=of_slots(fields.packets_in, sum),
        packets_out=of_slots(fields.packets_out, sum),
        last_in=of_slots(fields.last_in, max),
        last_out=of_slots(fields.last_out, max),
    )

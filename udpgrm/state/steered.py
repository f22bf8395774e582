# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The program that the kernel runs for a group: udpgrm's, or one that has replaced it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from udpgrm import abi
from udpgrm.kernel import libbpf, loaded
from udpgrm.state import connected, layout
from udpgrm.state.connected import Record
from udpgrm.state.maps import Maps


class Foreign(NamedTuple):
    """A socket of a group that another program steers, and a description of that program."""

    record: Record
    program: str


def foreign(maps: Maps, namespace: int) -> dict[int, Foreign]:
    """Return the groups of a network namespace that udpgrm's program does not steer, by id.

    Groups without a program of udpgrm's, and invisible ones, are omitted.
    """
    ours = libbpf.map_id(maps["groups"])
    look = lru_cache(maxsize=None)(loaded.program)
    found: dict[int, Foreign] = {}
    seen: set[tuple[int, int]] = set()
    for record in connected.records(maps, namespace) or ():
        group_id = record.member.group_id
        if not record.entered or (group_id, record.kernel_group) in seen:
            continue
        seen.add((group_id, record.kernel_group))
        group = maps.group(group_id)
        if not record.kernel_group or group.epoch != record.member.epoch or not group.program:
            continue
        if record.program in (0, abi.PROGRAM_CLASSIC):
            described = "a program of classic BPF" if record.program else "no program"
        else:
            name, ids = look(record.program)
            if name == f"{layout.STEERING_PREFIX}{group_id}" and ours in ids:
                continue
            described = f"program {record.program} ({name or 'without a name'})"
        found[group_id] = Foreign(record, described)
    return found

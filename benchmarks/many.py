# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of many groups: 512 of one socket, made and registered one after the other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import udpgrm.client as grm
from benchmarks import programs
from benchmarks.footprint import resident
from benchmarks.report import Row, single
from benchmarks.stats import percentile, summary
from testing.host import Host, cpu_seconds
from udpgrm.abi import GroupState
from udpgrm.kernel import libbpf
from udpgrm.state import maps as state

_SECTION = "512 groups of one socket, one after the other"
_GROUPS, _FIRST_PORT = 512, 5000


def _descriptors(host: Host) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def _verified(host: Host) -> int:
    """Return how many instructions the verifier followed for the program of one group."""
    maps = state.open_pinned(host.directory)
    try:
        [number, *_] = maps.groups_in(GroupState.LIVE)
        with maps.inner("counters", number) as counters:
            assert counters is not None
            program = programs.using_map(libbpf.PROG_SK_REUSEPORT, libbpf.map_id(counters))
        try:
            return libbpf.verified_instructions(program)
        finally:
            os.close(program)
    finally:
        maps.close()


def measure(host: Host) -> Iterator[Row]:
    """Make the groups, and look at what each has cost and what the daemon holds for it."""
    before, had = cpu_seconds(host.process.pid), _descriptors(host)
    made: list[socket.socket] = []
    times = []
    try:
        for port in range(_FIRST_PORT, _FIRST_PORT + _GROUPS):
            started = time.perf_counter()
            [sock] = grm.bind(f"127.0.0.1:{port}")
            made.append(sock)
            grm.enroll([sock], 1, timeout=60)
            times.append((time.perf_counter() - started) * 1e3)
        yield single(_SECTION, f"a group, median of {_GROUPS}", "ms", percentile(times, 50), 5)
        yield single(_SECTION, "a group, 99th percentile", "ms", percentile(times, 99))
        yield single(_SECTION, "all", "s", sum(times) / 1e3, 5, 1.1)
        used = cpu_seconds(host.process.pid) - before
        yield single(
            _SECTION, "processor time of the daemon, per group", "ms", used * 1e3 / _GROUPS
        )
        held = (_descriptors(host) - had) / _GROUPS
        yield single(_SECTION, "descriptors that the daemon holds, per group", "", held, 0)
        yield single(
            _SECTION, "instructions verified, per group of FLOW", "", _verified(host), 6000
        )
        memory = resident(host)
        yield single(_SECTION, "daemon, resident", "MB", memory.value.median, memory.bar)
        yield Row(_SECTION, "delete of a group", "ms", summary(_deletions(host)), None, 6, 6)
    finally:
        for sock in made:
            sock.close()


def _deletions(host: Host) -> list[float]:
    """Delete every group as `udpgrm delete` does, without its process's start."""
    maps = state.open_pinned(host.directory)
    times = []
    try:
        for number in maps.groups_in(GroupState.LIVE):
            started = time.perf_counter()
            state.delete(maps, number)
            times.append((time.perf_counter() - started) * 1e3)
    finally:
        maps.close()
    return times

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Registrations, start-up, and memory of daemon and kernel."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import udpgrm.client as grm
from benchmarks.place import Place, unstarted
from benchmarks.programs import memory
from benchmarks.report import Row, single
from benchmarks.stats import percentile, summary
from benchmarks.traffic import Groups
from testing.host import Host
from udpgrm.state import layout

_REGISTRATION = "Registration"
_START = "Start-up of the daemon"
_MEMORY = "Memory"
_STARTS, _SINGLE, _MANY, _OTHERS = 5, 100, 256, 2000
_DISTRIBUTED = ("sockets", "slots", "counters")


def registration() -> Iterator[Row]:
    """Register one socket at a time, then many; the process has 2,000 other descriptors."""
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(_OTHERS)]
    made = []
    times = []
    try:
        for _ in range(_SINGLE):
            made += grm.bind("127.0.0.1:4433")
            started = time.perf_counter()
            grm.enroll(made[-1:], 1)
            times.append((time.perf_counter() - started) * 1e3)
        many = grm.bind("127.0.0.1:4434", _MANY)
        made += many
        started = time.perf_counter()
        grm.enroll(many, 1)
        took = (time.perf_counter() - started) * 1e3
    finally:
        for fd in others:
            os.close(fd)
        for sock in made:
            sock.close()
    yield single(_REGISTRATION, f"one socket, median of {_SINGLE}", "ms", percentile(times, 50), 3)
    yield single(_REGISTRATION, "one socket, 99th percentile", "ms", percentile(times, 99))
    yield single(_REGISTRATION, f"{_MANY} sockets of one group", "ms", took, 200)


def start_up(where: Place) -> Iterator[Row]:
    """Measure the time until the daemon listens."""

    def started() -> float:
        with unstarted(where) as host:
            before = time.perf_counter()
            host.start()
            return time.perf_counter() - before

    cached = summary([started() for _ in range(_STARTS)])
    yield Row(_START, f"with cached templates, median of {_STARTS}", "s", cached, bar=1)
    kept = os.environ["UDPGRM_CACHE_DIR"]
    with tempfile.TemporaryDirectory(prefix="udpgrm-bench-") as empty:
        os.environ["UDPGRM_CACHE_DIR"] = empty
        try:
            compiled = started()
        finally:
            os.environ["UDPGRM_CACHE_DIR"] = kept
    yield single(_START, "compiling everything", "s", compiled, 5)


def resident(host: Host) -> Row:
    """Measure the memory of the daemon, after all that it has served."""
    text = Path(f"/proc/{host.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return single(_MEMORY, "daemon, resident", "MB", int(found[1]) / 1e3, 25)


def map_memory(groups: Groups) -> Iterator[Row]:
    """Measure the bytes that the kernel accounts (fdinfo), at the default limits."""
    group = groups.make()
    maps = groups.maps
    total = 0.0
    for name in _DISTRIBUTED:
        with maps.inner(name, group.group_id) as fd:
            assert fd is not None
            size = memory(fd) / 1e3
            total += size
            yield single(_MEMORY, f"map of a group: {name}", "kB", size)
    program = memory(group.program) / 1e3
    yield single(_MEMORY, "program of a FLOW group", "kB", program)
    yield single(_MEMORY, "a group in all", "kB", total + program, reference=66)
    table = maps.group(group.group_id).table[1]
    with maps.inner("flow_tables", table) as fd:
        assert fd is not None
        yield single(_MEMORY, "flow table of a generation", "kB", memory(fd) / 1e3)
    shared = sum(memory(maps[name]) for name in layout.MAPS) / 1e3
    yield single(_MEMORY, "maps shared by all groups", "kB", shared)

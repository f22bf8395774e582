# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of one look-up and one insertion in flow tables of two layouts (bpf/layouts.c)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.place import quiet
from benchmarks.programs import run_repeatedly
from benchmarks.report import Row
from benchmarks.stats import marginal, summary
from udpgrm.abi import Relocation
from udpgrm.build import cache
from udpgrm.build.link import link
from udpgrm.build.sources import Program
from udpgrm.kernel import libbpf
from udpgrm.state import layout

_SOURCE = Path(__file__).parent / "bpf/layouts.c"
_BUCKET_BYTES, _WAYS = 128, 4
_PARTS = (
    "nothing",
    "LRU hash, found",
    "LRU hash, missing",
    "LRU hash, inserted",
    "buckets, found",
    "buckets, missing",
    "buckets, inserted",
)
_INSERTS = {"LRU hash, inserted", "buckets, inserted"}
#: Flows, and entries of the tables: at most seven tenths of them are in use.
_SIZES = ((1_000, 65_536), (30_000, 65_536), (500_000, 1_048_576))
_ROUNDS, _RUNS = 15, 1_000


class _Control(ctypes.Structure):
    """struct control."""

    _fields_ = [
        ("flows", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
    ]


class _Tables:
    """The tables of one size, and the programs that work on them."""

    def __init__(self, stack: ExitStack, programs: list[Program], entries: int) -> None:
        def keep(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        buckets = entries // _WAYS
        self._mask = buckets - 1
        self._control = keep(
            libbpf.map_create(libbpf.MAP_ARRAY, "bench_control", 4, ctypes.sizeof(_Control), 1)
        )
        maps: dict[int, int] = {
            Relocation.FLOW_TABLES: keep(layout.make_flow_table(entries)),
            # mapped arrays begin at a page, so that buckets begin at a cache line
            Relocation.SLOTS: keep(
                libbpf.map_create(
                    libbpf.MAP_ARRAY, "bench_buckets", 4, _BUCKET_BYTES, buckets, libbpf.F_MMAPABLE
                )
            ),
            Relocation.COUNTERS: self._control,
        }
        self.programs = {
            name: keep(
                libbpf.prog_load(
                    libbpf.PROG_SCHED_CLS, "bench_layout", link(cache.template(program), maps, {})
                )
            )
            for name, program in zip(_PARTS, programs)
        }

    def set(self, flows: int, following: int) -> None:
        """Set the flows to be drawn, and the first one to be inserted."""
        control = _Control(flows, following, self._mask)
        libbpf.map_update(self._control, bytes(4), bytes(control))


def measure() -> Iterator[Row]:
    """Measure each layout with few flows, with some, and with more than caches hold."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="udpgrm-bench-")))
        programs = _compile(directory)
        for flows, entries in _SIZES:
            with ExitStack() as of_size:
                times = _times(_Tables(of_size, programs, entries), flows)
            section = f"Layouts of a flow table, {flows:,} of {entries:,} flows, ns per operation"
            for name in _PARTS[1:]:
                yield Row(section, name, "ns", summary(marginal(times[name], times["nothing"])))


def _compile(directory: Path) -> list[Program]:
    made = []
    for part in range(len(_PARTS)):
        source = directory / f"layout_{part}.c"
        source.write_text(f"#define PART {part}\n{_SOURCE.read_text()}")
        made.append(Program(f"bench_layout_{part}", str(source), "layout"))
    cache.compile_missing(made)
    return made


def _times(tables: _Tables, flows: int) -> dict[str, list[float]]:
    """Nanoseconds per run, by part; all parts in turn. What is inserted is never drawn."""
    for name in _INSERTS:
        tables.set(flows, 0)
        _run(tables.programs[name], flows)
    times: dict[str, list[float]] = {name: [] for name in _PARTS}
    for number in range(_ROUNDS):
        for name, program in tables.programs.items():
            tables.set(flows, flows + number * _RUNS)
            with quiet():
                times[name].append(_run(program, _RUNS))
    return times


def _run(program: int, runs: int) -> float:
    """Run a program so often; the kernel's mean, in nanoseconds."""
    took, result = run_repeatedly(program, bytes(64), runs)
    if result != 1:
        raise RuntimeError("a flow was found, or not, against what was expected")
    return took

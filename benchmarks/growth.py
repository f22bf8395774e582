# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The growth of a packet's cost with groups, generations and flows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Case, program_times
from benchmarks.place import Place, daemon
from benchmarks.rawburst import Burst
from benchmarks.report import Row
from benchmarks.steering import EMPTY, rows_of
from benchmarks.traffic import SOURCES, Group, Groups, Sources
from udpgrm import abi

_GROUPS = (1, 64, 512)
_DRAINING = (0, 1, 3, 7, 15)
_FLOWS = (1000, 100_000, 1_000_000)
_ROUNDS = 15
#: Packets of a burst over the flows, which are chosen by chance.
_BURST = 20_000
_PORTS = 50_000


def generations(where: Place) -> Iterator[Row]:
    """Measure new flows, and flows of the oldest generation, while several drain."""
    with daemon(where) as host, Groups(host.directory) as groups, Sources() as sources:
        cases = [_case(EMPTY, [groups.without_steering()], sources)]
        for count in _DRAINING:
            for name in ("new", "of the oldest"):
                group = groups.make(generations=count + 1, sockets=1)
                if name != "new":
                    group.assure(sources.names, 0)
                cases.append(_case(f"{name}, {count} drain", [group], sources))
        times = program_times(cases, _ROUNDS)
    yield from rows_of("Growth with generations, FLOW, ns per packet", times, {})


def groups(where: Place) -> Iterator[Row]:
    """Measure packets to several groups in turn: each finds little of its own in caches."""
    noop = abi.Dissector(type=abi.DissectorType.NOOP)
    with daemon(where) as host, Groups(host.directory) as all_groups, Sources() as sources:
        cases = [_case(EMPTY, [all_groups.without_steering()], sources)]
        made = [all_groups.make(noop, sockets=1) for _ in range(_GROUPS[-1])]
        for count in _GROUPS:
            cases.append(_case(f"{count} in turn", made[:count], sources))
        times = program_times(cases, _ROUNDS)
    yield from rows_of("Growth with groups, NOOP, ns per packet", times, {})


def _case(name: str, used: list[Group], sources: Sources) -> Case:
    ready = partial(sources.aim, used)
    return Case(name, [group.program for group in used], SOURCES, sources.send, ready)


def flows(where: Place) -> Iterator[Row]:
    """Measure established flows, all equally likely: tables no longer fit the caches."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="udpgrm-bench-")))
        config = directory / "udpgrm.conf"
        limit = _FLOWS[-1] * 5 // 4
        config.write_text(
            f"[limits]\nflows_per_generation = {limit}\nprepared_tables = 1\n", "utf-8"
        )
        host = stack.enter_context(daemon(where, f"--config={config}"))
        made = stack.enter_context(Groups(host.directory))
        chance = random.Random(1)
        everyone = [
            (f"127.1.0.{number // _PORTS + 1}", number % _PORTS + 10_000)
            for number in range(_FLOWS[-1])
        ]
        nothing = made.without_steering()
        cases: list[Case] = []
        for count in _FLOWS:
            group = made.make()
            group.assure(everyone[:count])
            chosen = [everyone[chance.randrange(count)] for _ in range(_BURST)]
            for name, target in ((EMPTY, nothing), (f"{count:,} flows", group)):
                if name == EMPTY and cases:
                    continue
                burst = stack.enter_context(Burst(chosen, target.port))
                cases.append(Case(name, [target.program], _BURST, burst.send))
        times = program_times(cases, _ROUNDS, 3)
        section = f"Growth with flows, FLOW established, {limit:,} entries, ns per packet"
        yield from rows_of(section, times, {})

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Print the cost to load each program: its instructions, and how many the verifier processed."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from udpgrm.build import cache, sources
from udpgrm.build.sources import Program
from udpgrm.dissectors import kinds
from udpgrm.kernel import clock, libbpf
from udpgrm.loader.pool import Pool
from udpgrm.loader.programs import Linker
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits

#: Named dissectors that read more than a few bytes.
_KEYED = (kinds.find("radius"), kinds.find("sip"))
_LIMITS = Limits(groups=8, flows=64, prepared_groups=1, prepared_tables=1)


class Cost(NamedTuple):
    """The cost of a program: its instructions, those that the verifier followed, and seconds."""

    name: str
    instructions: int
    verified: int
    seconds: float


def measured() -> Iterator[Cost]:
    """Yield the cost of each hook, of the shared stages and of the steering of the kinds."""
    keyed = [sources.steering_of(kind) for kind in _KEYED]
    cache.compile_missing([*sources.all_programs(), *keyed])
    with contextlib.closing(clock.Jiffies()) as jiffies:
        maps = state.make(_LIMITS, jiffies.rate())
    with contextlib.closing(maps):
        yield from _measured(maps)


def _measured(maps: state.Maps) -> Iterator[Cost]:
    linker = Linker(maps, _LIMITS)
    for hook in (*sources.HOOKS, sources.EGRESS):
        yield _cost(hook.name, hook.program, partial(linker.hook, hook))
    for program in sources.STAGES:
        yield _cost(program.name, program, partial(linker.stage, program))
    Pool(maps, _LIMITS).refill()
    for kind in (*kinds.BUILT_IN, *_KEYED):
        libbpf.map_update(maps["dissectors"], state.index(0), bytes(kind.example()))
        program = sources.steering_of(kind)
        yield _cost(program.name, program, partial(linker.steering, 0))
        for stage in sources.stages(program):
            yield _cost(stage.name, stage, partial(linker.stage, stage))


def _cost(name: str, program: Program, load: Callable[[], int]) -> Cost:
    began = time.monotonic()
    fd = load()
    took = time.monotonic() - began
    try:
        code = len(cache.template(program)) // 8
        return Cost(name, code, libbpf.verified_instructions(fd), took)
    finally:
        os.close(fd)


if __name__ == "__main__":
    for cost in measured():
        print(f"{cost.name:16}{cost.instructions:8}{cost.verified:10}{cost.seconds * 1000:9.1f} ms")

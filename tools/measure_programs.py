#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Print the cost to load each program: its instructions, and how many the verifier processed."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from udpgrm.build import cache, sources
from udpgrm.daemon import directory
from udpgrm.kernel import libbpf
from udpgrm.loader.programs import Linker
from udpgrm.state.layout import Limits


def measured() -> Iterator[tuple[str, int, int, float]]:
    """Load the hooks; (name, instructions, instructions followed, seconds) of each."""
    with tempfile.TemporaryDirectory(dir="/sys/fs/bpf") as scratch:
        place = Path(scratch, "state")
        place.mkdir(mode=0o700)
        maps = directory.open_maps(place, Limits())
        try:
            linker = Linker(maps, Limits())
            for hook in sources.HOOKS:
                began = time.monotonic()
                fd = linker.hook(hook)
                took = time.monotonic() - began
                code = len(cache.template(hook.program)) // 8
                yield hook.name, code, libbpf.verified_instructions(fd), took
        finally:
            directory._remove_pins(place)


if __name__ == "__main__":
    cache.compile_missing(sources.all_programs())
    for name, code, followed, took in measured():
        print(f"{name:16}{code:8}{followed:10}{took * 1000:9.1f} ms")

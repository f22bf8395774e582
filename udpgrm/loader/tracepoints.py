# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs at tracepoints, with a pinned link each: they note services' control groups."""

from __future__ import annotations

import os
from pathlib import Path

from udpgrm.build import sources
from udpgrm.kernel import bpffs, btf
from udpgrm.loader.programs import Linker

_DIRECTORY = "tracepoints"


def load(directory: Path, linker: Linker) -> None:
    """Load and pin every program, replacing an earlier daemon's."""
    pins = directory / _DIRECTORY
    pins.mkdir(exist_ok=True)
    with btf.KernelTypes() as types:
        targets = {name: types.tracepoint(name) for name in sources.TRACEPOINTS}
    for name, program in sources.TRACEPOINTS.items():
        link = linker.tracepoint(name, program, targets[name])
        try:
            bpffs.replace_pin(link, pins / name)
        finally:
            os.close(link)


def unpin(directory: Path) -> None:
    """Remove the pins, and with them the programs."""
    bpffs.remove_pins(directory / _DIRECTORY)

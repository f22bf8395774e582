# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs at tracepoints, a pinned link each: they note services' control groups."""

from __future__ import annotations

import os
from pathlib import Path

from udpgrm.build import sources
from udpgrm.kernel import bpffs
from udpgrm.loader.programs import Linker

_PLACE = "tracepoints"


def load(directory: Path, linker: Linker) -> None:
    """Load and pin every program, in the place of an earlier daemon's."""
    place = directory / _PLACE
    place.mkdir(exist_ok=True)
    for name, program in sources.TRACEPOINTS.items():
        link = linker.tracepoint(name, program)
        try:
            bpffs.replace_pin(link, place / name)
        finally:
            os.close(link)


def unpin(directory: Path) -> None:
    """Remove the pins, and with them the programs."""
    bpffs.remove_pins(directory / _PLACE)

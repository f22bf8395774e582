# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs at tracepoints, a pinned link each: they note services' control groups."""

from __future__ import annotations

import os
from pathlib import Path

from udpgrm.build import sources
from udpgrm.daemon.programs import Linker
from udpgrm.kernel import libbpf

_PLACE = "tracepoints"


def load(directory: Path, linker: Linker) -> None:
    """Load and pin every program, in the place of an earlier daemon's."""
    place = directory / _PLACE
    place.mkdir(exist_ok=True)
    for name, program in sources.TRACEPOINTS.items():
        new = place / f"{name}-new"
        new.unlink(missing_ok=True)  # of a daemon that was killed
        link = linker.tracepoint(name, program)
        try:
            libbpf.pin(link, str(new))
        finally:
            os.close(link)
        new.rename(place / name)


def unpin(directory: Path) -> None:
    """Remove the pins, and with them the programs."""
    place = directory / _PLACE
    if place.is_dir():
        for path in place.iterdir():
            path.unlink()
        place.rmdir()

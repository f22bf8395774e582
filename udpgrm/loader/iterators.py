# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Iterators over sockets: a pinned link each, which commands run as well."""

from __future__ import annotations

from pathlib import Path

from udpgrm.build import sources
from udpgrm.kernel import bpffs
from udpgrm.loader.programs import Linker
from udpgrm.state import maps as state
from udpgrm.state.maps import Maps


def load(directory: Path, linker: Linker, maps: Maps) -> None:
    """Load and pin every iterator, in the place of an earlier daemon's."""
    place = directory / state.ITERATORS
    place.mkdir(exist_ok=True)
    maps.close_iterators()
    for name, program in sources.ITERATORS.items():
        link = linker.iterator(name, program)
        maps.iterators[name] = link
        bpffs.replace_pin(link, place / name)


def unpin(directory: Path) -> None:
    """Remove the pins of all iterators."""
    bpffs.remove_pins(directory / state.ITERATORS)

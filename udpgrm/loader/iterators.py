# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Iterators over sockets, with a pinned link each, which commands run as well."""

from __future__ import annotations

from pathlib import Path

from udpgrm.build import sources
from udpgrm.kernel import bpffs, btf
from udpgrm.loader.programs import Linker
from udpgrm.state import maps as state
from udpgrm.state.maps import Maps


def load(directory: Path, linker: Linker, maps: Maps) -> None:
    """Load and pin every iterator, replacing an earlier daemon's."""
    pins = directory / state.ITERATORS
    pins.mkdir(exist_ok=True)
    maps.close_iterators()
    with btf.KernelTypes() as types:
        targets = {target: types.function(target) for target, _ in sources.ITERATORS.values()}
    for name, (target, program) in sources.ITERATORS.items():
        link = linker.iterator(name, program, targets[target])
        maps.iterators[name] = link
        bpffs.replace_pin(link, pins / name)


def unpin(directory: Path) -> None:
    """Remove the pins of all iterators."""
    bpffs.remove_pins(directory / state.ITERATORS)

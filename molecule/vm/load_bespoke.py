# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Load the programs of the BESPOKE dissector, which are larger than all others."""

from __future__ import annotations

import os

from udpgrm import abi
from udpgrm.build import cache, sources
from udpgrm.daemon.pool import Pool
from udpgrm.daemon.programs import Linker, steering_of
from udpgrm.kernel import clock, libbpf
from udpgrm.state import maps as state
from udpgrm.state.maps import Limits, index


def main() -> None:
    """Attached to nothing, with maps of their own; an error says what is refused."""
    limits = Limits(1, 64, 1, 1)
    jiffies = clock.Jiffies()
    maps = state.make(limits, jiffies.rate())
    Pool(maps, limits).refill()
    dissector = abi.Dissector(type=abi.DissectorType.BESPOKE, digest=0xDEAD, max_apps=2)
    cache.compile_missing(sources.parts(steering_of(dissector)))
    libbpf.map_update(maps["dissectors"], index(0), bytes(dissector))
    os.close(Linker(maps, limits).steering(0))
    print("loaded")


main()

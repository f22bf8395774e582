# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The order of sockets in the kernel's reuseport groups, by which its hash selects among them."""

from __future__ import annotations

from udpgrm import abi
from udpgrm.kernel import iterator
from udpgrm.state import connected
from udpgrm.state.maps import Maps


def indices(maps: Maps, namespace: int) -> dict[int, int]:
    """Return the index of each socket of UDP that shares its address, by SO_COOKIE.

    Sockets without a cookie are skipped. Empty if the network namespace, by its cookie, cannot be
    read, or the daemon has no such iterator.
    """
    found = connected.with_iterators(maps, namespace, ["ordered"], _read_here)
    return found[0] if found else {}


def _read_here(maps: Maps, name: str) -> dict[int, int]:
    items = iterator.records(maps.iterators[name], abi.Ordered)
    return {item.cookie: item.index for item in items}

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""unlist of bpf/unlist.h: what sockets that close leave of the list of new flows."""

from __future__ import annotations

import ctypes
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm import abi

SOCKETS, KEPT, ROUNDS = 64, 8, 500


class Listed:
    """The list of a generation, whose draws are the same each time."""

    def __init__(self, functions: ctypes.CDLL, entries: list[int], seed: int) -> None:
        self._functions = functions
        self.slot = abi.Slot(live=len(entries))
        for position, entry in enumerate(entries):
            self.slot.live_entries[position] = entry
        functions.test_draw_from(seed)

    def close(self, entry: int) -> None:
        self._functions.test_unlist(ctypes.byref(self.slot), entry)

    @property
    def entries(self) -> list[int]:
        return list(self.slot.live_entries[: self.slot.live])


@given(
    order=st.permutations(range(12)),
    count=st.integers(1, 12),
    closed=st.integers(0, 12),
    seed=st.integers(0, 2**64 - 1),
)
def test_no_living_socket_is_overwritten(
    functions: ctypes.CDLL, order: list[int], count: int, closed: int, seed: int
) -> None:
    listed = Listed(functions, sorted(order[:count]), seed)
    left = set(order[:count])
    for entry in order[:closed]:
        listed.close(entry)
        if left != {entry}:  # none takes the place of the last one
            left -= {entry}
        assert set(listed.entries) == left
        assert listed.slot.live == count


@pytest.mark.parametrize("first", [0, 3, SOCKETS - KEPT], ids=["first", "scattered", "last"])
def test_no_position_gets_more_than_others(functions: ctypes.CDLL, first: int) -> None:
    """Give each socket that is left as many entries of closed ones on average."""
    step = SOCKETS // KEPT if first == 3 else 1
    kept = range(first, first + KEPT * step, step)
    sums: Counter[int] = Counter()
    for seed in range(ROUNDS):
        listed = Listed(functions, list(range(SOCKETS)), seed)
        for entry in range(SOCKETS):
            if entry not in kept:
                listed.close(entry)
        sums.update(listed.entries)
    average = SOCKETS / KEPT
    for entry in kept:
        assert 0.8 < sums[entry] / ROUNDS / average < 1.2, sums

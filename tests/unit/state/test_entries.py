# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A slot's two lists of entries: by index, and for new flows."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from udpgrm import abi
from udpgrm.state.entries import drop_entries, empty_slot, set_entry

# few, so that all are used, the same ones again and again
INDICES = [0, 1, 2, 3, 100, abi.SLOT_SOCKETS - 1]
ENTRIES = [0, 1, 2, 255, 256, 4000, abi.GROUP_ENTRIES - 1]


class SlotOfAGeneration(RuleBasedStateMachine):
    """A slot's record beside a plain dictionary from index to array entry."""

    def __init__(self) -> None:
        super().__init__()
        self.slot = empty_slot()
        self.slot.generation, self.slot.app = 77, 1
        self.slot.base_in, self.slot.base_out = 5, 6
        self.model: dict[int, int] = {}

    def free_entries(self) -> list[int]:
        return [array_entry for array_entry in ENTRIES if array_entry not in self.model.values()]

    @precondition(lambda self: self.free_entries())
    @rule(data=st.data())
    def a_socket_comes(self, data: st.DataObject) -> None:
        """Enter a socket at a free index, or at that of a dead socket."""
        index = data.draw(st.sampled_from(INDICES))
        array_entry = data.draw(st.sampled_from(self.free_entries()))
        set_entry(self.slot, index, array_entry)
        self.model[index] = array_entry

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_socket_comes_again(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.model)))
        set_entry(self.slot, index, self.model[index])

    @rule(entries=st.sets(st.sampled_from(ENTRIES)))
    def sockets_go(self, entries: set[int]) -> None:
        """Drop entries, those of other generations among them."""
        drop_entries(self.slot, entries)
        self.model = {
            index: array_entry
            for index, array_entry in self.model.items()
            if array_entry not in entries
        }

    @invariant()
    def indices_stay(self) -> None:
        by_index = {
            index: array_entry
            for index, array_entry in enumerate(self.slot.array_entry)
            if array_entry != abi.ENTRY_NONE
        }
        assert by_index == self.model

    @invariant()
    def new_flows_find_each_socket_once(self) -> None:
        assert self.slot.live <= abi.SLOT_SOCKETS
        listed = self.slot.live_entries[: self.slot.live]
        assert sorted(listed) == sorted(self.model.values())

    @invariant()
    def the_rest_of_the_record_stays(self) -> None:
        slot = self.slot
        assert (slot.generation, slot.app, slot.base_in, slot.base_out) == (77, 1, 5, 6)


SlotOfAGeneration.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestSlotOfAGeneration = SlotOfAGeneration.TestCase


def test_an_empty_slot() -> None:
    slot = empty_slot()
    assert slot.live == 0
    assert set(slot.array_entry) == {abi.ENTRY_NONE}


def test_a_full_slot() -> None:
    slot = empty_slot()
    for index in range(abi.SLOT_SOCKETS):
        set_entry(slot, index, 1000 + index)
    assert slot.live == abi.SLOT_SOCKETS
    assert sorted(slot.live_entries) == list(slot.array_entry) == list(range(1000, 1256))
    drop_entries(slot, set(range(1000, 1256)))
    assert slot.live == 0
    assert set(slot.array_entry) == {abi.ENTRY_NONE}

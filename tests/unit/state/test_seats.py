# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A slot's two lists of seats: by index, and for new flows."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from udpgrm import abi
from udpgrm.state.seats import drop_seats, empty_slot, set_seat

# few, so that all are used, the same ones again and again
INDICES = [0, 1, 2, 3, 100, abi.SLOT_SOCKETS - 1]
SEATS = [0, 1, 2, 255, 256, 4000, abi.GROUP_SEATS - 1]


class SlotOfAGeneration(RuleBasedStateMachine):
    """A slot's record beside a plain dictionary from index to seat."""

    def __init__(self) -> None:
        super().__init__()
        self.slot = empty_slot()
        self.slot.generation, self.slot.app = 77, 1
        self.slot.base_in, self.slot.base_out = 5, 6
        self.model: dict[int, int] = {}

    def free_seats(self) -> list[int]:
        return [seat for seat in SEATS if seat not in self.model.values()]

    @precondition(lambda self: self.free_seats())
    @rule(data=st.data())
    def a_socket_comes(self, data: st.DataObject) -> None:
        """At a free index, or at that of a dead socket."""
        index = data.draw(st.sampled_from(INDICES))
        seat = data.draw(st.sampled_from(self.free_seats()))
        set_seat(self.slot, index, seat)
        self.model[index] = seat

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_socket_comes_again(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.model)))
        set_seat(self.slot, index, self.model[index])

    @rule(seats=st.sets(st.sampled_from(SEATS)))
    def sockets_go(self, seats: set[int]) -> None:
        """Seats of other generations among them."""
        drop_seats(self.slot, seats)
        self.model = {index: seat for index, seat in self.model.items() if seat not in seats}

    @invariant()
    def indices_stay(self) -> None:
        by_index = {
            index: seat for index, seat in enumerate(self.slot.seat) if seat != abi.SEAT_NONE
        }
        assert by_index == self.model

    @invariant()
    def new_flows_find_each_socket_once(self) -> None:
        assert self.slot.live <= abi.SLOT_SOCKETS
        listed = self.slot.live_seat[: self.slot.live]
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
    assert set(slot.seat) == {abi.SEAT_NONE}


def test_a_full_slot() -> None:
    slot = empty_slot()
    for index in range(abi.SLOT_SOCKETS):
        set_seat(slot, index, 1000 + index)
    assert slot.live == abi.SLOT_SOCKETS
    assert sorted(slot.live_seat) == list(slot.seat) == list(range(1000, 1256))
    drop_seats(slot, set(range(1000, 1256)))
    assert slot.live == 0
    assert set(slot.seat) == {abi.SEAT_NONE}

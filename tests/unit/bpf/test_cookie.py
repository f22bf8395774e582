# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The udpgrm cookie and the slot of a generation: values, and Python against C."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm import abi

slots = st.integers(0, abi.GENERATION_SLOTS - 1)
indices = st.integers(0, abi.SLOT_SOCKETS - 1)
u32 = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    "slot, index, cookie",
    [(0, 0, 0x0080), (1, 0, 0x00A1), (31, 0, 0x007F), (31, 255, 0xFF7F), (1, 255, 0xFFA1)],
)
def test_known_values(slot: int, index: int, cookie: int) -> None:
    assert abi.make_cookie(slot, index) == cookie


def test_no_two_sockets_of_a_group_share_a_cookie() -> None:
    made = {abi.make_cookie(slot, index) for slot in range(32) for index in range(256)}
    assert len(made) == 32 * 256


@given(slots, indices)
def test_a_cookie_names_slot_and_index(slot: int, index: int) -> None:
    cookie = abi.make_cookie(slot, index)
    assert (cookie & 0x1F, cookie >> 8) == (slot, index)


@given(slots, indices, st.integers(0, 15).filter(lambda bit: not 5 <= bit <= 7))
def test_a_flipped_bit_of_slot_or_index_is_noticed(slot: int, index: int, bit: int) -> None:
    wrong = abi.make_cookie(slot, index) ^ 1 << bit
    assert abi.make_cookie(wrong & 0x1F, wrong >> 8) != wrong


@given(u32)
def test_an_unregistered_socket_has_the_cookie_of_index_255(generation: int) -> None:
    # the values of getsockopt: index 0xffffffff, slot of a group of one application
    slot = abi.slot_of(1, 0, generation)
    assert abi.make_cookie(slot, abi.GENERATION_NONE) == abi.make_cookie(slot, 255)


def test_c_makes_the_same_cookies(functions: ctypes.CDLL) -> None:
    different = [
        (slot, index)
        for slot in range(32)
        for index in range(256)
        if functions.test_make_cookie(slot, index) != abi.make_cookie(slot, index)
    ]
    assert not different


@pytest.mark.parametrize("slot, index", [(31, 0xFFFFFFFF), (0xFFFFFFFF, 0), (0x123, 0x456)])
def test_c_cuts_to_the_same_bits(functions: ctypes.CDLL, slot: int, index: int) -> None:
    assert functions.test_make_cookie(slot, index) == abi.make_cookie(slot, index)


@pytest.mark.parametrize(
    "max_apps, app, generation, slot",
    [
        (0, 0, 5, 5),
        (1, 0, 33, 1),
        (1, 0, 0xFFFFFFFF, 31),
        (2, 1, 0, 16),
        (2, 1, 17, 17),
        (3, 2, 10, 20),
        (4, 3, 7, 31),
        (4, 3, 8, 24),
    ],
)
def test_slots_of_generations(max_apps: int, app: int, generation: int, slot: int) -> None:
    assert abi.slot_of(max_apps, app, generation) == slot


@given(max_apps=st.integers(0, 4), app=st.integers(0, 3), generation=u32)
def test_c_gives_the_same_slots(
    functions: ctypes.CDLL, max_apps: int, app: int, generation: int
) -> None:
    group = abi.Group(max_apps=max_apps)
    found = functions.test_slot_of(ctypes.byref(group), app, generation)
    assert found == abi.slot_of(max_apps, app, generation)


@given(max_apps=st.integers(1, 4), generations=st.lists(u32, min_size=2, max_size=8))
def test_applications_share_no_slot(max_apps: int, generations: list[int]) -> None:
    used = [
        {abi.slot_of(max_apps, app, generation) for generation in generations}
        for app in range(max_apps)
    ]
    assert len(set().union(*used)) == sum(len(mine) for mine in used)

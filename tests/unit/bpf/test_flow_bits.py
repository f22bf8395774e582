# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""highest_bit of bpf/flows.h."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st


@pytest.mark.parametrize("bit", range(32))
def test_single_bits(functions: ctypes.CDLL, bit: int) -> None:
    assert functions.test_highest_bit(1 << bit) == bit


@pytest.mark.parametrize("bit", range(32))
def test_all_bits_below_do_not_matter(functions: ctypes.CDLL, bit: int) -> None:
    assert functions.test_highest_bit((2 << bit) - 1) == bit


@given(word=st.integers(1, 2**32 - 1))
@example(word=0x80000000)
@example(word=0xFFFFFFFE)
def test_any_word(functions: ctypes.CDLL, word: int) -> None:
    assert functions.test_highest_bit(word) == word.bit_length() - 1

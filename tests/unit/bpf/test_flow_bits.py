# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Words of a bit per slot, of bpf/groups.h."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st


@pytest.mark.parametrize("bit", range(32))
def test_single_bits(functions: ctypes.CDLL, bit: int) -> None:
    assert functions.test_lowest_bit(1 << bit) == bit
    assert functions.test_reversed(1 << bit) == 1 << 31 - bit


@pytest.mark.parametrize("bit", range(32))
def test_all_bits_above_do_not_matter(functions: ctypes.CDLL, bit: int) -> None:
    assert functions.test_lowest_bit(2**32 - (1 << bit)) == bit


@given(word=st.integers(1, 2**32 - 1))
@example(word=0x80000000)
@example(word=0x7FFFFFFF)
def test_any_word(functions: ctypes.CDLL, word: int) -> None:
    assert functions.test_lowest_bit(word) == (word & -word).bit_length() - 1
    assert functions.test_reversed(word) == int(f"{word:032b}"[::-1], 2)

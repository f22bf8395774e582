# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""How much of an option's value bpf/options.h reads and writes."""

from __future__ import annotations

import ctypes
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

FULL = 632
VALUE = bytes(range(1, 80)) * 8
assert len(VALUE) == FULL


def word(functions: ctypes.CDLL, optlen: int, number: int, is_set: bool) -> Optional[bytes]:
    # the kernel shows a hook at least 16 bytes of a value being set
    size = max(optlen, 16) if is_set else max(optlen, 0)
    found = ctypes.c_uint32()
    value = ctypes.create_string_buffer(VALUE + bytes(8), FULL + 8)
    there = functions.test_word(
        ctypes.byref(value), size, optlen, number, is_set, ctypes.byref(found)
    )
    return bytes(found) if there else None


@given(optlen=st.integers(-1, FULL + 1), is_set=st.booleans())
@example(optlen=27, is_set=True)
@example(optlen=28, is_set=True)
@example(optlen=28, is_set=False)
@example(optlen=115, is_set=False)
@example(optlen=FULL - 1, is_set=True)
def test_the_longest_length_that_fits(functions: ctypes.CDLL, optlen: int, is_set: bool) -> None:
    lengths = [0, 4, 8, 12, 16, *([28] if is_set else []), 116, 376, FULL]
    length = max(item for item in lengths if item <= max(optlen, 0))
    for number in range(FULL // 4):
        end = 4 * number + 4
        # the kernel zeroes the first word of a set beyond optlen, so that what is cut begins it
        is_there = end <= length or (is_set and number == 0)
        expected = VALUE[end - 4 : end] if is_there else None
        assert word(functions, optlen, number, is_set) == expected, number


@pytest.mark.parametrize("size", [0, 3, 4, 15, 16])
def test_nothing_is_read_beyond_what_the_kernel_shows(functions: ctypes.CDLL, size: int) -> None:
    value = ctypes.create_string_buffer(VALUE, FULL)
    found = ctypes.c_uint32()
    for number in range(FULL // 4):
        there = functions.test_word(
            ctypes.byref(value), size, FULL, number, True, ctypes.byref(found)
        )
        assert there == (4 * number + 4 <= size)


@pytest.mark.parametrize("optlen", range(4))
def test_the_first_word_of_a_short_set(functions: ctypes.CDLL, optlen: int) -> None:
    assert word(functions, optlen, 0, is_set=True) == VALUE[:4]
    assert word(functions, optlen, 1, is_set=True) is None
    assert word(functions, optlen, 0, is_set=False) is None

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test how much of an option's value bpf/options.h reads and writes."""

from __future__ import annotations

import ctypes
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

FULL = 632
VALUE = bytes(range(1, 80)) * 8
assert len(VALUE) == FULL


def word(functions: ctypes.CDLL, size: int, optlen: int, number: int) -> Optional[bytes]:
    found = ctypes.c_uint32()
    value = ctypes.create_string_buffer(VALUE, FULL)
    there = functions.test_word(ctypes.byref(value), size, optlen, number, ctypes.byref(found))
    return bytes(found) if there else None


@given(optlen=st.integers(-1, FULL + 1))
@example(optlen=28)
@example(optlen=115)
@example(optlen=FULL - 1)
def test_the_longest_answer_that_fits(functions: ctypes.CDLL, optlen: int) -> None:
    lengths = [0, 4, 8, 12, 16, 116, 376, FULL]
    length = max(item for item in lengths if item <= max(optlen, 0))
    for number in range(FULL // 4):
        end = 4 * number + 4
        expected = VALUE[end - 4 : end] if end <= length else None
        assert word(functions, max(optlen, 0), optlen, number) == expected, number


@pytest.mark.parametrize("size", [0, 3, 4, 15, 16])
def test_nothing_is_written_beyond_what_the_kernel_shows(functions: ctypes.CDLL, size: int) -> None:
    for number in range(FULL // 4):
        assert (word(functions, size, FULL, number) is not None) == (4 * number + 4 <= size)


@given(optlen=st.integers(1, 2 * FULL))
@example(optlen=27)
@example(optlen=28)
@example(optlen=FULL - 1)
def test_the_longest_set_that_fits(functions: ctypes.CDLL, optlen: int) -> None:
    """Read the longest length that fits; a hook sees less than 4 bytes as 4, the rest zero."""
    lengths = [4, 8, 12, 16, 28, 116, 376, FULL]
    expected = max(item for item in lengths if item <= max(optlen, 4))
    assert functions.test_set_length(optlen) == expected

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Find the generation 'newest' among numbers that wrap around at u32."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing import views
from udpgrm.state.newest import newest
from udpgrm.state.view import GenerationView, GroupView, SocketView

WRAP = 2**32
HALF = 2**31
u32 = st.integers(0, WRAP - 1)


def generation(
    number: int, application: int = 0, sockets: int = 1, dead: int = 0
) -> GenerationView:
    made = [SocketView(index, 0, index < sockets, index) for index in range(sockets + dead)]
    return views.generation(number, application=application, sockets=made)


def group(working: list[int], generations: list[GenerationView]) -> GroupView:
    return views.group(*generations, working=working, max_apps=len(working))


def newest_of(working: int, *numbers: int) -> Optional[int]:
    return newest(group([working], [generation(number) for number in numbers]), 0)


@pytest.mark.parametrize(
    "working, numbers, result",
    [
        (0, [0], 0),
        (0, [1, 2, 3], 3),
        (2, [1, 2, 3], 3),
        (3, [1, 2, 3], 3),
        (5, [3, 4], 4),
        (WRAP - 2, [WRAP - 2, WRAP - 1, 0, 1], 1),
        (WRAP - 1, [WRAP - 1, WRAP - 3], WRAP - 1),
        (0, [0, WRAP - 1], 0),
        (1, [WRAP - 1, WRAP - 2], WRAP - 1),
        (0, [HALF - 1, HALF], HALF - 1),
        (7, [HALF + 7, HALF + 6], HALF + 6),
        (7, [], None),
    ],
)
def test_known(working: int, numbers: list[int], result: Optional[int]) -> None:
    assert newest_of(working, *numbers) == result


@given(working=u32, steps=st.sets(st.integers(0, HALF - 1), min_size=1, max_size=32))
def test_the_furthest_ahead(working: int, steps: set[int]) -> None:
    numbers = [(working + step) % WRAP for step in steps]
    assert newest_of(working, *numbers) == (working + max(steps)) % WRAP


@given(
    working=u32,
    ahead=st.sets(st.integers(0, HALF - 1), max_size=8),
    behind=st.sets(st.integers(1, HALF), min_size=1, max_size=8),
)
def test_those_behind_count_only_when_nothing_is_ahead(
    working: int, ahead: set[int], behind: set[int]
) -> None:
    steps = [*ahead, *(-step for step in behind)]
    expected = max(ahead) if ahead else -min(behind)
    found = newest_of(working, *((working + step) % WRAP for step in steps))
    assert found == (working + expected) % WRAP


def test_the_dead_do_not_count() -> None:
    view = group([1], [generation(1), generation(2, sockets=0, dead=3), generation(3, sockets=0)])
    assert newest(view, 0) == 1
    assert newest(group([1], [generation(1, sockets=0, dead=1)]), 0) is None


def test_one_living_socket_is_enough() -> None:
    assert newest(group([1], [generation(1), generation(2, dead=3)]), 0) == 2


def test_each_application_by_itself() -> None:
    view = group([1, 8], [generation(2, 0), generation(9, 1), generation(7, 1), generation(5, 0)])
    assert (newest(view, 0), newest(view, 1)) == (5, 9)
    assert newest(group([1, 8], [generation(2, 0)]), 1) is None

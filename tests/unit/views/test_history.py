# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Rates, states and graphs of generations."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing import views
from udpgrm.state.view import GenerationView, GroupView
from udpgrm.views.history import History, graph, key_of, state_of


def generation(number: int, packets: int = 0, flows: Optional[int] = 0) -> GenerationView:
    return views.generation(
        number,
        flows=flows,
        packets_in=packets,
        packets_out=2 * packets,
        last_in_age=0.5,
        last_out_age=0.25,
    )


def group(working: int, *items: GenerationView) -> GroupView:
    shown = [item._replace(working=item.generation == working) for item in items]
    return views.group(*shown, working=[working])


def test_rates_are_per_second_and_need_two_readings() -> None:
    history = History()
    [first] = history.rows(10.0, group(1, generation(1, 100)))
    assert (first.rate_in, first.rate_out, first.graph) == (None, None, "")
    [second] = history.rows(12.0, group(1, generation(1, 150)))
    assert (second.rate_in, second.rate_out, second.graph) == (25.0, 50.0, "█")
    assert second.quiet == 0.25


def test_a_slot_that_is_used_again_starts_again() -> None:
    history = History()
    history.rows(1.0, group(1, generation(1, 100)))
    [row] = history.rows(2.0, group(33, generation(33, 0)))
    assert row.rate_in is None


def test_generations_that_are_gone_are_dropped() -> None:
    history = History()
    shown = group(1, generation(1, 5))
    history.rows(1.0, shown)
    history.drop_all_but({key_of(shown, shown.generations[0])})
    assert history.rows(2.0, shown)[0].rate_in == 0
    history.drop_all_but(set())
    assert history.rows(3.0, shown)[0].rate_in is None


@pytest.mark.parametrize(
    "working, item, state",
    [
        (2, generation(2), "working"),
        (2, generation(3), "waiting"),
        (2, generation(1, flows=4), "draining"),
        (2, generation(1, flows=None), "draining"),
        (2, generation(1, flows=0), "drained"),
        (0, generation(2**32 - 2, flows=1), "draining"),
        (2**32 - 2, generation(0), "waiting"),
    ],
)
def test_states(working: int, item: GenerationView, state: str) -> None:
    shown = group(working, item)
    assert state_of(shown, shown.generations[0]) == state


@given(st.lists(st.floats(0, 1e9), max_size=60))
def test_graphs(values: list[float]) -> None:
    drawn = graph(values)
    assert len(drawn) == len(values)
    for value, mark in zip(values, drawn):
        assert (mark == " ") == (value == 0)
    if max(values, default=0) > 0:
        assert drawn[values.index(max(values))] == "█"

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the choice of the next generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.restart.fakes import service
from udpgrm.restart import prepare
from udpgrm.restart.plan import Generations, GroupFacts, Refused, choose
from udpgrm.restart.strays import Stray


def group(
    working: Optional[int] = None,
    living: Optional[Mapping[int, int]] = None,
    share: int = 32,
    address: str = "192.0.2.1:1",
) -> GroupFacts:
    return GroupFacts(address, 0, working, share, living or {})


def never(_: int) -> bool:
    return False


def test_first_deployment() -> None:
    assert choose([group()], never, never) == Generations(None, 1)
    # bound and promoted once, all gone since
    assert choose([group(7), group()], never, never) == Generations(None, 8)


def test_the_next_one() -> None:
    assert choose([group(4, {4: 2}), group(4, {4: 2})], never, never) == Generations(4, 5)
    # an address that is new to the service
    assert choose([group(4, {4: 2}), group()], never, never) == Generations(4, 5)


def test_slots_of_living_generations_are_skipped() -> None:
    # 36 shares the slot of 4, and 6 was rolled back but lives
    assert choose([group(4, {4: 1, 5: 1, 6: 2, 7 + 32: 1})], never, never) == Generations(4, 8)
    assert choose([group(4, {4: 1}), group(4, {4: 1, 5: 1})], never, never) == Generations(4, 6)
    assert choose([group(4, {4: 1, 13: 1}, share=8)], never, never) == Generations(4, 6)


def test_instances_that_run_are_skipped() -> None:
    assert choose([group(4, {4: 1})], lambda number: number == 5, never) == Generations(4, 6)


def test_an_instance_without_sockets_that_systemd_starts_again_is_the_old_one() -> None:
    is_4 = (4).__eq__
    assert choose([group(4), group(4)], is_4, is_4) == Generations(4, 5)
    # sockets decide where there are some
    assert choose([group(4), group(3, {3: 1})], is_4, is_4) == Generations(3, 5)


def test_the_end_of_numbers() -> None:
    last = 2**32 - 2
    assert choose([group(last, {last: 1})], never, never) == Generations(last, 0)


def test_running_out_is_refused() -> None:
    full = dict.fromkeys(range(8), 1)
    with pytest.raises(Refused, match=r"8 of 8 of 192\.0\.2\.1:1 have living sockets"):
        choose([group(3, full, share=8), group(3, {3: 1}, address="[::1]:2")], never, never)


def test_groups_that_differ_are_refused() -> None:
    with pytest.raises(Refused, match="different working generations"):
        choose([group(3, {3: 1}), group(4, {3: 1, 4: 1}, address="[::1]:2")], never, never)


@given(
    st.sampled_from([8, 16, 32]),
    st.integers(0, 2**32 - 2),
    st.sets(st.integers(0, 40), max_size=40),
)
def test_no_living_generation_is_ever_met(share: int, working: int, away: set[int]) -> None:
    living = {(working + step) % 2**32: 1 for step in away | {0}}
    try:
        found = choose([group(working, living, share)], never, never)
    except Refused:
        assert len({number % share for number in living}) >= share - 1
    else:
        assert found.old == working
        assert all(found.new % share != number % share for number in living)


def test_a_socket_of_a_socket_unit_is_not_to_be_adopted() -> None:
    """Refuse a stray socket of systemd itself (init.scope) without the advice to adopt it."""
    stray = Stray("0.0.0.0:4433", 1, 1, "init.scope", "/init.scope")
    with pytest.raises(Refused, match="systemd has a socket there for a socket unit") as refused:
        prepare.refuse_strays(service(), [stray])
    assert "udpgrm adopt" not in str(refused.value)

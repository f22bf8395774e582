# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The sizes of maps that follow from the limits."""

from __future__ import annotations

import ctypes

import pytest

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state.layout import Limits


@pytest.mark.parametrize(
    ("flows", "lines"), [(64, 16384), (65536, 16384), (65540, 32768), (1_250_000, 524288)]
)
def test_lines_have_places_for_most_flows_of_a_table(
    monkeypatch: pytest.MonkeyPatch, flows: int, lines: int
) -> None:
    made: list[tuple[int, int]] = []

    def create(_: int, __: str, ___: int, value: int, entries: int, *____: int) -> int:
        made.append((value, entries))
        return 0

    monkeypatch.setattr(libbpf, "map_create", create)
    layout.MAPS["lines"].make(Limits(flows=flows), "udpgrm_groups")
    assert made == [(ctypes.sizeof(abi.Line), lines)]

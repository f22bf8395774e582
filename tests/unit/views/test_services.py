# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the texts of a status and of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from udpgrm.cli import planning
from udpgrm.views import services


@pytest.mark.parametrize(
    ("old", "restart", "plan"),
    [
        (None, "finished none -> 1", ["edge: generation none -> 1", "start edge@1.service"]),
        (
            0,
            "finished 0 -> 1",
            ["edge: generation 0 -> 1", "start edge@1.service, stop old.service"],
        ),
    ],
)
def test_a_first_deployment_replaces_no_generation(
    old: int | None, restart: str, plan: list[str]
) -> None:
    generations: dict[str, Any] = {"from_generation": old, "to_generation": 1}
    last = {**generations, "outcome": "finished", "promotion_window_s": 0.004}
    shown = services._restart_text({"state": services.State.SETTLED, "restart": last})
    assert shown == f"{restart}, switched in 4 ms"
    stops = None if old is None else "old.service"
    document = {**generations, "instance": "edge@1.service", "stops": stops, "groups": []}
    assert planning._lines("edge", document) == plan

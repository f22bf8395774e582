# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

from typing import Any, Optional

import pytest

from udpgrm.restart import ending


def document(*flows: Optional[int], running: bool = False, drains: bool = False) -> dict[str, Any]:
    return {
        "restart": {"running": running, "outcome": None},
        "draining": [{"outcome": None if drains else "failed"}],
        "groups": [
            {
                "address": "192.0.2.1:53",
                "generations": [{"sockets": 1, "flows": number} for number in flows]
                + [{"sockets": 0, "flows": 7}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (document(), None),
        (document(0, 0), None),
        (
            document(1, 2),
            "3 flows would be lost; try again when its clients have gone, or stop it first",
        ),
        (document(None, 2), "the flows of 192.0.2.1:53 are not counted; stop the service first"),
        (document(0, running=True), "a restart runs; wait for its end"),
        (document(0, drains=True), "a restart runs; wait for its end"),
    ],
)
def test_loss(service: dict[str, Any], reason: Optional[str]) -> None:
    assert ending.loss(service) == reason

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Clients that the adoption of a unit does not know: until the flow timeout has passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.restart import fakes
from udpgrm import abi
from udpgrm.restart import former, host, migration

ADOPTED = 100.0


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    former.save("edge", former.Former(0, "edge-old.service", ADOPTED))


@pytest.mark.parametrize(
    ("age", "generation", "is_noted"),
    [
        (1, 0, True),
        (abi.DEFAULT_FLOW_TIMEOUT_S - 1, 0, True),
        (abi.DEFAULT_FLOW_TIMEOUT_S, 0, False),
        # an instance serves that a restart has started
        (1, 1, False),
    ],
)
@pytest.mark.usefixtures("adopted")
def test_unknown_clients(
    monkeypatch: pytest.MonkeyPatch, age: float, generation: int, is_noted: bool
) -> None:
    monkeypatch.setattr(host.current, "monotonic", lambda: ADOPTED + age)
    note = migration.unknown_clients(fakes.service(), generation)
    assert (note is not None) == is_noted
    assert note is None or f"edge-old.service was adopted {age:.0f} s ago" in note

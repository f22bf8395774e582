# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The verdict of molecule/services: every kind of fault must be seen, a clean run must pass."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = str(Path(__file__).parents[3] / "molecule" / "services")


@pytest.fixture(scope="module")
def restarts() -> Iterator[Any]:
    """Yield the script, beside which its modules lie."""
    sys.path.insert(0, DIRECTORY)
    yield importlib.import_module("restarts")
    sys.path.remove(DIRECTORY)
    for name in ("restarts", "sessions"):
        del sys.modules[name]


def session(begun: float, established: float, ended: float, *generations: int) -> dict[str, Any]:
    return {
        "host": "fl1",
        "begun": begun,
        "established": established,
        "ended": ended,
        "answers": 3,
        "generations": list(generations),
        "problem": "",
    }


#: The switch is from 10.0 to 10.1.
CLEAN = [
    session(1.0, 1.1, 9.0, 1),
    session(8.0, 8.1, 14.0, 1),
    session(9.9, 10.05, 14.0, 1),
    session(10.05, 10.2, 14.0, 2),
    session(10.2, 10.3, 14.0, 2),
]


def complaints(restarts: Any, spanning: int, *more: dict[str, Any]) -> list[str]:
    sessions = [restarts.Session(**one) for one in [*CLEAN, *more]]
    found: list[str] = restarts.complaints(
        sessions, restarts.Switch(old=1, new=2, begun=10.0, ended=10.1), spanning
    )
    return found


def test_a_clean_run(restarts: Any) -> None:
    assert complaints(restarts, 1) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({**session(1.0, 1.1, 0.0, 1), "problem": "no answer"}, "no answer"),
        (session(8.0, 8.1, 14.0, 1, 2), "by the generations [1, 2]"),
        (session(8.0, 8.1, 14.0), "by the generations []"),
        (session(10.2, 10.3, 14.0, 1), "after the switch went to the old"),
        (session(8.0, 8.1, 9.0, 2), "before the switch by the new"),
        (session(10.2, 10.3, 14.0, 3), "after the switch went to the old"),
    ],
)
def test_a_fault(restarts: Any, fault: dict[str, Any], message: str) -> None:
    found = complaints(restarts, 1, fault)
    assert message in found[0], found


def test_too_few_across_the_switch(restarts: Any) -> None:
    assert complaints(restarts, 2) == ["only 1 sessions spanned the switch"]

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What the fleet's benchmark makes of the callback's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet import record
from benchmarks.fleet.ansible import Run
from benchmarks.fleet.systemd_hosts import trips

SWITCHING = "Restart the services"


def trip(
    host: str, module: str, begin: float = 0, commands: int = 1, baked: int = 0
) -> dict[str, Any]:
    return {
        "trip": f"udpgrm.fleet.{module}",
        "host": host,
        "task": SWITCHING,
        "begin": begin,
        "end": begin + 2 + baked,
        "commands": commands,
        "baked": baked,
    }


def journal(host: str, drained: bool) -> dict[str, Any]:
    steps = [
        {"step": "prepare", "started": 100.0, "ended": 100.5},
        {"step": "verify", "started": 100.5, "ended": 101.5},
        {"step": "drain", "started": 101.5, "ended": 161.5 if drained else None},
    ]
    return {"restart": {"started": 100.0, "steps": steps}, "host": host}


def written(directory: Path, *entries: dict[str, Any]) -> record.Record:
    path = directory / "trips"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return record.read(path)


def test_batches_are_the_hosts_switched_in_one_task(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        {"task": SWITCHING, "play": "", "begin": 1.0},
        trip("a", "udpgrm_restart"),
        {"task": "Bake", "play": "", "begin": 4.0},
        {"task": SWITCHING, "play": "", "begin": 14.0},
        trip("b", "udpgrm_restart"),
        trip("c", "udpgrm_restart"),
        {"over": 20.0},
    )
    assert found.batches == [1, 2]
    assert found.tasks == {SWITCHING: 3.0 + 6.0, "Bake": 10.0}


def test_a_journal_gives_the_switch_at_once_and_the_drain_when_it_is_over(tmp_path: Path) -> None:
    found = written(tmp_path, journal("a", False), journal("b", False), journal("b", True))
    assert found.switches == {"a": 1.5, "b": 1.5}
    assert found.drains == {"b": 60.0}


def test_every_command_of_a_module_is_a_round_trip(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        trip("a", "udpgrm_restart", commands=3),
        trip("a", "udpgrm_drain"),
        trip("a", "udpgrm_drain"),
        trip("b", "udpgrm_restart", baked=10),
    )
    assert found.of_host() == {
        "a": {"udpgrm_restart": 3, "udpgrm_drain": 2},
        "b": {"udpgrm_restart": 1},
    }
    lines = trips(Run(1.0, 1.0, found), 2)
    assert lines[-1] == "  1 of 2 hosts took at most 3"
    # bakes are counted apart
    assert found.module_seconds("udpgrm_restart") == [2, 2]


def test_the_model_has_one_drain_however_many_hosts() -> None:
    # 5 hosts with 5 forks: a turn; 6: two
    assert record.model([1, 5, 6], 5, switch=2, bakes=20, drain=60) == pytest.approx(
        (1 + 1 + 2) * 2 + 20 + 60
    )

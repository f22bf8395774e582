# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the figures that the fleet's benchmark makes of the callback's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet import all_parts, record
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
    assert found.times == {SWITCHING: [3.0, 6.0], "Bake": [10.0]}


def test_the_parts_are_those_of_a_turn(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = []
    now = 0.0

    def task(name: str, seconds: float, *trips: dict[str, Any]) -> None:
        nonlocal now
        entries.extend([{"task": name, "play": "", "begin": now}, *trips])
        now += seconds

    # one host, then six: two turns with five forks
    for hosts, turns in (("a",), 1), ("bcdefg", 2):
        task("Begin the batch", 3)
        task(all_parts.TASK, 2)
        task(record.PLAN, 4 * turns)
        task(all_parts.TASK, 2 * turns)
        restarts = [trip(host, "udpgrm_restart") for host in hosts]
        task(record.RESTART, all_parts.BAKE_S + 5 * turns, *restarts)
        task(all_parts.IDLE, 1)
        task(all_parts.TASK, 2 * turns)
        task(all_parts.TASK, 2)
    parts = all_parts.Parts.of(written(tmp_path, *entries, {"over": now}))
    assert parts == all_parts.Parts(ask=4, switch=5, task=2, idle=1)
    assert (parts.of_turn(), parts.of_batch()) == (4 + 5 + 2 * 2, 2 * 2 + 3 * 1)


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

# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The record of a run of Ansible in the callback's file, as figures. Pure but for reading it."""

from __future__ import annotations

import collections
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SWITCH = "udpgrm_restart"
INSPECT = "udpgrm_service_info"
WAIT = "udpgrm_drain"
# The task that restarts; with tasks of the operator another one asks the same module before.
RESTART = "Restart the services"
PLAN = "Plan the work"


@dataclass
class Record:
    """The record of one run.

    trips: module executions, as the callback writes them. tasks: seconds by the task's
    name, of all batches; times: of each batch, in order. switches: seconds from a restart's
    first step to its proof, by host. drains: seconds, by host. batches: hosts of each, in order.
    """

    trips: list[dict[str, Any]] = field(default_factory=list)
    tasks: collections.Counter[str] = field(default_factory=collections.Counter)
    times: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    switches: dict[str, float] = field(default_factory=dict)
    drains: dict[str, float] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)

    def of_host(self) -> dict[str, collections.Counter[str]]:
        """Return the round trips by host and module."""
        counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for trip in self.trips:
            # each command of a module beyond the first is a trip of its own
            counts[trip["host"]][trip["trip"].rpartition(".")[2]] += max(1, trip["commands"])
        return dict(counts)

    def module_seconds(self, module: str, task: str | None = None) -> list[float]:
        """Return how long a module's executions took without bakes; task: of one only."""
        return [
            trip["end"] - trip["begin"] - trip["baked"]
            for trip in self.trips
            if trip["trip"].rpartition(".")[2] == module and task in (None, trip["task"])
        ]


def read(path: Path) -> Record:
    """Read the callback's file."""
    record = Record()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    previous: tuple[str, float] | None = None
    batches: list[set[str]] = []
    for entry in entries:
        if "trip" in entry:
            record.trips.append(entry)
            if entry["trip"].endswith(SWITCH) and entry["task"] == RESTART and batches:
                batches[-1].add(entry["host"])
        elif "restart" in entry:
            _read_journal(record, entry["host"], entry["restart"])
        else:
            begin = entry["begin"] if "task" in entry else entry["over"]
            if previous is not None:
                record.tasks[previous[0]] += begin - previous[1]
                record.times[previous[0]].append(begin - previous[1])
            previous = (entry.get("task", ""), begin)
            if entry.get("task") == RESTART:
                batches.append(set())
    record.batches = [len(batch) for batch in batches]
    return record


def _read_journal(record: Record, host: str, journal: dict[str, Any]) -> None:
    steps = {step["step"]: step for step in journal["steps"]}
    if "verify" in steps:
        record.switches[host] = steps["verify"]["ended"] - journal["started"]
    if "drain" in steps and steps["drain"]["ended"]:
        record.drains[host] = steps["drain"]["ended"] - steps["drain"]["started"]


def model(batches: Sequence[int], forks: int, switch: float, bakes: float, drain: float) -> float:
    """Return a run's seconds: switches of all batches, bakes, and one drain (docs/scale.md)."""
    return sum(math.ceil(size / forks) * switch for size in batches) + bakes + drain


def middle(values: Sequence[float]) -> float:
    """Return the median, 0 of nothing."""
    return statistics.median(values) if values else 0.0

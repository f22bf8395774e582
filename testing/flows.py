# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The record of a flow that is over: the generator writes it, the analysis reads it.

Times are seconds of CLOCK_MONOTONIC, which the machine and all its hosts share.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

LONG = "long"
SHORT = "short"


@dataclasses.dataclass(frozen=True, order=True)
class Instance:
    """A process that answered."""

    generation: int
    pid: int


@dataclasses.dataclass
class Run:
    """Consecutive answers of one instance to one flow."""

    instance: Instance
    first: float
    last: float
    answers: int = 1


@dataclasses.dataclass
class Flow:
    """The packets between one source address and port and one host.

    Attributes:
        sent: packets sent; each is answered or, after a while, lost.
        repeated: answers to packets that had been answered or given up already.
        strange: answers that the host's service cannot have sent.
        longest_pause: seconds between two packets sent, at most.
        runs: the instances that answered, in order.
    """

    host: str
    kind: str
    first_sent: float
    sent: int = 0
    answered: int = 0
    lost: int = 0
    repeated: int = 0
    strange: int = 0
    longest_pause: float = 0.0
    runs: list[Run] = dataclasses.field(default_factory=list)

    def note_answer(self, instance: Instance, when: float) -> None:
        """Add an answer to the runs."""
        if self.runs and self.runs[-1].instance == instance:
            self.runs[-1].last = when
            self.runs[-1].answers += 1
        else:
            self.runs.append(Run(instance, when, when))


def write(path: Path, flows: Iterable[Flow]) -> None:
    """Write flows to a file, a JSON object per line."""
    with path.open("w", encoding="utf-8") as file:
        for flow in flows:
            print(json.dumps(dataclasses.asdict(flow)), file=file)


def read(path: Path) -> Iterator[Flow]:
    """Read what `write` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            fields = json.loads(line)
            runs = [
                Run(**{**run, "instance": Instance(**run["instance"])})
                for run in fields.pop("runs")
            ]
            yield Flow(**fields, runs=runs)

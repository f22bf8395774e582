# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The sessions of clients, one a line, and the signal for a load to end.

A session is whatever has to be answered by one instance alone: a query, a download with
its connection, a tunnel.
"""

from __future__ import annotations

import dataclasses
import json
import select
import sys
from collections.abc import Iterable, Iterator


@dataclasses.dataclass
class Session:
    """A session of a client; times are seconds since 1970.

    begun: its first packet was sent. established: the first answer had come. ended: the
    last one had. problem: what was wrong, empty when nothing was. answers: how many
    messages its instance has answered.
    """

    host: str
    begun: float
    established: float = 0.0
    ended: float = 0.0
    answers: int = 0
    generations: list[int] = dataclasses.field(default_factory=list)
    problem: str = ""

    def answered_by(self, generation: int) -> None:
        """Note which instance answered."""
        self.answers += 1
        if generation not in self.generations:
            self.generations.append(generation)


def write(sessions: Iterable[Session]) -> None:
    """Print sessions on standard output."""
    for session in sessions:
        print(json.dumps(dataclasses.asdict(session)))


def read(lines: Iterable[str]) -> Iterator[Session]:
    """Read the sessions that `write` printed."""
    for line in lines:
        yield Session(**json.loads(line))


def should_end(within: float) -> bool:
    """Return whether standard input has ended, or does so within some seconds."""
    return bool(select.select([sys.stdin], [], [], within)[0])
